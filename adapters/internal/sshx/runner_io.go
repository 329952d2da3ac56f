package sshx

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// runner is a process on the host that runs one command after the other, each as if in a session of its own.
type runner struct {
	s     *session
	out   chan outgoing // requests
	gone  chan struct{} // closed when nothing more is to be done with it
	once  sync.Once
	n     int        // commands so far; whoever has the runner counts
	wmu   sync.Mutex // one frame at a time
	since time.Time  // when it was last given to a command; guarded by host.mu

	mu   sync.Mutex
	call *runnerCall
	err  error // it is of no use any more
}

type outgoing struct {
	frame []byte
	sent  chan struct{} // closed when it was written
}

// runnerCall is a command under way.
type runnerCall struct {
	to     [2]io.Writer // standard output and error; nil discards
	failed chan error
	done   chan struct{} // closed when it ended
	gate   gate          // to what is the caller's
	seen   atomic.Bool   // it has begun for certain
	status uint16        // as waitpid tells
	noDir  bool
	unsent bool        // nothing was begun
	ended  bool        // done is closed
	place  chan string // gets where lanes are to be made
	moved  string      // how much went over them
}

// do runs a command, with lanes where l is not nil; begun is false when certainly nothing was begun and a session can do it
// instead.
func (r *runner) do(ctx context.Context, req *sandboxer.ExecRequest, l *lanes) (result sandboxer.ExecResult, begun bool, err error) {
	h := r.s.h
	r.n++
	token := strings.TrimSuffix(r.s.token, "0-") + strconv.Itoa(r.n) + "-"
	c := &runnerCall{to: [2]io.Writer{req.Stdout, req.Stderr}, failed: make(chan error, 3), done: make(chan struct{}), gate: gate{under: &h.p.writes}}
	if l != nil {
		c.place = make(chan string, 1)
	}
	defer c.gate.close()
	r.mu.Lock()
	if r.err != nil {
		r.mu.Unlock()
		return result, false, nil
	}
	r.call = c
	r.mu.Unlock()
	request := outgoing{r.request(token, req, l), make(chan struct{})}
	r.out <- request
	if l != nil {
		go l.carry(ctx, r, c)
	} else if req.Stdin != nil {
		// Not waited for by anyone: a Read that blocks must not keep the command from ending.
		go func() {
			select {
			case <-request.sent:
				r.input(c, c.gate.reader(req.Stdin))
			case <-c.done:
			}
		}()
	}
	abort := func(code sandboxer.Code, err error) (sandboxer.ExecResult, bool, error) {
		if !r.kill(c, token) {
			err = fmt.Errorf("%w (%s has not confirmed its end yet; it ends what is left by itself)", err, h)
		}
		return result, true, sandboxer.Mark(code, err)
	}
	select {
	case <-c.done:
	case err := <-c.failed:
		return abort(sandboxer.Unknown, fmt.Errorf("command on %s: %w", h, err))
	case <-ctx.Done():
		return abort(codeOf(ctx), fmt.Errorf("command on %s: %w", h, context.Cause(ctx)))
	case <-r.s.k.done:
		r.fail(errNoSession)
		r.s.close(false) // it ends what it runs, where there is no keeper any more
		return result, true, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the command on %s is ended: %w", h, r.s.k.err))
	}
	r.mu.Lock()
	ended, unsent, failure := c.ended, c.unsent, r.err
	r.mu.Unlock()
	switch {
	case unsent && req.Stdin != nil && (l == nil || l.begun.Load()): // some of the input may be gone
		return result, true, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%s could not begin the command", h))
	case unsent:
		return result, false, nil
	case !ended && errors.Is(failure, errNoSession):
		r.s.k.kill(token, true)
		return result, true, r.s.lost()
	case !ended:
		r.s.k.kill(token, true)
		r.s.kill()
		return result, true, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the command on %s is ended: %w", h, failure))
	case c.noDir:
		return result, true, noDirectory(h, req.Dir)
	}
	if l != nil {
		select {
		case <-l.done:
		case err := <-c.failed:
			return result, true, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("command on %s: %w", h, err))
		case <-ctx.Done():
			return result, true, sandboxer.Mark(codeOf(ctx), fmt.Errorf("command on %s: it ended, but not all of its output came: %w", h, context.Cause(ctx)))
		}
		if !l.whole(c) {
			return result, true, r.s.lost()
		}
	}
	select {
	case err := <-c.failed:
		return result, true, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("command on %s: %w", h, err))
	default:
	}
	if signal := c.status & 0x7f; signal != 0 {
		result.ExitCode, result.Signal = -1, signalName(int(signal))
	} else {
		result.ExitCode = int(c.status >> 8)
	}
	return result, true, nil
}

