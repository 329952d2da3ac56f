package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// forward is a listener on the loopback interface whose connections are dialled inside a sandbox.
type forward struct {
	ln     net.Listener
	cancel context.CancelFunc
}

// Expose gives an address at which a port of the sandbox can be reached. Where the extension can publish ports it is one
// that others can use; otherwise it is a forward on this machine's loopback interface, which ends with the sandbox or the
// Manager. Exposing a port again returns the same address.
func (s *Sandbox) Expose(ctx context.Context, port int) (e sandboxer.Endpoint, err error) {
	if port < 1 || port > 65535 {
		return e, wrap("expose", &record{ID: s.id}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("port %d is not between 1 and 65535", port)))
	}
	x := s.at(ctx)
	if x == nil || x.ext == nil || x.can(sandboxer.CapExpose) || !x.can(sandboxer.CapDial) {
		err = use(ctx, s, sandboxer.OpExpose, sandboxer.CapExpose, func(ctx context.Context, x sandboxer.Exposer, t sandboxer.Target) (err error) {
			e, err = x.Expose(ctx, t, port)
			return err
		})
		return e, err
	}
	err = use(ctx, s, sandboxer.OpExpose, sandboxer.CapDial, func(ctx context.Context, _ sandboxer.Dialer, _ sandboxer.Target) (err error) {
		e, err = s.forward(ctx, port)
		return err
	})
	return e, err
}

// forward begins a forward, or finds the one that there is. ctx is the call's: whoever ends the forwards of a sandbox, or
// all of them, has ended it before.
func (s *Sandbox) forward(ctx context.Context, port int) (sandboxer.Endpoint, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	case m.closed:
		return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.CodeOf(errClosed), errClosed)
	}
	f := m.forwards[s.id][port]
	if f == nil {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return sandboxer.Endpoint{}, sandboxer.Refused(sandboxer.Unavailable, err)
		}
		ctx, cancel := context.WithCancel(m.ctx)
		f = &forward{ln: ln, cancel: cancel}
		if m.forwards[s.id] == nil {
			m.forwards[s.id] = map[int]*forward{}
		}
		m.forwards[s.id][port] = f
		m.work.Add(1)
		go func() {
			defer m.work.Done()
			s.serve(ctx, ln, port)
		}()
	}
	return sandboxer.Endpoint{Name: "forward", URL: "tcp://" + f.ln.Addr().String(), Port: port}, nil
}

// acceptAgain is how long a listener that fails is left alone.
const acceptAgain = 100 * time.Millisecond

// serve accepts until the listener is closed, and returns when every connection has ended.
func (s *Sandbox) serve(ctx context.Context, ln net.Listener, port int) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		local, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			if err == nil {
				_ = local.Close()
			}
			return
		}
		if err != nil { // too many open files, say: that passes, and the address was given out
			s.m.cfg.Logger.Warn("a forwarded connection could not be accepted", "sandbox", s.id, "port", port, "error", err)
			_ = sleep(ctx, acceptAgain)
			continue
		}
		conns.Go(func() {
			defer local.Close() //nolint:errcheck // both ends are done
			remote, err := s.Dial(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
			if err != nil {
				s.m.cfg.Logger.Warn("a forwarded connection could not be made", "sandbox", s.id, "port", port, "error", err)
				return
			}
			defer remote.Close() //nolint:errcheck // both ends are done
			stop := context.AfterFunc(ctx, func() { _, _ = local.Close(), remote.Close() })
			defer stop()
			join(local, remote)
		})
	}
}

// join copies both ways until both are done; the end of one direction is passed on.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	one := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); ok && (err == nil || errors.Is(err, io.EOF)) {
			_ = half.CloseWrite()
			return
		}
		_, _ = dst.Close(), src.Close()
	}
	both.Go(func() { one(a, b) })
	one(b, a)
	both.Wait()
}

func (m *Manager) closeForwardsOf(id sandboxer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.forwards[id] {
		f.cancel()
		_ = f.ln.Close()
	}
	delete(m.forwards, id)
}

func (m *Manager) closeForwards() {
	m.mu.Lock()
	ids := make([]sandboxer.ID, 0, len(m.forwards))
	for id := range m.forwards {
		ids = append(ids, id)
	}
	m.mu.Unlock()
	for _, id := range ids {
		m.closeForwardsOf(id)
	}
}
