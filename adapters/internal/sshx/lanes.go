package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

const (
	// longTrip is the round trip from which on streams are spread: a channel moves one window of 2 MiB in it.
	longTrip = 15 * time.Millisecond
	// Lanes are opened for so many bytes a second, in windows.
	laneWindow, laneRate = 2 << 20, 256 << 20
	minLanes, maxLanes   = 4, 32
	// stripe is how much goes over one lane before it is the next one's turn.
	stripe = 256 << 10
)

// Send is Exec for a command that reads much: where the round trip is long, Stdin is spread over several channels. A stream
// that breaks off may look to the command as if it had ended: what must not be half done is completed by another command
// after Send returned nil.
func (c *Conn) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if req.Stdin == nil {
		return c.alone(ctx, req)
	}
	return c.spread(ctx, req, 'u')
}

// Receive is Exec for a command that writes much: where the round trip is long, Stdout is spread over several channels.
// What was written to Stdout is complete when the result says exit code 0.
func (c *Conn) Receive(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if req.Stdout == nil || req.Stdin != nil || same(req.Stdout, req.Stderr) {
		return c.alone(ctx, req)
	}
	return c.spread(ctx, req, 'd')
}

// alone is Exec in a session of its own, where the streams of a command are not copied once more.
func (c *Conn) alone(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return c.exec(ctx, req, func(context.Context, *sandboxer.ExecRequest) (sandboxer.ExecResult, bool, error) {
		return sandboxer.ExecResult{}, false, nil
	})
}

func (c *Conn) spread(ctx context.Context, req sandboxer.ExecRequest, mode byte) (sandboxer.ExecResult, error) {
	return c.exec(ctx, req, func(ctx context.Context, req *sandboxer.ExecRequest) (sandboxer.ExecResult, bool, error) {
		return c.h.onLanes(ctx, req, mode)
	})
}

// onLanes runs a command whose stream is spread; begun is false where that does not pay or the host cannot do it.
func (h *host) onLanes(ctx context.Context, req *sandboxer.ExecRequest, mode byte) (result sandboxer.ExecResult, begun bool, err error) {
	if err := check(req); err != nil || req.TTY != nil {
		return result, false, err
	}
	if _, err := h.keeperFor(ctx); err != nil { // from now on something is known about the host
		return result, false, err
	}
	trip := h.roundTrip()
	if trip < longTrip {
		return result, false, nil
	}
	r := h.anyRunner(ctx)
	if r == nil {
		return result, false, nil
	}
	n := min(max(int(trip*laneRate/laneWindow/time.Second), minLanes), maxLanes)
	l := &lanes{mode: mode, n: n, req: req, done: make(chan struct{})}
	result, begun, err = r.do(ctx, req, l)
	h.putBackRunner(r)
	return result, begun, err
}

// lanes are channels to a socket of the host over which a runner takes the input of a command, or gives its output.
type lanes struct {
	mode  byte // 'u' for input, 'd' for output
	n     int
	req   *sandboxer.ExecRequest
	done  chan struct{} // closed when output was taken to its end
	moved int64         // bytes of output; set before done is closed
	begun atomic.Bool   // input was read
}

var errNoLanes = errors.New("the server lets nothing be connected to a socket of the host")

// carry opens the lanes, and deals or collects.
func (l *lanes) carry(ctx context.Context, r *runner, c *runnerCall) {
	defer close(l.done)
	var place string
	select {
	case place = <-c.place:
	case <-c.done:
		return
	case <-ctx.Done():
		return
	}
	conns, err := l.open(ctx, r, place)
	defer func() {
		for _, conn := range conns {
			r.s.h.p.spawn(func() { _ = conn.Close() })
		}
	}()
	if err != nil {
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			r.s.h.mu.Lock()
			r.s.h.runners.noLanes = true
			r.s.h.mu.Unlock()
			r.mu.Lock()
			c.unsent = true // it waits for its lanes before it begins
			r.mu.Unlock()
			r.fail(errNoLanes)
		} else if ctx.Err() == nil {
			r.fail(errNoSession)
		}
		return
	}
	if l.mode == 'd' {
		err = l.collect(c, conns)
	} else {
		err = l.deal(r, c, conns)
	}
	if err != nil && !c.gate.isShut() {
		c.failed <- err
	}
	if l.mode == 'u' { // what it sent is still on its way
		<-c.done
	}
}

// open opens all lanes at once. Each begins with its number.
func (l *lanes) open(ctx context.Context, r *runner, place string) ([]net.Conn, error) {
	conns, errs := make([]net.Conn, l.n), make([]error, l.n)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			if conns[i], errs[i] = r.s.t.c.client.DialContext(ctx, "unix", place); errs[i] == nil {
				_, errs[i] = conns[i].Write([]byte{byte(i)})
			}
		})
	}
	wg.Wait()
	var open []net.Conn
	for _, conn := range conns {
		if conn != nil {
			open = append(open, conn)
		}
	}
	return open, errors.Join(errs...)
}

// deal gives the lanes their stripes of the input in turn. Only the last is short.
func (l *lanes) deal(r *runner, c *runnerCall, conns []net.Conn) error {
	l.begun.Store(true)
	failed := make(chan struct{})
	var once sync.Once
	var writers sync.WaitGroup
	queues := make([]chan []byte, l.n)
	for i, conn := range conns {
		queues[i] = make(chan []byte, 2)
		writers.Go(func() {
			for chunk := range queues[i] {
				if _, err := conn.Write(chunk); err != nil {
					once.Do(func() { close(failed) })
					return
				}
			}
		})
	}
	defer writers.Wait()
	defer func() {
		for _, q := range queues {
			close(q)
		}
	}()
	in, total := c.gate.reader(l.req.Stdin), int64(0)
	for i := 0; ; i = (i + 1) % l.n {
		chunk := make([]byte, stripe)
		n, err := io.ReadFull(in, chunk)
		total += int64(n)
		if n > 0 {
			select {
			case queues[i] <- chunk[:n]:
			case <-failed: // the command does not want more and tells how it ended, or the connection ended
				return nil
			}
		}
		switch {
		case c.gate.isShut():
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			r.sendEnd(c, total)
			return nil
		case err != nil:
			return fmt.Errorf("standard input: %w", err)
		}
	}
}

// collect takes the stripes of the output in turn, up to one that is short.
func (l *lanes) collect(c *runnerCall, conns []net.Conn) error {
	buf := make([]byte, stripe)
	for i := 0; ; i = (i + 1) % l.n {
		n, err := io.ReadFull(conns[i], buf)
		if n > 0 {
			if err := c.gate.write(l.req.Stdout, buf[:n]); err != nil {
				return fmt.Errorf("output: %w", err)
			}
		}
		l.moved += int64(n)
		if err != nil { // the end of the stream, or of the connection: how much there was to come tells
			return nil
		}
	}
}

// whole reports whether all that the runner sent over the lanes has come.
func (l *lanes) whole(c *runnerCall) bool {
	return l.mode != 'd' || strconv.FormatInt(l.moved, 10) == c.moved
}

// sendEnd tells the runner how much input there was.
func (r *runner) sendEnd(c *runnerCall, total int64) {
	end := frame('E', strconv.FormatInt(total, 10))
	r.wmu.Lock()
	defer r.wmu.Unlock()
	if !c.gate.isShut() {
		_, _ = r.s.ch.Write(end)
	}
}