// kill ends the command under way, and reports whether the host has confirmed it. Where nothing was heard of the command,
// the runner may not even have the request: it is ended first.
func (r *runner) kill(c *runnerCall, token string) bool {
	grace := r.s.h.p.cfg.KillGrace
	confirmed := false
	if seen := c.seen.Load(); seen || r.s.kill() {
		limit := time.NewTimer(grace)
		defer limit.Stop()
		select {
		case <-r.s.k.kill(token, true):
			confirmed = true
		case <-r.s.k.done:
		case <-limit.C:
		}
		if confirmed && seen {
			wait(c.done, grace)
		}
	}
	c.gate.drop()
	r.mu.Lock()
	ended := c.ended
	r.mu.Unlock()
	if !ended {
		r.fail(errNoSession)
	}
	return confirmed
}

// input passes standard input on.
func (r *runner) input(c *runnerCall, from io.Reader) {
	buf := make([]byte, frameHead+maxInput)
	send := func(kind byte, n int) bool {
		buf[0] = kind
		binary.BigEndian.PutUint32(buf[1:], uint32(n))
		r.wmu.Lock()
		defer r.wmu.Unlock()
		if c.gate.isShut() {
			return false
		}
		_, err := r.s.ch.Write(buf[:frameHead+n])
		return err == nil
	}
	for {
		n, err := from.Read(buf[frameHead:])
		if n > 0 && !send('I', n) {
			return
		}
		if err != nil && !errors.Is(err, io.EOF) {
			c.failed <- fmt.Errorf("standard input: %w", err)
			return
		}
		if err != nil {
			send('E', 0)
			return
		}
	}
}

// write sends the requests. It ends with the runner.
func (r *runner) write() {
	for {
		select {
		case request := <-r.out:
			r.wmu.Lock()
			_, err := r.s.ch.Write(request.frame)
			r.wmu.Unlock()
			close(request.sent)
			if err != nil { // not all of it was sent, so nothing is begun
				r.mu.Lock()
				if r.call != nil {
					r.call.unsent = true
				}
				r.mu.Unlock()
				r.fail(errNoSession)
			}
		case <-r.gone:
			return
		}
	}
}

// read takes what the runner sends: what comes before its mark, and then frames. It closes up in between.
func (r *runner) read(up chan<- struct{}) {
	defer r.s.h.p.spawn(func() { r.s.h.dropRunner(r) })
	in := bufio.NewReaderSize(r.s.ch, maxFrame/2)
	if err := skipTo(in, r.s.token+markBegun); err != nil {
		r.fail(errNoSession)
		return
	}
	close(up)
	buf := make([]byte, maxFrame)
	for {
		kind, payload, err := readFrame(in, buf)
		if err == nil {
			err = r.take(kind, payload)
		}
		if err != nil {
			r.fail(err)
			return
		}
	}
}

// take acts on one frame.
func (r *runner) take(kind byte, payload []byte) error {
	r.mu.Lock()
	c := r.call
	r.mu.Unlock()
	if c == nil {
		return errFrame
	}
	switch kind {
	case 'O', 'X':
		c.seen.Store(true)
		c.print(kind, payload)
		return nil
	case 'D':
		c.noDir = true
		return nil
	case 'L':
		select {
		case c.place <- string(payload):
		default: // it is not asked for
			return errFrame
		}
		return nil
	case 'N':
		r.mu.Lock()
		c.unsent = true
		r.mu.Unlock()
		r.s.h.mu.Lock()
		r.s.h.runners.pause = time.Now().Add(runnerPause)
		r.s.h.mu.Unlock()
		return errNoSession
	}
	return r.ended(c, payload)
}

// ended takes the word on the end of a command, which may be given up in this moment.
func (r *runner) ended(c *runnerCall, payload []byte) error {
	if len(payload) < 3 {
		return errFrame
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.call != c {
		return errNoSession
	}
	c.status, c.moved = binary.BigEndian.Uint16(payload), string(payload[3:])
	r.call, c.ended = nil, true
	close(c.done)
	if payload[2] == 0 { // something in the background holds its streams: it goes
		r.failLocked(errNoSession)
	}
	return nil
}

func (c *runnerCall) print(kind byte, data []byte) {
	to := c.to[0]
	if kind == 'X' {
		to = c.to[1]
	}
	if to == nil || len(data) == 0 {
		return
	}
	if err := c.gate.write(to, data); err != nil {
		c.gate.drop() // one failure is enough
		c.failed <- fmt.Errorf("output: %w", err)
	}
}

func (r *runner) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failLocked(err)
}

func (r *runner) failLocked(err error) {
	r.once.Do(func() { close(r.gone) })
	if r.err == nil {
		r.err = err
	}
	if c := r.call; c != nil {
		r.call = nil
		close(c.done)
	}
}

func (r *runner) usable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil
}

// retire lets it end by itself, which it does without input.
func (r *runner) retire() {
	r.fail(errNoSession)
	if !r.wmu.TryLock() { // it takes no input any more
		r.s.kill()
		return
	}
	_ = r.s.ch.CloseWrite()
	r.wmu.Unlock()
	limit := time.NewTimer(r.s.h.p.cfg.KillGrace)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-r.s.exit:
			if ok {
				continue
			}
			r.s.k.remove(r.s.h.p.ctx, r.s.token)
			return
		case <-limit.C:
			r.s.kill()
			return
		case <-r.s.h.p.ctx.Done():
			return
		}
	}
}
