package hosttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// EnvDocker names the variable with the directory of the engines.
const EnvDocker = "SANDBOXER_DOCKER"

// Image is in both engines: busybox with all of its commands, and sh as its default one.
const Image = "sandboxer-test/busybox:1"

// Engine is a host without a server: for tests that need no way to it but the test's own.
type Engine struct {
	Socket string // DOCKER_HOST without unix://
	Home   string // HOME of Command, with Compose as a plugin
	NetNS  string // the host's network namespace, a file for nsenter and setns

	tb  testing.TB
	dir string
	n   int
}

// Open returns the engine of host n, 1 or 2. It skips the test where there are no engines, and fails it where they are
// required.
func Open(tb testing.TB, n int) *Engine {
	tb.Helper()
	e := newEngine(tb, n)
	e.prepare(tb.TempDir())
	return e
}

func newEngine(tb testing.TB, n int) *Engine {
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
	return &Engine{tb: tb, dir: dir, n: n, Socket: filepath.Join(engine, "docker.sock"), NetNS: filepath.Join(engine, "netns")}
}

// prepare puts Compose into a home directory.
func (e *Engine) prepare(home string) {
	e.tb.Helper()
	e.Home = home
	plugins := filepath.Join(home, ".docker", "cli-plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		e.tb.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(e.dir, "compose", "docker-compose"), filepath.Join(plugins, "docker-compose")); err != nil {
		e.tb.Fatal(err)
	}
}

// Dial connects as a program on the host would.
func (e *Engine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inside(e.NetNS, func() (err error) {
		// No second attempt beside the first: it would be made on another thread, which is not in the namespace.
		d := net.Dialer{FallbackDelay: -1}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// freeAddress asks for a port of the host that nobody listens on.
func (e *Engine) freeAddress(tb testing.TB) string {
	tb.Helper()
	var address string
	err := inside(e.NetNS, func() error {
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
func (e *Engine) FreePort() int {
	e.tb.Helper()
	_, port, _ := net.SplitHostPort(e.freeAddress(e.tb))
	n, _ := strconv.Atoi(port)
	return n
}

// Command is the docker client for the host's engine. It runs plugins as processes of their own, which outlive a client that
// ctx killed: for Compose there is [Engine.Compose].
func (e *Engine) Command(ctx context.Context, args ...string) *exec.Cmd {
	return e.command(ctx, "docker", args...)
}

// Compose is Compose for the host's engine, run as a program and not as a plugin.
func (e *Engine) Compose(ctx context.Context, args ...string) *exec.Cmd {
	return e.command(ctx, filepath.Join(e.dir, "compose", "docker-compose"), args...)
}

func (e *Engine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Home, "DOCKER_HOST=unix://" + e.Socket}
	cmd.WaitDelay = 5 * time.Second // for what still has its pipes
	return cmd
}

// Docker runs the docker client against the host's engine and returns what it printed. A failure fails the test.
func (e *Engine) Docker(args ...string) string {
	e.tb.Helper()
	var stderr strings.Builder
	run := func() ([]byte, error) {
		stderr.Reset()
		cmd := e.Command(context.Background(), args...)
		cmd.Stderr = &stderr
		return cmd.Output()
	}
	out, err := run()
	var exit *exec.ExitError
	for tries := 0; args[0] == "exec" && errors.As(err, &exit) && exit.ExitCode() == 126 && tries < 20; tries++ {
		<-time.After(200 * time.Millisecond) // a busy engine sometimes cannot start a process
		out, err = run()
	}
	if err != nil {
		e.tb.Fatal(fmt.Errorf("docker %s on host %d: %w\n%s", strings.Join(args, " "), e.n, err, stderr.String()))
	}
	return strings.TrimSpace(string(out))
}
