package sshx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

const (
	// maxHandshakes is how many handshakes with one server are under way at a time. sshd drops connections when 10 are
	// not authenticated yet (MaxStartups), and since 9.8 bans addresses that are dropped often.
	maxHandshakes = 8
	dialTries     = 8
)

// connected is a connection to the last server of a way, with those before it.
type connected struct {
	client *ssh.Client
	nc     *watchedConn // to the first server
	hops   []*ssh.Client
}

func (c *connected) close() {
	_ = c.nc.Close() // first: closing a client waits for whoever is writing
	_ = c.client.Close()
	for i := len(c.hops) - 1; i >= 0; i-- {
		_ = c.hops[i].Close()
	}
}

// dial connects to the last server of the way, and tries again what a busy server drops. Its error is a refusal.
func (p *Pool) dial(ctx context.Context, way []*hop) (*connected, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	target := way[len(way)-1].String()
	release, err := p.handshakeSlot(ctx, way[len(way)-1].address)
	if err != nil {
		return nil, ctxError(ctx, fmt.Errorf("connect to %s: waiting for other handshakes", target))
	}
	defer release()
	for try := 1; ; try++ {
		c, err := p.dialOnce(ctx, way)
		if err == nil {
			return c, nil
		}
		if !isThrottled(err) || try == dialTries || ctx.Err() != nil {
			if try > 1 {
				err = fmt.Errorf("%w (tried %d times; the server may limit new connections by MaxStartups)", err, try)
			}
			return nil, dialError(ctx, target, err)
		}
		if !pause(ctx, jitter(50*time.Millisecond<<min(try-1, 5))) {
			return nil, dialError(ctx, target, err)
		}
	}
}

// handshakeSlot waits until fewer than maxHandshakes are under way with a server, and spreads those that waited.
func (p *Pool) handshakeSlot(ctx context.Context, address string) (func(), error) {
	p.mu.Lock()
	slots := p.handshakes[address]
	if slots == nil {
		slots = make(chan struct{}, maxHandshakes)
		p.handshakes[address] = slots
	}
	p.mu.Unlock()
	release := func() { <-slots }
	busy := len(slots) > 0
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if busy && !pause(ctx, jitter(10*time.Millisecond)) {
		release()
		return nil, ctx.Err()
	}
	return release, nil
}

func (p *Pool) dialOnce(ctx context.Context, way []*hop) (_ *connected, err error) {
	raw, err := p.cfg.Dial(ctx, "tcp", way[0].address)
	if err != nil {
		return nil, err
	}
	nc := watch(raw)
	// Nothing below takes a context; closing the connection ends all of it.
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	c := &connected{nc: nc}
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = nc.Close()
			for _, h := range c.hops {
				_ = h.Close()
			}
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				err = ctx.Err()
			}
		}
	}()
	var over net.Conn = nc
	for i, h := range way {
		if i > 0 {
			if over, err = c.client.DialContext(ctx, "tcp", h.address); err != nil {
				return nil, fmt.Errorf("from %s to %s: %w", way[i-1], h, err)
			}
			over = inner{over, &nc.ended}
			c.hops = append(c.hops, c.client)
		}
		client, err := handshake(ctx, over, h)
		if err != nil {
			if len(way) > 1 {
				err = fmt.Errorf("%s: %w", h, err)
			}
			return nil, err
		}
		c.client = client
	}
	return c, nil
}

func handshake(ctx context.Context, over net.Conn, h *hop) (*ssh.Client, error) {
	check, algorithms, err := h.keys.verifier()
	if err != nil {
		return nil, err
	}
	auth, done, err := h.cred.methods(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var untrusted error
	conn, channels, requests, err := ssh.NewClientConn(over, h.address, &ssh.ClientConfig{
		User: h.user,
		Auth: auth,
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			untrusted = check(name, remote, key)
			return untrusted
		},
		HostKeyAlgorithms: algorithms,
		ClientVersion:     "SSH-2.0-sandboxer",
	})
	if err != nil {
		var algorithm *ssh.AlgorithmNegotiationError
		switch {
		case untrusted != nil: // x/crypto flattens what the callback returns
			return nil, sandboxer.Refused(sandboxer.FailedPrecondition, untrusted)
		case errors.As(err, &algorithm) && algorithm.What == "host key":
			return nil, fmt.Errorf("the server shows no key of a type that is known for it: %w", err)
		}
		return nil, err
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// pause waits for d, and returns false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter is between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
