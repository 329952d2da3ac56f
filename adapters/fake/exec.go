package fake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/shell"
)

// ExecFunc answers a command in the place of the fake's own shell.
type ExecFunc func(ctx context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error)

// OnExec makes f answer every command from now on; nil gives the commands back to the fake's own shell. Faults act before
// and after f as around any call. f itself honours the context and the Timeout of the request.
func (b *Backend) OnExec(f func(ctx context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error)) {
	if f == nil {
		b.onExec.Store(nil)
		return
	}
	answer := ExecFunc(f)
	b.onExec.Store(&answer)
}

// Commands returns the names of the commands that a fake sandbox knows besides the shell's own (cd, set, trap …). They do a
// part of what their namesakes do: a flag that is not supported is refused with exit code 2 and a message, never ignored.
// "sh" takes scripts with pipes, lists, redirections, here-documents, variables, substitutions, arithmetic, conditions,
// loops, functions and background children. What is neither a command nor a script in the sandbox's files exits with 127.
func Commands() []string { return shell.Names() }

// Exec runs a command in the sandbox. A terminal's output has "\r\n" for "\n"; its input is not echoed.
func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	var res sandboxer.ExecResult
	err := e.do(ctx, sandboxer.OpExec, t, func(hit) (err error) {
		res, err = e.exec(ctx, t, req)
		return err
	})
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	return res, nil
}

func (e *extension) exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if err := checkCommand(req); err != nil {
		return sandboxer.ExecResult{}, err
	}
	w, err := e.world(ctx, t)
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	if f := e.b.onExec.Load(); f != nil {
		return (*f)(ctx, t.Handle.Ref().ID, req)
	}
	dir := memfs.Clean(memfs.Join(Workspace, req.Dir))
	if e.b.broken(ExecIgnoresDir) {
		dir = Workspace
	}
	if in, err := w.fs.Stat(dir); err != nil || !in.Mode.IsDir() {
		return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("the directory %q does not exist in %s: %w", req.Dir, t.Handle.Ref().Name(), fs.ErrNotExist))
	}
	return e.newRun(w, req).do(ctx, t.Handle.Ref().Name(), dir)
}

// checkCommand refuses what no system could run.
func checkCommand(req sandboxer.ExecRequest) error {
	switch {
	case len(req.Command) == 0 || req.Command[0] == "":
		return sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the command is empty"))
	case strings.Contains(strings.Join(req.Command, ""), "\x00"):
		return sandboxer.Refused(sandboxer.InvalidArgument, errors.New("an argument contains a NUL byte"))
	case req.Service != "":
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("service %q: a fake sandbox has no services; leave Service empty", req.Service))
	}
	for k, v := range req.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("environment variable %q: its name is empty or contains '=', or there is a NUL byte", k))
		}
	}
	return nil
}

// Why the processes of a command are killed.
var (
	errTimeout  = errors.New("its time is over")
	errCanceled = errors.New("its caller gave up")
)

// run is one command with its background children.
type run struct {
	b        *Backend
	w        *world
	req      sandboxer.ExecRequest
	ctx      context.Context // of everything that it started
	kill     context.CancelCauseFunc
	refs     atomic.Int32 // the command and its children
	children sync.WaitGroup
	out, err *gate
	in       *input
	size     sandboxer.WindowSize
}

func (e *extension) newRun(w *world, req sandboxer.ExecRequest) *run {
	r := &run{b: e.b, w: w, req: req}
	r.ctx, r.kill = context.WithCancelCause(w.ctx)
	r.refs.Store(1)
	var mu sync.Mutex // the same writer for both is never written to concurrently
	r.out = &gate{mu: &mu, w: req.Stdout, run: r}
	r.err = &gate{mu: &mu, w: req.Stderr, run: r}
	if req.TTY != nil || e.b.broken(ExecMergesStreams) {
		r.err = r.out
	}
	if req.Stdin != nil && !e.b.broken(ExecIgnoresStdin) {
		r.in = newInput(r.ctx, req.Stdin)
	}
	return r
}

// release ends what belongs to the command once nothing of it runs any more.
func (r *run) release() {
	if r.refs.Add(-1) == 0 {
		r.kill(nil)
		r.w.jobs.Done()
	}
}

// start runs a background child.
func (r *run) start(f func()) {
	r.refs.Add(1)
	r.children.Go(func() {
		defer r.release()
		f()
	})
}

func (r *run) do(ctx context.Context, name, dir string) (sandboxer.ExecResult, error) {
	if !r.w.begin() {
		r.kill(nil)
		return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("the sandbox %s was torn down", name))
	}
	defer r.release()
	begun := time.Now()
	if r.req.Timeout > 0 && !r.b.broken(ExecIgnoresTimeout) {
		timer := time.AfterFunc(r.req.Timeout, func() { r.kill(errTimeout) })
		defer timer.Stop()
	}
	var res shell.Result
	if r.b.broken(ExecLeavesProcess) {
		done := make(chan shell.Result, 1)
		r.start(func() { done <- r.run(name, dir) })
		select {
		case res = <-done:
		case <-ctx.Done():
			r.out.close()
			r.err.close()
			return sandboxer.ExecResult{}, ended(ctx)
		}
	} else {
		stop := context.AfterFunc(ctx, func() { r.kill(errCanceled) })
		defer stop()
		res = r.run(name, dir)
	}
	return r.result(ctx, res, begun, name)
}

