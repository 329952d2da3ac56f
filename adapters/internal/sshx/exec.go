package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Conn is the way to one host. It is cheap, needs no closing, and is safe for concurrent use.
type Conn struct {
	h    *host
	name string
}

// String names the host for messages: its ID, or its address.
func (c *Conn) String() string { return c.name }

// Exec runs a command on the host, under the rules of [sandboxer.Executor]. Dir is a directory of the host, relative to the
// login directory; it is never created. Service is not for hosts and is ignored.
//
// A refusal says that the command was not started. Another error says that its fate is not known: where the connection
// ended, the host ends the command; where ctx ended, everything it started is gone unless the message says otherwise.
//
// Commands without a terminal run on a process that stays on the host, where there is one that is idle, and else in a
// session of their own, which takes one round trip more.
func (c *Conn) Exec(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return c.exec(ctx, req, c.h.onRunner)
}

// exec runs a command by first, when that begins it, and else in a session of its own.
func (c *Conn) exec(ctx context.Context, req sandboxer.ExecRequest, first func(context.Context, *sandboxer.ExecRequest) (sandboxer.ExecResult, bool, error)) (sandboxer.ExecResult, error) {
	begin := time.Now()
	all := ctx
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.Timeout)
		defer cancel()
	}
	result, begun, err := first(ctx, &req)
	if err == nil && !begun {
		var s *session
		if s, err = c.h.start(ctx, &req); err == nil {
			begun = true
			result, err = s.run(ctx, &req)
		}
	}
	result.Duration = time.Since(begin)
	if err != nil && req.Timeout > 0 && all.Err() == nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		if begun {
			return sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL", TimedOut: true, Duration: result.Duration}, nil
		}
		return sandboxer.ExecResult{ExitCode: -1, TimedOut: true, Duration: result.Duration}, nil
	}
	if err != nil {
		return sandboxer.ExecResult{}, fmt.Errorf("host %s: %w", c.name, err)
	}
	return result, nil
}

const (
	// quiet is how long nothing must come after a command's exit before its output is taken as complete, where something
	// in the background holds the pipes. sshd sends what is in them at once.
	quiet = 300 * time.Millisecond
	// maxAfter is how much is taken after the exit in that case: what fits into the pipes and sshd's buffers.
	maxAfter = 4 << 20
)

// run carries the streams until the command ends.
func (s *session) run(ctx context.Context, req *sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	callers := &gate{under: &s.h.p.writes}
	defer callers.close()
	out := &stream{from: s.ch, to: req.Stdout, lock: new(sync.Mutex)}
	errs := &stream{from: s.ch.Stderr(), to: req.Stderr, lock: new(sync.Mutex)}
	if same(req.Stdout, req.Stderr) {
		errs.lock = out.lock
	}
	finished := make(chan struct{})
	failed := make(chan error, 3)
	var pumps sync.WaitGroup
	for _, st := range []*stream{out, errs} {
		st.token, st.begun, st.gate = []byte(s.token), make(chan byte, 1), callers
		pumps.Add(1)
		if !s.h.p.spawn(func() {
			defer pumps.Done()
			if err := st.run(); err != nil {
				failed <- err
			}
		}) {
			pumps.Done()
		}
	}
	ended := make(chan struct{}) // both streams
	s.h.p.spawn(func() { pumps.Wait(); close(ended) })
	defer close(finished)

	if req.TTY == nil {
		s.input(req, callers, failed, finished)
	}
	var result sandboxer.ExecResult
	exit, marks := s.exit, out.begun
	var seen byte // the mark
	abort := func(code sandboxer.Code, err error) (sandboxer.ExecResult, error) {
		if !s.kill() {
			err = fmt.Errorf("%w (%s has not confirmed its end yet; it ends what is left by itself)", err, s.h)
		} else {
			wait(ended, s.h.p.cfg.KillGrace)
		}
		return result, sandboxer.Mark(code, err)
	}
	for {
		select {
		case mark, ok := <-marks:
			marks, seen = nil, mark
			if ok && mark == markBegun[0] {
				s.begun.Store(true)
				if req.TTY != nil { // until then the line of the bootstrap is what the terminal takes
					s.input(req, callers, failed, finished)
				}
			}
		case e, ok := <-exit:
			if !ok { // the channel ended
				return result, s.lost()
			}
			if err := s.complete(ctx, out, errs, ended); errors.Is(err, errNoSession) {
				return result, s.lost()
			} else if err != nil {
				s.close(false)
				return result, sandboxer.Mark(codeOf(ctx), fmt.Errorf("command on %s: it ended, but not all of its output came: %w", s.h, err))
			}
			s.k.remove(ctx, s.token)
			s.close(false)
			if !s.begun.Load() {
				if seen == 0 {
					select {
					case seen = <-out.begun:
					default:
					}
				}
				if seen != markBegun[0] {
					return result, s.neverBegan(req, seen, out, errs)
				}
			}
			select {
			case err := <-failed:
				return result, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("command on %s: %w", s.h, err))
			default:
			}
			result.ExitCode, result.Signal = e.code, e.signal
			return result, nil
		case err := <-failed:
			return abort(sandboxer.Unknown, fmt.Errorf("command on %s: %w", s.h, err))
		case <-ctx.Done():
			return abort(codeOf(ctx), fmt.Errorf("command on %s: %w", s.h, context.Cause(ctx)))
		case <-s.k.done:
			s.close(true)
			return result, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the command on %s is ended: %w", s.h, s.k.err))
		}
	}
}

