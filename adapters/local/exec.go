//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local/internal/proctree"
)

const (
	// killTimeout bounds how long ended commands are waited for.
	killTimeout = 15 * time.Second
	// lastWords is how long the output of a command that was ended may take to be written by the caller.
	lastWords = 2 * time.Second
	// busyTimeout is how long a program that is open for writing is waited for.
	busyTimeout = time.Second
)

// Exec runs a command. One that cannot be started, because there is no such program or directory, is an error that is
// refused. With a TTY the end of Stdin is typed as ^D.
func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if err := checkExec(req); err != nil {
		return sandboxer.ExecResult{}, err
	}
	x, err := e.open(ctx, t)
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	defer x.close()
	id := strings.ToLower(rand.Text())
	cmd, err := e.command(x, req, id)
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	p, err := e.start(ctx, x, cmd, req, proctree.Selector{Marker: envExec + "=" + id})
	if err != nil {
		return sandboxer.ExecResult{}, fmt.Errorf("sandbox %s: %w", x.claim.Name, err)
	}
	res, err := p.wait(ctx, req.Timeout)
	if err != nil {
		return res, fmt.Errorf("command %q in sandbox %s: %w", req.Command[0], x.claim.Name, err)
	}
	return res, nil
}

// process is a command that runs.
type process struct {
	ext     *extension
	cmd     *exec.Cmd
	io      *streams
	tree    proctree.Selector
	began   time.Time
	waited  chan struct{} // closed when the command itself has ended
	waitErr error
}

// start starts the command while the sandbox is held, so that a teardown either sees it or comes first.
func (e *extension) start(ctx context.Context, x *box, cmd *exec.Cmd, req sandboxer.ExecRequest, tree proctree.Selector) (*process, error) {
	s, err := openStreams(cmd, req)
	if err != nil {
		return nil, refuse(err)
	}
	_, release, err := x.hold(ctx, x.claim.Name, syscall.LOCK_SH)
	if err != nil {
		s.abort()
		return nil, err
	}
	began := time.Now()
	err = whileBusy(ctx, func() error {
		cmd = again(cmd)
		return cmd.Start()
	})
	release()
	s.started()
	if err != nil {
		s.abort()
		return nil, startError(cmd.Path, err)
	}
	tree.Root = proctree.Of(cmd.Process.Pid) // not reaped yet, so it is that one
	p := &process{ext: e, cmd: cmd, io: s, tree: tree, began: began, waited: make(chan struct{})}
	go func() {
		defer close(p.waited)
		p.waitErr = cmd.Wait()
	}()
	s.run(req)
	return p, nil
}

// again is cmd once more, since a Cmd starts once, with the same streams.
func again(cmd *exec.Cmd) *exec.Cmd {
	return &exec.Cmd{
		Path: cmd.Path, Args: cmd.Args, Dir: cmd.Dir, Env: cmd.Env, SysProcAttr: cmd.SysProcAttr,
		Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
	}
}

// whileBusy starts a program again as long as it is open for writing. One that was just copied in can be for a moment: a
// child that began while it was written has its descriptor until it executes its own program.
func whileBusy(ctx context.Context, start func() error) error {
	deadline := time.Now().Add(busyTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := start()
		if !errors.Is(err, syscall.ETXTBSY) || !time.Now().Before(deadline) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// wait waits for the command, or for a reason to end it, and for its output to be delivered.
func (p *process) wait(ctx context.Context, timeout time.Duration) (sandboxer.ExecResult, error) {
	defer p.io.close(&p.ext.drain)
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	res := sandboxer.ExecResult{}
	var cause error // why it was ended
	select {
	case <-p.waited:
	case <-ctx.Done():
		cause = ctx.Err()
	case <-expired:
		res.TimedOut = true
	case cause = <-p.io.failed:
		cause = sandboxer.Mark(sandboxer.Aborted, cause)
	}
	ended := cause != nil || res.TimedOut
	if ended {
		if err := p.kill(ctx); err != nil {
			p.io.exited() // who survived may keep the pipes, and we do not wait
			return res, sandboxer.Mark(sandboxer.Unknown, errors.Join(cause, err))
		}
	}
	p.io.exited()
	if !ended {
		select {
		case <-p.io.delivered():
		case <-ctx.Done():
			cause = ctx.Err()
		case <-expired: // the command ended in time, and its output does not get through
			cause = context.DeadlineExceeded
		}
	}
	if cause != nil || res.TimedOut {
		p.io.waitDelivered(lastWords)
	}
	p.result(&res)
	if cause == nil {
		if err := p.io.writeError(); err != nil {
			cause = sandboxer.Mark(sandboxer.Aborted, err)
		}
	}
	return res, classify(cause)
}

// kill ends the command with all that it started, also when ctx has ended.
func (p *process) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if _, err := proctree.Kill(ctx, p.tree); err != nil {
		return err
	}
	select {
	case <-p.waited:
		return nil
	case <-ctx.Done():
		return errors.New("it was ended, and the system does not say so")
	}
}

func (p *process) result(res *sandboxer.ExecResult) {
	res.Duration = time.Since(p.began)
	res.ExitCode = -1
	ps := p.cmd.ProcessState
	if ps == nil {
		return
	}
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		res.Signal = unix.SignalName(ws.Signal())
		if res.Signal == "" { // real-time signals have no names
			res.Signal = fmt.Sprintf("SIG%d", int(ws.Signal()))
		}
		return
	}
	res.ExitCode = ps.ExitCode()
}