func (r *run) run(name, dir string) shell.Result {
	argv := r.req.Command
	if r.b.broken(ExecJoinsArgs) {
		argv = strings.Fields(strings.Join(argv, " "))
	}
	c := shell.Command{Argv: argv, Env: map[string]string{}, Dir: dir, Stdout: r.out, Stderr: r.err, Go: r.start, Children: r.ctx}
	if r.in != nil {
		c.Stdin = r.in
	}
	if tty := r.req.TTY; tty != nil {
		c.Env["TERM"] = "xterm-256color"
		if tty.Term != "" {
			c.Env["TERM"] = tty.Term
		}
		c.Terminal = r.terminal
	}
	if !r.b.broken(ExecIgnoresEnv) {
		for k, v := range r.req.Env {
			c.Env[k] = v
		}
	}
	return r.w.system(name).Run(r.ctx, c)
}

// terminal returns the size that was asked for last.
func (r *run) terminal() (cols, rows int) {
	t := r.req.TTY
	r.out.mu.Lock()
	defer r.out.mu.Unlock()
	for t.Resize != nil {
		select {
		case size, ok := <-t.Resize:
			if ok {
				r.size = size
				continue
			}
		default:
		}
		break
	}
	cols, rows = r.size.Cols, r.size.Rows
	for _, or := range []sandboxer.WindowSize{{Cols: t.Cols, Rows: t.Rows}, {Cols: 80, Rows: 24}} {
		if cols == 0 {
			cols = or.Cols
		}
		if rows == 0 {
			rows = or.Rows
		}
	}
	return cols, rows
}

// result says how the command ended.
func (r *run) result(ctx context.Context, res shell.Result, begun time.Time, name string) (sandboxer.ExecResult, error) {
	cause := context.Cause(r.ctx)
	switch {
	case r.b.broken(ExecKillsChildren):
		r.kill(errCanceled)
		r.children.Wait()
	case cause != nil || r.b.broken(ExecWaitsForChildren):
		r.children.Wait()
	}
	r.out.close()
	r.err.close()
	if r.in != nil {
		r.in.close(r.b.broken(ExecWaitsForStdin))
	}
	out := sandboxer.ExecResult{ExitCode: res.Code, Signal: res.Signal, Duration: time.Since(begun)}
	var write *writeError
	switch {
	case errors.As(cause, &write):
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("the command in %s was killed because its output could not be written: %w", name, write.err))
	case errors.Is(cause, errTimeout):
		out.ExitCode, out.Signal, out.TimedOut = -1, "SIGKILL", true
		return out, nil
	case errors.Is(cause, errCanceled):
		return sandboxer.ExecResult{}, ended(ctx)
	case r.w.ctx.Err() != nil:
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("the sandbox %s was torn down while the command ran", name))
	case r.b.broken(ExecExitIsError) && out.ExitCode != 0:
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("exit code %d", out.ExitCode))
	case r.b.broken(ExecLosesExitCode):
		out.ExitCode = 0
	}
	return out, nil
}

// writeError is the caller's writer failing.
type writeError struct{ err error }

func (w *writeError) Error() string { return w.err.Error() }

var _ shell.Writer = (*gate)(nil)

// gate is the way to the caller's writer, which nothing passes once Exec has returned.
type gate struct {
	mu     *sync.Mutex
	w      interface{ Write([]byte) (int, error) } // nil discards
	run    *run
	closed bool
	held   []byte // by a quirk
}

// WriteContext writes to the caller's writer. What a background child writes after the end of its command is lost.
func (g *gate) WriteContext(_ context.Context, b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, syscall.EPIPE
	}
	if g.w == nil {
		return len(b), nil
	}
	text := g.bend(b)
	if g.run.req.TTY != nil {
		text = []byte(strings.ReplaceAll(string(text), "\n", "\r\n"))
	}
	if err := g.write(text); err != nil && !g.run.b.broken(ExecIgnoresWriteErr) {
		g.run.kill(&writeError{err})
		return 0, err
	}
	return len(b), nil
}

func (g *gate) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := g.w.Write(b)
	if err == nil && n < len(b) {
		err = errors.New("short write")
	}
	return err
}

// bend does what the quirks of Exec do to output.
func (g *gate) bend(b []byte) []byte {
	x := g.run.b
	switch {
	case x.broken(ExecMangles):
		return []byte(strings.ToValidUTF8(string(b), "\uFFFD"))
	case x.broken(ExecLosesTail):
		all := append(g.held, b...)
		n := max(0, len(all)-2)
		g.held = append([]byte(nil), all[n:]...)
		return all[:n]
	case x.broken(ExecReorders):
		g.held = append(g.held, b...)
		return nil
	}
	return b
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed && g.w != nil && g.run.b.broken(ExecReorders) {
		half := len(g.held) / 2
		_ = g.write(append(append([]byte(nil), g.held[half:]...), g.held[:half]...)) // a quirk reports nothing
	}
	g.closed = true
}
