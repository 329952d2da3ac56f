package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// Dial connects from the host to an address: network is "tcp", or "unix" for a socket of the host. It fits http.Transport.
// A deadline that passes ends the connection. Its errors are refusals: Unavailable where nobody answers there,
// PermissionDenied where the server forbids forwarding.
func (c *Conn) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "unix":
	default:
		return nil, invalid("network %q is not forwarded; use tcp or unix", network)
	}
	fail := func(code sandboxer.Code, err error) (net.Conn, error) {
		return nil, sandboxer.Refused(code, fmt.Errorf("host %s: connect to %s: %w", c.name, address, err))
	}
	for try := 0; ; try++ {
		t, err := c.h.pin(ctx)
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", c.name, err)
		}
		conn, err := t.c.client.DialContext(ctx, network, address)
		if err == nil {
			return &forwarded{Conn: conn, t: t}, nil
		}
		t.unpin()
		var refused *ssh.OpenChannelError
		switch {
		case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
			return fail(sandboxer.PermissionDenied, fmt.Errorf("the server forbids it: %w", err))
		case errors.As(err, &refused):
			return fail(sandboxer.Unavailable, err)
		case ctx.Err() != nil:
			return fail(codeOf(ctx), context.Cause(ctx))
		case try == 1:
			return fail(sandboxer.Unavailable, err)
		}
		t.fail(fmt.Errorf("connection to %s ended: %w", c.h, err))
		c.h.lost(t)
	}
}

// Listen listens on the host: network is "tcp" or "unix", port 0 lets the host choose. What connects there is accepted
// here. The listener ends with the connection under it; Accept fails then.
func (c *Conn) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	t, err := c.h.pin(ctx)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", c.name, err)
	}
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	if !c.h.p.spawn(func() {
		l, err := t.c.client.Listen(network, address)
		done <- result{l, err}
	}) {
		t.unpin()
		return nil, errClosed
	}
	select {
	case r := <-done:
		if r.err != nil {
			t.unpin()
			return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("host %s: listen on %s: %w", c.name, address, r.err))
		}
		return &listener{Listener: r.l, t: t}, nil
	case <-ctx.Done():
		c.h.p.spawn(func() {
			if r := <-done; r.l != nil {
				_ = r.l.Close()
			}
			t.unpin()
		})
		return nil, sandboxer.Mark(codeOf(ctx), fmt.Errorf("host %s: listen on %s: %w", c.name, address, context.Cause(ctx)))
	}
}

// RoundTrip is how long a message to the host and its answer take, as far as is known: 0 before the first.
func (c *Conn) RoundTrip() time.Duration { return c.h.roundTrip() }

func (h *host) roundTrip() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var best time.Duration
	for _, t := range h.transports {
		if t.rtt > 0 && (best == 0 || t.rtt < best) {
			best = t.rtt
		}
	}
	return best
}

// pin returns a live connection for something that needs no session, and keeps it from being closed as idle.
func (h *host) pin(ctx context.Context) (*transport, error) {
	h.mu.Lock()
	for _, t := range h.transports {
		if t.limit > 0 {
			t.pinned++
			h.mu.Unlock()
			return t, nil
		}
	}
	h.mu.Unlock()
	t, err := h.acquire(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.open--
	t.pinned++
	h.serve()
	return t, nil
}

func (t *transport) unpin() {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	t.pinned--
	t.used = time.Now()
}

// forwarded is a connection through a host.
type forwarded struct {
	net.Conn
	t    *transport
	once sync.Once

	mu     sync.Mutex
	timer  *time.Timer
	passed bool
}

func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	return n, f.explain(err)
}

func (f *forwarded) Write(p []byte) (int, error) {
	n, err := f.Conn.Write(p)
	return n, f.explain(err)
}

// CloseWrite ends the direction to the peer only.
func (f *forwarded) CloseWrite() error {
	if c, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (f *forwarded) explain(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.passed {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Close does not wait for the peer.
func (f *forwarded) Close() error {
	f.once.Do(func() {
		f.mu.Lock()
		if f.timer != nil {
			f.timer.Stop()
		}
		f.mu.Unlock()
		f.t.h.p.spawn(func() {
			_ = f.Conn.Close()
			f.t.unpin()
		})
	})
	return nil
}

// SetDeadline ends the connection at t; the zero t takes that back.
func (f *forwarded) SetDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	if !t.IsZero() {
		f.timer = time.AfterFunc(time.Until(t), func() {
			f.mu.Lock()
			f.passed = true
			f.mu.Unlock()
			_ = f.Close()
		})
	}
	return nil
}

// SetReadDeadline is SetDeadline.
func (f *forwarded) SetReadDeadline(t time.Time) error { return f.SetDeadline(t) }

// SetWriteDeadline is SetDeadline.
func (f *forwarded) SetWriteDeadline(t time.Time) error { return f.SetDeadline(t) }

// listener is one on a host.
type listener struct {
	net.Listener
	t    *transport
	once sync.Once
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.t.h.p.spawn(func() { // it asks the server, which may be silent
			_ = l.Listener.Close()
			l.t.unpin()
		})
	})
	return nil
}
