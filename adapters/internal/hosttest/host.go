package hosttest

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// Host is one of the hosts, with a server of its own. The engine's socket is DOCKER_HOST in the server's sessions.
type Host struct {
	*Engine
	Server *sshtest.Server // its Address is on the test's loopback and stays the same when it is started again
}

// Kind is how a host differs from one whose login is root and whose Compose is a plugin of docker.
type Kind struct {
	Login      Login
	Standalone bool              // Compose is the program docker-compose on the PATH, and no plugin
	Programs   map[string]string // scripts that come first on the PATH of a login that is root, where Compose is no plugin
}

// Login says who logs in.
type Login int

// Who there is.
const (
	Root   Login = iota // who runs the test
	Member              // a user who may use the engine's socket because of a group
	Nobody              // a user who may not
)

// LoginID is the number of these users, one that no distribution gives to an account.
const LoginID = 61790

// Start runs a server on host n, 1 or 2, until the test ends. lines go into its sshd_config. It skips the test where there
// are no engines, and fails it where they are required.
func Start(tb testing.TB, n int, lines ...string) *Host {
	tb.Helper()
	return StartKind(tb, n, Kind{}, lines...)
}

// StartKind is Start for a host of a kind.
func StartKind(tb testing.TB, n int, kind Kind, lines ...string) *Host {
	tb.Helper()
	h := &Host{Engine: newEngine(tb, n)}
	place := sshtest.Place{
		Enter: []string{"nsenter", "--net=" + h.NetNS},
		Free:  h.freeAddress,
		Dial:  h.Dial,
		Env:   []string{"DOCKER_HOST=unix://" + h.Socket},
	}
	if kind.Login != Root {
		place.Login = &sshtest.Login{Name: "sandboxer-test", ID: LoginID}
		if kind.Login == Member {
			place.Login.Group = h.group()
		}
	}
	plugin := !kind.Standalone && kind.Programs == nil
	if !plugin {
		path := "/usr/local/bin:/usr/bin:/bin"
		if kind.Standalone {
			path = filepath.Join(h.dir, "compose") + ":" + path
		}
		place.Env = append(place.Env, "PATH="+h.programs(kind.Programs)+path)
		for _, dir := range []string{"/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"} {
			place.Hide = append(place.Hide, dir+"/docker/cli-plugins")
		}
	}
	h.Server = sshtest.StartIn(tb, place, lines...)
	if h.Home = h.Server.Home; plugin {
		h.prepare(h.Home)
	}
	h.Server.Give(h.Home)
	h.Server.Address = h.relay()
	return h
}

// programs writes scripts into a directory, and returns it as the beginning of a PATH.
func (h *Host) programs(scripts map[string]string) string {
	if len(scripts) == 0 {
		return ""
	}
	dir := h.tb.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil { //nolint:gosec // it is run
			h.tb.Fatal(err)
		}
	}
	return dir + ":"
}

// Host describes the host to an adapter. Its credential is [Host.Secret]'s; its Options are empty.
func (h *Host) Host() sandboxer.Host {
	host := h.Server.Host()
	host.ID = "host-" + strconv.Itoa(h.n)
	return host
}

// Secret is a [sandboxer.SecretFunc] that gives out the host's key.
func (h *Host) Secret(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
	return h.Server.Secret(ctx, ref)
}

// Proxy starts a further way to the server, which does what networks do: set the Address of a [sandboxer.Host] to its.
func (h *Host) Proxy() *sshtest.Proxy {
	h.tb.Helper()
	return sshtest.NewProxyTo(h.tb, h.dialServer)
}

func (h *Host) dialServer() (net.Conn, error) {
	return h.Dial(context.Background(), "tcp", h.Server.ListenAddress())
}

// relay passes connections to a port of the test's loopback on to the server.
func (h *Host) relay() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.tb.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open, ended := map[net.Conn]struct{}{}, false
	track := func(c net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return false
		}
		open[c] = struct{}{}
		return true
	}
	serve := func(client *net.TCPConn) {
		defer func() {
			_ = client.Close()
			mu.Lock()
			delete(open, client)
			mu.Unlock()
		}()
		server, err := h.dialServer()
		if err != nil || !track(client) {
			_ = client.SetLinger(0) // nobody listens: as close to a refusal as one that was taken can get
			if err == nil {
				_ = server.Close()
			}
			return
		}
		defer func() { _ = server.Close() }()
		wg.Go(func() { pass(server.(*net.TCPConn), client) })
		pass(client, server.(*net.TCPConn))
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c.(*net.TCPConn)) })
		}
	})
	h.tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		ended = true
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// pass copies until the end, or until the other side is gone, and says so.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_, _ = to.Close(), from.Close()
		return
	}
	_ = to.CloseWrite()
}
