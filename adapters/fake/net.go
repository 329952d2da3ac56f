package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// listener is a port that somebody listens on inside a sandbox.
type listener struct {
	w      *world
	port   int
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// addr is an address inside a sandbox.
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

func (l *listener) Addr() net.Addr { return addr("127.0.0.1:" + strconv.Itoa(l.port)) }

func (l *listener) shut() { l.once.Do(func() { close(l.closed) }) }

// Close frees the port; connections live on.
func (l *listener) Close() error {
	l.w.mu.Lock()
	if l.w.listeners[l.port] == l {
		delete(l.w.listeners, l.port)
	}
	l.w.mu.Unlock()
	l.shut()
	return nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (w *world) listen(port int) (net.Listener, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("port %d is not between 1 and 65535", port)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, net.ErrClosed
	}
	if w.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	if w.listeners == nil {
		w.listeners = map[int]*listener{}
	}
	l := &listener{w: w, port: port, accept: make(chan net.Conn), closed: make(chan struct{})}
	w.listeners[port] = l
	return l, nil
}

func (w *world) dial(ctx context.Context, port int) (net.Conn, error) {
	w.mu.Lock()
	l := w.listeners[port]
	w.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: addr("127.0.0.1:" + strconv.Itoa(port)), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	stop := context.AfterFunc(w.ctx, func() { _ = far.Close() }) // the connection does not outlive its sandbox
	select {
	case l.accept <- served{far, stop}:
		return near, nil
	case <-l.closed:
		err := error(refused)
		_ = near.Close()
		_ = far.Close()
		stop()
		return nil, err
	case <-ctx.Done():
		_ = near.Close()
		_ = far.Close()
		stop()
		return nil, ended(ctx)
	}
}

// served is the sandbox's end of a connection.
type served struct {
	net.Conn
	stop func() bool
}

func (s served) Close() error {
	s.stop()
	return s.Conn.Close()
}

// Listen listens on a port inside the sandbox id, as a server in it would: Dial reaches it through memory. Of several
// sandboxes of that ID, the latest attempt is meant. The listener ends with the sandbox.
func (b *Backend) Listen(id sandboxer.ID, port int) (net.Listener, error) {
	var found *sandbox
	b.each(time.Now().UnixNano(), func(s *sandbox) {
		if s.id == id && (found == nil || s.attempt > found.attempt) {
			found = s
		}
	})
	if found == nil {
		return nil, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("there is no sandbox %s to listen in", id))
	}
	sh := b.shard(found.key)
	sh.mu.Lock()
	if found.world == nil {
		found.world = newWorld(nil)
	}
	w := found.world
	sh.mu.Unlock()
	return w.listen(port)
}

// Dial connects to a port where [Backend.Listen] or the command nc listens.
func (e *extension) Dial(ctx context.Context, t sandboxer.Target, network, address string) (net.Conn, error) {
	var c net.Conn
	err := e.do(ctx, sandboxer.OpDial, t, func(hit) error {
		port, err := loopback(network, address)
		if err != nil {
			return sandboxer.Refused(sandboxer.InvalidArgument, err)
		}
		w, err := e.world(ctx, t)
		if err != nil {
			return err
		}
		c, err = w.dial(ctx, port)
		if errors.Is(err, syscall.ECONNREFUSED) && e.b.broken(DialAnything) {
			c, _ = net.Pipe()
			return nil
		}
		if err != nil && sandboxer.CodeOf(err) == sandboxer.Unknown {
			err = sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("nothing listens on port %d in %s: %w", port, t.Handle.Ref().Name(), err))
		}
		return err
	})
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		return nil, err
	}
	return c, nil
}

// loopback reads the port of an address inside a sandbox.
func loopback(network, address string) (int, error) {
	if !strings.HasPrefix(network, "tcp") {
		return 0, fmt.Errorf("network %q: a fake sandbox speaks tcp", network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	if ip := net.ParseIP(host); host != "" && host != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
		return 0, fmt.Errorf("address %q: a fake sandbox has only its loopback; use localhost", address)
	}
	port, err := strconv.Atoi(service)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("address %q: the port is not between 1 and 65535", address)
	}
	return port, nil
}

const exposed = ".fake.invalid"

// Expose gives a port an address. It leads nowhere but through [Backend.DialContext].
func (e *extension) Expose(ctx context.Context, t sandboxer.Target, port int) (sandboxer.Endpoint, error) {
	var ep sandboxer.Endpoint
	err := e.do(ctx, sandboxer.OpExpose, t, func(hit) error {
		if port < 1 || port > 65535 {
			return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("port %d is not between 1 and 65535", port))
		}
		return e.running(ctx, t, func(s *sandbox) error {
			ep = sandboxer.Endpoint{Name: strconv.Itoa(port), Port: port, URL: fmt.Sprintf("http://%s%s:%d", s.key.name, exposed, port)}
			return nil
		})
	})
	if err != nil {
		return sandboxer.Endpoint{}, err
	}
	return ep, nil
}

// DialContext connects to what Expose returned, and fits http.Transport.
func (b *Backend) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(service)
	name, ours := strings.CutSuffix(host, exposed)
	if err != nil || !ours {
		return nil, &net.AddrError{Err: "not an endpoint of the fake backend", Addr: address}
	}
	var w *world
	b.each(time.Now().UnixNano(), func(s *sandbox) {
		if s.key.name == name && !s.paused {
			w = s.world
		}
	})
	if w == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addr(address), Err: syscall.ECONNREFUSED}
	}
	return w.dial(ctx, port)
}