// complete waits until all output of a command that exited has come. Where something in the background holds the pipes
// that is when nothing came for a while, and sshd has answered since: a network may be silent for longer.
func (s *session) complete(ctx context.Context, out, errs *stream, ended <-chan struct{}) error {
	tick := time.NewTicker(quiet / 4)
	defer tick.Stop()
	taken := func() int64 { return out.count.Load() + errs.count.Load() }
	start := taken()
	last, since := start, time.Now()
	var asked, answered chan struct{} // of the question under way; answered is nil when its answer says nothing
	for {
		select {
		case <-ended:
			if s.cut() {
				return errNoSession
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-answered:
			if taken() == last {
				return nil
			}
			answered = nil
		case <-tick.C:
		}
		if n := taken(); n != last || out.gate.writing() {
			last, since, answered = n, time.Now(), nil
		}
		if last-start > maxAfter {
			return nil
		}
		select {
		case <-asked:
			asked = nil
		default:
		}
		if asked == nil && answered == nil && time.Since(since) >= quiet {
			question, answer := make(chan struct{}), make(chan struct{})
			asked, answered = question, answer
			s.h.p.spawn(func() {
				defer close(question)
				// It is refused, and that is an answer. Without one the streams end as well.
				if _, err := s.ch.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					close(answer)
				}
			})
		}
	}
}

// neverBegan explains an exit before the command's mark.
func (s *session) neverBegan(req *sandboxer.ExecRequest, mark byte, out, errs *stream) error {
	if mark == markNoDir[0] {
		return noDirectory(s.h, req.Dir)
	}
	if mark == markAlone[0] {
		return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("the process on %s that looks after commands has just ended", s.h))
	}
	said := first(errs.lastNoise(), out.lastNoise(), "nothing")
	return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("%s did not start the command; its login shell said: %s", s.h, said))
}

func noDirectory(h *host, dir string) error {
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("there is no directory %q on %s that it may enter", dir, h))
}

// lost is the error for a channel that ended without telling how the command did.
func (s *session) lost() error {
	s.k.kill(s.token, s.begun.Load()) // where the keeper is on another connection
	err := errNoSession
	select {
	case <-s.t.done:
		err = s.t.err
	case <-time.After(50 * time.Millisecond): // the connection's end is found out right after its channels'
	}
	return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the command on %s is ended by the host: %w", s.h, err))
}

// input begins to pass standard input on, and sizes of the terminal.
func (s *session) input(req *sandboxer.ExecRequest, callers *gate, failed chan<- error, finished <-chan struct{}) {
	if req.Stdin != nil {
		// Not waited for by anyone: a Read that blocks must not keep the command from ending.
		go func() {
			in := &source{Reader: callers.reader(req.Stdin)}
			_, _ = io.Copy(s.ch, in) // a channel that ended says so by its exit
			if in.err != nil {
				failed <- fmt.Errorf("standard input: %w", in.err)
				return
			}
			_ = s.ch.CloseWrite()
		}()
	}
	if req.TTY != nil && req.TTY.Resize != nil {
		s.h.p.spawn(func() { s.resize(req.TTY.Resize, finished) })
	}
}

// source remembers why reading failed.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func wait(done <-chan struct{}, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
