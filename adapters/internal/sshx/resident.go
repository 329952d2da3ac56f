package sshx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	// maxResidents is how many shells of a host stay for small commands: more do not make two processors faster.
	maxResidents = 4
	// residentWait is how long a small command waits for one that is busy, before it gets a session of its own.
	residentWait = 500 * time.Millisecond
)

var errTooMuch = errors.New("the command prints more than is kept")

// capped keeps what is written to it, and fails when that is too much.
type capped struct{ kept []byte }

func (c *capped) Write(p []byte) (int, error) {
	if len(c.kept)+len(p) > maxOutput {
		return 0, errTooMuch
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// resident is a shell on the host that runs one small command after the other.
type resident struct {
	s     *session
	lines chan string
	gone  chan struct{} // closed when nothing more is to be done with it
	once  sync.Once

	mu   sync.Mutex
	call *call
	err  error // it is of no use any more
}

// call is a command under way.
type call struct {
	nonce          []byte
	stdout, stderr capped
	outEnd, errEnd bool
	code           int
	err            error
	done           chan struct{}
}

// resident returns an idle one, or a new one, or nil when all are busy and stay so.
func (h *host) resident(ctx context.Context) (*resident, error) {
	var late <-chan time.Time
	for {
		h.mu.Lock()
		for len(h.idlers) > 0 {
			r := h.idlers[len(h.idlers)-1]
			h.idlers = h.idlers[:len(h.idlers)-1]
			if r.usable() {
				h.mu.Unlock()
				return r, nil
			}
			h.residents--
		}
		if h.residents < maxResidents {
			h.residents++
			h.mu.Unlock()
			r, err := h.newResident(ctx)
			if err != nil {
				h.mu.Lock()
				h.residents--
				h.mu.Unlock()
				h.signalFreed()
			}
			return r, err
		}
		h.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(residentWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-h.freed:
		case <-late:
			return nil, nil
		case <-ctx.Done():
			return nil, ctxError(ctx, fmt.Errorf("waiting for %s", h))
		}
	}
}

func (h *host) newResident(ctx context.Context) (*resident, error) {
	token := newToken()
	line := "export " + envToken + "=" + token + ";printf %s " + token + markBegun + ";printf %s " + token + markBegun +
		" >&2;while IFS= read -r l;do eval \"$l\";done\n"
	s, err := h.startLine(ctx, nil, token, line, false)
	if err != nil {
		return nil, err
	}
	r := &resident{s: s, lines: make(chan string, 1), gone: make(chan struct{})}
	h.p.spawn(func() { r.read(s.ch, true) })
	h.p.spawn(func() { r.read(s.ch.Stderr(), false) })
	h.p.spawn(func() {
		for {
			select {
			case line := <-r.lines:
				if _, err := s.ch.Write([]byte(line)); err != nil {
					r.fail(errNoSession)
				}
			case <-r.gone:
				return
			}
		}
	})
	h.p.spawn(func() { // its session's end, the keeper's, and the pool's
		select {
		case <-s.exit:
		case <-s.k.done:
		case <-h.p.ctx.Done():
		case <-r.gone:
		}
		r.fail(errNoSession)
	})
	return r, nil
}

// read takes one stream: first up to the mark, then command after command.
func (r *resident) read(from io.Reader, stdout bool) {
	s := &stream{from: from, token: []byte(r.s.token)}
	buf := make([]byte, 32<<10)
	marked := false
	for {
		n, err := from.Read(buf)
		data := buf[:n]
		if !marked && n > 0 {
			var mark byte
			if data, mark = s.find(data); mark != 0 {
				marked = true
				r.s.begun.Store(true)
			} else if len(s.noise) > maxNoise {
				r.fail(errNoise)
			}
		}
		if len(data) > 0 {
			r.take(data, stdout)
		}
		if err != nil {
			r.fail(errNoSession)
			return
		}
	}
}

// take adds output to the command under way. What comes when there is none is of something that a command left behind:
// the shell is not used again.
func (r *resident) take(data []byte, stdout bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.call
	if c == nil || stdout && c.outEnd || !stdout && c.errEnd {
		r.err = errors.New("something in the background prints")
		return
	}
	out := &c.stdout
	if !stdout {
		out = &c.stderr
	}
	from := max(0, len(out.kept)-len(c.nonce)-4)
	if _, err := out.Write(data); err != nil {
		r.failLocked(err)
		return
	}
	i := bytes.Index(out.kept[from:], c.nonce)
	if i < 0 {
		return
	}
	end := out.kept[from+i+len(c.nonce):]
	if stdout {
		code, rest, ok := bytes.Cut(end, []byte(";"))
		if !ok {
			return // the rest of the code is still to come
		}
		c.code, _ = strconv.Atoi(string(code))
		c.outEnd, end = true, rest
	} else {
		c.errEnd = true
	}
	if len(end) > 0 {
		r.err = errors.New("something in the background prints")
	}
	out.kept = out.kept[:from+i]
	if c.outEnd && c.errEnd {
		r.call = nil
		close(c.done)
	}
}

// do runs one line.
func (r *resident) do(ctx context.Context, line, nonce string) (SmallResult, error) {
	c := &call{nonce: []byte(nonce), done: make(chan struct{})}
	r.mu.Lock()
	if r.err != nil {
		r.mu.Unlock()
		return SmallResult{}, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%s: %w", r.s.h, r.err))
	}
	r.call = c
	r.mu.Unlock()
	r.lines <- line
	select {
	case <-c.done:
	case <-ctx.Done():
		err := fmt.Errorf("command on %s: %w", r.s.h, context.Cause(ctx))
		if !r.s.kill() {
			err = fmt.Errorf("%w (%s has not confirmed its end yet; it ends what is left by itself)", err, r.s.h)
		}
		return SmallResult{}, sandboxer.Mark(codeOf(ctx), err)
	}
	switch {
	case errors.Is(c.err, errNoSession):
		return SmallResult{}, r.s.lost()
	case errors.Is(c.err, errTooMuch):
		return SmallResult{}, sandboxer.Mark(sandboxer.ResourceExhausted, c.err)
	case c.err != nil:
		return SmallResult{}, sandboxer.Mark(sandboxer.Unavailable, c.err)
	}
	return SmallResult{c.stdout.kept, c.stderr.kept, c.code}, nil
}

func (r *resident) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failLocked(err)
}

func (r *resident) failLocked(err error) {
	r.once.Do(func() { close(r.gone) })
	if r.err == nil {
		r.err = err
	}
	if c := r.call; c != nil {
		c.err = err
		r.call = nil
		close(c.done)
	}
}

func (r *resident) usable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil
}

// end closes the shell and ends what its commands left.
func (r *resident) end() {
	r.fail(errNoSession)
	r.s.h.p.spawn(func() { r.s.kill() })
}

// discard ends one that is of no use any more.
func (r *resident) discard() {
	h := r.s.h
	h.mu.Lock()
	h.residents--
	h.mu.Unlock()
	r.end()
	h.signalFreed()
}

// putBack makes it available for the next command.
func (h *host) putBack(r *resident) {
	if !r.usable() {
		r.discard()
		return
	}
	h.mu.Lock()
	h.idlers = append(h.idlers, r)
	r.s.t.used = time.Now()
	h.reclaim()
	h.mu.Unlock()
	h.signalFreed()
}

func (h *host) signalFreed() {
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// reclaim gives the session of an idle runner or resident to whoever waits for one. Called with mu held.
func (h *host) reclaim() {
	if len(h.waiters) == 0 || h.free() != nil || h.reclaimRunner() || len(h.idlers) == 0 {
		return
	}
	r := h.idlers[0]
	h.idlers = slices.Delete(h.idlers, 0, 1)
	h.residents--
	h.p.spawn(r.end)
}
