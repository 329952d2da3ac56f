//go:build linux || darwin

package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/ttyinput"
)

// streams are what connects a command with the caller.
type streams struct {
	theirs []*os.File // ends that the command holds; ours only until it has started
	in     *os.File   // what we write the caller's Stdin to; nil where there is none
	out    *os.File   // what we read; nil where the caller wants nothing
	err    *os.File   // nil where it is out
	tty    bool

	pumps  []*pump
	failed chan error    // has room for every stream
	stdin  *stdin        // the caller's; nil where there is none
	end    chan struct{} // closed when nothing is read from the caller any more
	closed sync.Once
	all    chan struct{}
}

// openStreams makes the pipes or the terminal of a command. Both streams of one writer share a pipe, so that it is never
// written to twice at once and sees everything in order.
func openStreams(cmd *exec.Cmd, req sandboxer.ExecRequest) (*streams, error) {
	s := &streams{failed: make(chan error, 3), end: make(chan struct{})}
	if req.TTY != nil {
		return s, s.openTTY(cmd, *req.TTY)
	}
	err := s.pipes(cmd, req)
	if err != nil {
		s.abort()
		return nil, err
	}
	return s, nil
}

func (s *streams) pipes(cmd *exec.Cmd, req sandboxer.ExecRequest) error {
	in, err := s.input(req.Stdin)
	if err != nil {
		return err
	}
	out, err := s.output(req.Stdout, &s.out)
	if err != nil {
		return err
	}
	errs := out
	if !same(req.Stdout, req.Stderr) {
		if errs, err = s.output(req.Stderr, &s.err); err != nil {
			return err
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	return nil
}

func (s *streams) input(r io.Reader) (*os.File, error) {
	if r == nil {
		return s.null(os.O_RDONLY)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.in = ours
	s.theirs = append(s.theirs, theirs)
	return theirs, nil
}

func (s *streams) output(w io.Writer, at **os.File) (*os.File, error) {
	if w == nil {
		return s.null(os.O_WRONLY)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	*at = ours
	s.theirs = append(s.theirs, theirs)
	return theirs, nil
}

func (s *streams) null(flag int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err == nil {
		s.theirs = append(s.theirs, f)
	}
	return f, err
}

// same reports whether two writers are one. Those that cannot be compared are two.
func same(a, b io.Writer) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return a != nil && a == b
}

// started lets go of the ends that the command has now.
func (s *streams) started() {
	for _, f := range s.theirs {
		_ = f.Close() // nothing was written through it
	}
	s.theirs = nil
}

// abort closes everything: the command was not started.
func (s *streams) abort() {
	s.started()
	for _, f := range []*os.File{s.in, s.out, s.err} {
		if f != nil {
			_ = f.Close() // nothing was written through it
		}
	}
	s.in, s.out, s.err = nil, nil, nil
}

// run begins to carry bytes.
func (s *streams) run(req sandboxer.ExecRequest) {
	if s.out != nil {
		w := req.Stdout
		if w == nil {
			w = io.Discard // a terminal is always read
		}
		s.pumps = append(s.pumps, startPump(s.out, w, "stdout", s.failed))
	}
	if s.err != nil {
		s.pumps = append(s.pumps, startPump(s.err, req.Stderr, "stderr", s.failed))
	}
	if req.Stdin != nil {
		s.stdin = &stdin{r: req.Stdin}
	}
	if s.in != nil && (req.Stdin != nil || s.tty) {
		go s.feed(s.stdin)
	}
	if s.tty && req.TTY.Resize != nil {
		go s.resize(req.TTY.Resize)
	}
	s.all = make(chan struct{})
	go func() {
		defer close(s.all)
		for _, p := range s.pumps {
			<-p.done
		}
	}()
}

// stdinPatience is how long a Read of the caller's Stdin may take and is not yet said to block.
const stdinPatience = 50 * time.Millisecond

// stdin reads the caller's Stdin until it is stopped.
type stdin struct {
	r io.Reader

	mu      sync.Mutex
	stopped bool
	began   time.Time     // of the last Read
	done    chan struct{} // closed when that one has returned; nil before the first
}

func (s *stdin) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return 0, os.ErrClosed
	}
	done := make(chan struct{})
	s.began, s.done = time.Now(), done
	s.mu.Unlock()
	defer close(done)
	return s.r.Read(p)
}

// stop lets no other Read begin. It waits for one that is under way, since the reader is the caller's again afterwards, but
// not for one that blocks.
func (s *stdin) stop() {
	s.mu.Lock()
	s.stopped = true
	done, wait := s.done, time.Until(s.began.Add(stdinPatience))
	s.mu.Unlock()
	if done == nil {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

func (s *stdin) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// feed carries the caller's Stdin. When the command has ended, one Read that blocks may still be under way; it is the last.
func (s *streams) feed(r *stdin) {
	buf := make([]byte, 32<<10)
	last := byte('\n')
	for r != nil {
		n, err := r.Read(buf)
		if r.isStopped() {
			return
		}
		if n > 0 {
			last = buf[n-1]
			if _, err := s.in.Write(buf[:n]); err != nil {
				return // nobody reads it any more, which is the command's own decision
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.failed <- fmt.Errorf("reading stdin: %w", err)
			return
		}
	}
	if s.tty {
		_, _ = s.in.Write(ttyinput.End(last)) // as above
		return
	}
	_ = s.in.Close() // tells the command that this was all
}

// exited tells the pumps that the command has ended.
func (s *streams) exited() {
	for _, p := range s.pumps {
		p.exited()
	}
}

// delivered is closed when all output has been written by the caller.
func (s *streams) delivered() <-chan struct{} { return s.all }

func (s *streams) waitDelivered(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.all:
	case <-t.C:
	}
}

func (s *streams) writeError() error {
	for _, p := range s.pumps {
		select {
		case <-p.done:
			if p.err != nil {
				return p.err
			}
		default:
		}
	}
	return nil
}

// close ends what can be ended, gives pipes that are still in use away, and lets a pump that is stuck in the caller's Write
// end by itself.
func (s *streams) close(d *drains) {
	s.closed.Do(func() {
		if s.stdin != nil {
			s.stdin.stop()
		}
		close(s.end)
		if s.in != nil && s.in != s.out {
			_ = s.in.Close() // whoever still reads it gets the end
		}
		for _, p := range s.pumps {
			p.abandoned.Store(true)
			release := func() {
				if p.open && p.err == nil {
					d.take(p.f)
					return
				}
				_ = p.f.Close() // only read
			}
			select {
			case <-p.done:
				release()
			default:
				go func() {
					<-p.done
					release()
				}()
			}
		}
	})
}
