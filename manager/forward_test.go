package manager_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// serve answers HTTP inside a sandbox.
func serve(t *testing.T, b *fake.Backend, id sandboxer.ID, port int) {
	t.Helper()
	ln, err := b.Listen(id, port)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello from "+string(id))
	}), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
}

func get(t *testing.T, transport *http.Transport, url string) string {
	t.Helper()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	defer transport.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestDial: a connection to a port in the sandbox fits http.Transport.
func TestDial(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandboxer.CapDial)
	sb := created(t, w.open(), ask("a"))
	serve(t, w.backend, "a", 8080)
	if got := get(t, &http.Transport{DialContext: sb.Dial}, "http://localhost:8080/"); got != "hello from a" {
		t.Errorf("got %q", got)
	}
	_, err := sb.Dial(context.Background(), "tcp", "localhost:81")
	wantCode(t, err, sandboxer.Unavailable)
	_, err = sb.Dial(context.Background(), "udp", "localhost:81")
	wantCode(t, err, sandboxer.InvalidArgument)
}

// TestExpose: an extension that can publish ports does.
func TestExpose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandboxer.CapExpose, sandboxer.CapDial)
	sb := created(t, w.open(), ask("a"))
	serve(t, w.backend, "a", 8080)
	e, err := sb.Expose(context.Background(), 8080)
	if err != nil || e.Port != 8080 {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := get(t, &http.Transport{DialContext: w.backend.DialContext}, e.URL); got != "hello from a" {
		t.Errorf("got %q", got)
	}
	for _, port := range []int{0, -1, 65536} {
		_, err := sb.Expose(context.Background(), port)
		wantCode(t, err, sandboxer.InvalidArgument)
	}
}

// TestForward: over an extension that can only dial, a port is exposed on this machine's loopback, once, and until the
// sandbox or the Manager ends.
func TestForward(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(*testing.T, *manager.Manager, *manager.Sandbox){
		"teardown": func(t *testing.T, _ *manager.Manager, sb *manager.Sandbox) {
			if _, err := sb.Teardown(context.Background()); err != nil {
				t.Error(err)
			}
		},
		"close": func(t *testing.T, m *manager.Manager, _ *manager.Sandbox) {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandboxer.CapDial)
			m := w.open()
			sb := created(t, m, ask("a"))
			serve(t, w.backend, "a", 8080)
			e, err := sb.Expose(context.Background(), 8080)
			if err != nil {
				t.Fatal(err)
			}
			again, err := sb.Expose(context.Background(), 8080)
			if err != nil || again != e {
				t.Errorf("a second time %+v, %v; want %+v", again, err, e)
			}
			other, err := sb.Expose(context.Background(), 8081)
			if err != nil || other.URL == e.URL {
				t.Errorf("another port %+v, %v", other, err)
			}
			u, err := url.Parse(e.URL)
			if err != nil {
				t.Fatal(err)
			}
			host, _, err := net.SplitHostPort(u.Host)
			if err != nil || !net.ParseIP(host).IsLoopback() || u.Scheme != "tcp" || e.Port != 8080 {
				t.Fatalf("endpoint %+v is not on the loopback interface: %v", e, err)
			}
			for range 3 {
				if got := get(t, &http.Transport{}, "http://"+u.Host+"/"); got != "hello from a" {
					t.Errorf("got %q", got)
				}
			}
			nobody, err := url.Parse(other.URL)
			if err != nil {
				t.Fatal(err)
			}
			ends1, err := net.Dial("tcp", nobody.Host)
			if err != nil {
				t.Fatal(err)
			}
			_ = ends1.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := ends1.Read(make([]byte, 1)); err == nil {
				t.Error("a connection to a port where nobody listens stays open")
			}
			_ = ends1.Close()

			open, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close() //nolint:errcheck // it is closed from the other side
			if _, err := io.WriteString(open, "GET "); err != nil {
				t.Fatal(err)
			}
			ends(t, m, sb)
			_ = open.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, open); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Error("a connection outlives the sandbox")
				}
			}
			if c, err := net.DialTimeout("tcp", u.Host, time.Second); err == nil {
				_ = c.Close()
				t.Error("the forward outlives the sandbox")
			}
		})
	}
}
