package composessh

import (
	"context"
	"crypto/rand"
	_ "embed" // for the relay
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// Dial connects to a port of the stack's network: "localhost" is the main service, the name of a service another one. A server
// that listens on its loopback interface alone is reached through a container of the moment, which needs perl or python3 on
// the host. Other addresses are PermissionDenied: they are no part of the sandbox.
func (e *extension) Dial(ctx context.Context, t sandboxer.Target, network, address string) (net.Conn, error) {
	b, err := e.open(ctx, t)
	if err != nil {
		return nil, err
	}
	service, port, err := b.dialled(network, address)
	if err != nil {
		return nil, err
	}
	all, err := b.containers(ctx, b.name, t.Labels[sandboxer.LabelOwner])
	if err != nil {
		return nil, err
	}
	own := of(all, service)
	if len(own) == 0 || own[0].State.Status != "running" {
		return nil, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("sandbox %s: service %s is not running", b.name, service))
	}
	var failed error
	for _, n := range sorted(own[0].Networks) {
		ip := own[0].Networks[n].IPAddress
		if network == "tcp6" || ip == "" {
			ip = own[0].Networks[n].GlobalIPv6Address
		}
		if ip == "" {
			continue
		}
		conn, err := b.conn.Dial(ctx, "tcp", net.JoinHostPort(ip, port))
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ended(ctx, "dialling "+address)
		}
		failed = err
	}
	conn, err := b.relay(ctx, t, own[0].ID, port)
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("sandbox %s, service %s: nobody could be reached on port %s: %w", b.name, service, port, errors.Join(failed, err)))
	}
	return conn, nil
}

// dialled reads whom an address means.
func (b *box) dialled(network, address string) (service, port string, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return "", "", badCommand("network %q: only tcp, tcp4 and tcp6 are dialled", network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", badCommand("address %q: %w", address, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", "", badCommand("address %q: %q is no port", address, port)
	}
	if ip := net.ParseIP(host); host == "" || host == "localhost" || ip != nil && ip.IsLoopback() {
		return b.Service, port, nil
	}
	if slices.Contains(b.Services, host) {
		return host, port, nil
	}
	return "", "", sandboxer.Refused(sandboxer.PermissionDenied, fmt.Errorf("address %q is not of sandbox %s; dial localhost, or a service: %s", address, b.name, strings.Join(b.Services, ", ")))
}

//go:embed scripts/relay.sh
var relayScript string

// relay connects from within a container's network, to its loopback interface.
func (b *box) relay(ctx context.Context, t sandboxer.Target, id, port string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	// The connection outlives ctx once it is made.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, cancel)
	defer unwatch()
	first := &connected{to: theirs, yes: make(chan struct{})}
	errs := &lines{ctx: inner}
	over := make(chan error, 1)
	b.e.tails.Go(func() {
		defer cancel()
		req := b.script(relayScript, id, port, b.name, t.Labels[sandboxer.LabelOwner], strings.ToLower(rand.Text()))
		req.Stdin, req.Stdout, req.Stderr = theirs, first, errs
		res, err := b.conn.Exec(inner, req)
		if err == nil {
			err = res.Err()
		}
		_ = theirs.Close() // wakes whoever reads the other end
		over <- err
	})
	select {
	case <-first.yes:
		return &relayed{Conn: ours, cancel: cancel}, nil
	case err := <-over:
		_ = ours.Close() // nobody has it
		if ctx.Err() != nil {
			return nil, ended(ctx, "dialling")
		}
		return nil, fmt.Errorf("%s (%w)", said([]byte(errs.text())), errors.Join(err, io.EOF))
	}
}

// connected passes on all but the first byte, which says that there is a connection.
type connected struct {
	to   io.Writer
	once sync.Once
	yes  chan struct{}
}

func (c *connected) Write(p []byte) (int, error) {
	n := len(p)
	c.once.Do(func() {
		if n > 0 {
			p = p[1:]
			close(c.yes)
		}
	})
	if len(p) > 0 {
		if _, err := c.to.Write(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// relayed ends its command when it is closed.
type relayed struct {
	net.Conn
	cancel context.CancelFunc
}

func (r *relayed) Close() error {
	err := r.Conn.Close()
	r.cancel()
	return err
}
