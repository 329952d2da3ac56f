package adaptertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func dialChecks() []check {
	needs := []sandboxer.Capability{sandboxer.CapDial}
	listens := func(s *suite) bool { return s.cfg.Listen != nil && s.can(sandboxer.CapExec) }
	return []check{{
		name: "dial/nobody", needs: needs,
		rule: "Dial fails where nobody listens",
		why:  "programs wait for a server by dialling until it works",
		run: func(t *trial) {
			b := t.shared()
			conn, err := t.dial(context.Background(), b, t.freePort())
			if err != nil {
				return
			}
			defer conn.Close() //nolint:errcheck // read only
			_ = conn.SetReadDeadline(time.Now().Add(min(t.s.cfg.Within, 5*time.Second)))
			if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.broken("Dial where nobody listens succeeded, and the connection stays open (%v)", err)
			}
		},
	}, {
		name: "dial/echo", needs: needs, when: listens,
		rule: "Dial reaches a port inside the sandbox, and carries bytes both ways",
		why:  "servers in a sandbox are tested and used through it",
		run: func(t *trial) {
			b, port := t.newBox(), t.port()
			t.serve(b, port)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			conn := t.reach(ctx, b, port)
			defer conn.Close() //nolint:errcheck // both ways are done
			cancel()           // as net.Dialer: from now on the connection is its own
			want := noise(256 << 10)
			go func() { _, _ = conn.Write(want) }()
			_ = conn.SetDeadline(time.Now().Add(t.s.cfg.Within))
			got := make([]byte, len(want))
			n, err := io.ReadFull(conn, got)
			if err != nil {
				t.broken("of %d bytes that were sent %d came back: %v", len(want), n, err)
			}
			t.same("what came back", want, got)
		},
	}, {
		name: "dial/many", needs: needs, when: listens,
		rule: "one connection after the other can be made, and each is its own",
		why:  "clients open a connection for every request, and again after an error",
		run: func(t *trial) {
			b, port := t.newBox(), t.port()
			t.serve(b, port)
			t.reach(context.Background(), b, port).Close() //nolint:errcheck // it only shows that the server is there
			for i := range 8 {
				conn, err := t.dial(context.Background(), b, port)
				t.ok("Dial", err)
				_ = conn.SetDeadline(time.Now().Add(t.s.cfg.Within))
				want := fmt.Appendf(nil, "connection %d", i)
				_, err = conn.Write(want)
				t.ok("writing to a connection", err)
				got := make([]byte, len(want))
				_, err = io.ReadFull(conn, got)
				t.ok("reading from a connection", err)
				if !bytes.Equal(got, want) {
					t.broken("connection %d carried %s instead of %s", i, short(got), short(want))
				}
				t.ok("closing a connection", conn.Close())
			}
		},
	}, {
		name: "dial/expose", needs: []sandboxer.Capability{sandboxer.CapExpose},
		rule: "Expose returns the address of the port that was asked for, again when it is asked again",
		why:  "it is shown to people and stored: it must lead to the right place and stay",
		run: func(t *trial) {
			b, port := t.newBox(), t.port()
			var first sandboxer.Endpoint
			for i := range 2 {
				e, err := do(t, "Sandbox.Expose", func(ctx context.Context) (sandboxer.Endpoint, error) { return b.sb.Expose(ctx, port) })
				t.ok("Sandbox.Expose", err)
				if e.Port != port || e.URL == "" {
					t.broken("Expose of port %d returned %s", port, jsonOf(e))
				}
				if i > 0 && e != first {
					t.broken("Expose of port %d returned %s, and then %s", port, jsonOf(first), jsonOf(e))
				}
				first = e
			}
		},
	}}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// dial connects to a port through the Manager.
func (t *trial) dial(ctx context.Context, b *box, port int) (net.Conn, error) {
	t.Helper()
	return doCtx(ctx, t, "Sandbox.Dial", func(ctx context.Context) (net.Conn, error) {
		return b.sb.Dial(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
	})
}

// reach dials until somebody listens.
func (t *trial) reach(ctx context.Context, b *box, port int) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	if !t.poll(func() bool { conn, err = t.dial(ctx, b, port); return err == nil }) {
		t.broken("the server in the sandbox could not be reached: %v", err)
	}
	return conn
}

// serve runs Config.Listen in b until the trial ends.
func (t *trial) serve(b *box, port int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := b.sb.Exec(ctx, sandboxer.ExecRequest{Command: t.s.cfg.Listen(port)})
		t.s.note("Exec of the server", err)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(t.s.cfg.Within + t.grace()):
			t.Errorf("the server's Exec had not returned after its context ended")
		}
	})
}

// port is the one to listen on.
func (t *trial) port() int {
	switch {
	case t.s.cfg.Port != 0:
		return t.s.cfg.Port
	case len(t.s.profile.Ports) > 0:
		return t.s.profile.Ports[0]
	}
	return t.freePort()
}

// freePort is one that nobody listens on, on this machine at least.
func (t *trial) freePort() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("finding a free port: %v", err)
	}
	defer ln.Close() //nolint:errcheck // nobody connected
	return ln.Addr().(*net.TCPAddr).Port
}
