package hosttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// EnvDocker names the variable with the directory of the engines.
const EnvDocker = "SANDBOXER_DOCKER"

// Image is in both engines: busybox with all of its commands, and sh as its default one.
const Image = "sandboxer-test/busybox:1"

// Host is one of the hosts, with a server of its own.
type Host struct {
	Server *sshtest.Server // its Address is on the test's loopback and stays the same when it is started again
	Socket string          // the engine's, which is DOCKER_HOST in the server's sessions

	tb    testing.TB
	n     int
	netns string
}

// Start runs a server on host n, 1 or 2, until the test ends. lines go into its sshd_config. It skips the test where there
// are no engines, and fails it where they are required.
func Start(tb testing.TB, n int, lines ...string) *Host {
	tb.Helper()
	dir := os.Getenv(EnvDocker)
	if dir == "" {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			tb.Fatalf("%s is not set: run scripts/real/docker.sh", EnvDocker)
		}
		tb.Skipf("%s is not set; it needs real Docker engines (make test starts them)", EnvDocker)
	}
	if n != 1 && n != 2 {
		tb.Fatalf("there is no host %d, but 1 and 2", n)
	}
	engine := filepath.Join(dir, strconv.Itoa(n))
	h := &Host{tb: tb, n: n, Socket: filepath.Join(engine, "docker.sock"), netns: filepath.Join(engine, "netns")}
	h.Server = sshtest.StartIn(tb, sshtest.Place{
		Enter: []string{"nsenter", "--net=" + h.netns},
		Free:  h.freeAddress,
		Dial:  h.Dial,
		Env:   []string{"DOCKER_HOST=unix://" + h.Socket},
	}, lines...)
	plugins := filepath.Join(h.Server.Home, ".docker", "cli-plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "compose", "docker-compose"), filepath.Join(plugins, "docker-compose")); err != nil {
		tb.Fatal(err)
	}
	h.Server.Address = h.relay()
	return h
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

// Dial connects as a program on the host would.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inside(h.netns, func() (err error) {
		// No second attempt beside the first: it would be made on another thread, which is not in the namespace.
		d := net.Dialer{FallbackDelay: -1}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (h *Host) dialServer() (net.Conn, error) {
	return h.Dial(context.Background(), "tcp", h.Server.ListenAddress())
}

// freeAddress asks for a port of the host that nobody listens on.
func (h *Host) freeAddress(tb testing.TB) string {
	tb.Helper()
	var address string
	err := inside(h.netns, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		address = l.Addr().String()
		return l.Close()
	})
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

// FreePort is a TCP port on the host's loopback that nobody listens on.
func (h *Host) FreePort() int {
	h.tb.Helper()
	_, port, _ := net.SplitHostPort(h.freeAddress(h.tb))
	n, _ := strconv.Atoi(port)
	return n
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

// Command is the docker client for the host's engine, Compose included.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.Server.Home, "DOCKER_HOST=unix://" + h.Socket}
	return cmd
}

// Docker runs the docker client against the host's engine and returns what it printed. A failure fails the test.
func (h *Host) Docker(args ...string) string {
	h.tb.Helper()
	var stderr strings.Builder
	cmd := h.Command(context.Background(), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.tb.Fatal(fmt.Errorf("docker %s on host %d: %w\n%s", strings.Join(args, " "), h.n, err, stderr.String()))
	}
	return strings.TrimSpace(string(out))
}
