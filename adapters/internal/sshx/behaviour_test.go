package sshx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

func TestLoginFilesThatPrint(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	write(t, s.Home, ".bashrc", "echo welcome; echo trouble >&2; printf 'no line end'\n")
	c := connect(t, s, config())
	var stdout, stderr bytes.Buffer
	_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("printf out; printf err >&2"), Stdout: &stdout, Stderr: &stderr})
	if err != nil || stdout.String() != "out" || stderr.String() != "err" {
		t.Errorf("got %q and %q, %v", stdout.String(), stderr.String(), err)
	}
	if out, err := c.Output(t.Context(), "printf", "out"); err != nil || string(out) != "out" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestAccountWithoutAShell(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, "ForceCommand echo this account is closed; exit 1")
	c := connect(t, s, config())
	for range 2 {
		_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
		if !sandboxer.IsRefused(err) {
			t.Errorf("error is %v, want a refusal", err)
		}
	}
}

// What is secret must be in no process listing, neither of the server nor of this machine (which are the same here).
func TestNothingSecretInProcessListings(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: shell("sleep 7601"), Env: map[string]string{"KEY": "hunter2secret"}})
		done <- err
	}()
	s.WaitProcess("sleep 7601", 10*time.Second)
	if list := s.Processes("hunter2secret"); len(list) > 0 {
		t.Errorf("the secret is in\n%s", strings.Join(list, "\n"))
	}
	cancel()
	<-done
}

func TestBackgroundChildrenOutliveTheirCommand(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	mark := filepath.Join(s.Dir, "mark")
	p := sshx.NewPool(config())
	c, err := p.Host(t.Context(), s.Host(), s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("(sleep 1; echo done >'" + mark + "') >/dev/null 2>&1 &")})
	if err != nil || got.ExitCode != 0 {
		t.Fatal(got, err)
	}
	_ = p.Close()
	s.WaitNoProcess("", 10*time.Second)
	if text, err := os.ReadFile(mark); err != nil || string(text) != "done\n" {
		t.Errorf("the child was ended with the connection: %q, %v", text, err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	usable(t, c)
	var out bytes.Buffer
	got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("echo begun; sleep 7602"), Stdout: &out, Timeout: 300 * time.Millisecond})
	if err != nil || !got.TimedOut || out.String() != "begun\n" {
		t.Errorf("%+v, %v, %q", got, err, out.String())
	}
	s.WaitNoProcess("sleep 7602", 0)
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWriterThatFailsEndsTheCommand(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	full := errors.New("full")
	_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("echo x; sleep 7603"), Stdout: brokenWriter{full}})
	if !errors.Is(err, full) {
		t.Errorf("error is %v, want the writer's", err)
	}
	s.WaitNoProcess("sleep 7603", 0)
}

func TestInputThatBlocks(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"true"}, Stdin: r})
	if err != nil || got.ExitCode != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOneWriterForBothStreams(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	var both bytes.Buffer // the race detector tells
	_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("i=0; while [ $i -lt 500 ]; do echo o; echo e >&2; i=$((i+1)); done"), Stdout: &both, Stderr: &both})
	if err != nil || both.Len() != 2000 {
		t.Errorf("%d bytes, %v", both.Len(), err)
	}
}

func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	for name, req := range map[string]sandboxer.ExecRequest{
		"no command":         {},
		"NUL in an argument": {Command: []string{"a", "b\x00"}},
		"NUL in a value":     {Command: []string{"a"}, Env: map[string]string{"A": "\x00"}},
		"name of a variable": {Command: []string{"a"}, Env: map[string]string{"A=B;C": ""}},
		"hyphen":             {Command: []string{"-c"}},
		"no such directory":  {Command: []string{"true"}, Dir: "/does/not/exist"},
	} {
		if _, err := c.Exec(t.Context(), req); sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
			t.Errorf("%s: error is %v, want InvalidArgument, refused", name, err)
		}
	}
}

// lockedBuffer is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) await(t *testing.T, part string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		l.mu.Lock()
		text := l.b.String()
		l.mu.Unlock()
		if strings.Contains(text, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come; there is %q", part, text)
		}
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	var out lockedBuffer
	in, typing := io.Pipe()
	resize := make(chan sandboxer.WindowSize)
	done := make(chan error, 1)
	var got sandboxer.ExecResult
	go func() {
		var err error
		got, err = c.Exec(t.Context(), sandboxer.ExecRequest{
			Command: shell(`echo "tty=$(tty | cut -c1-8) term=$TERM size=$(stty size) k=$K"; read x; until [ "$(stty size)" = "40 120" ]; do sleep 0.05; done; echo "got=$x size=$(stty size)"; exit 5`),
			Env:     map[string]string{"K": "a\rb\x03\nc"}, Stdin: in, Stdout: &out,
			TTY: &sandboxer.TTY{Term: "vt100", Cols: 100, Rows: 30, Resize: resize},
		})
		done <- err
	}()
	out.await(t, "tty=/dev/pts term=vt100 size=30 100 k=a\rb\x03\r\nc")
	resize <- sandboxer.WindowSize{Cols: 120, Rows: 40}
	_, _ = io.WriteString(typing, "typed\n")
	if err := within(t, 10*time.Second, done); err != nil || got.ExitCode != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	out.await(t, "got=typed size=40 120")
	if text := out.b.String(); !strings.HasPrefix(text, "tty=") {
		t.Errorf("the output begins with what is not the command's: %q", text)
	}
	_ = typing.Close()

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: shell(fmt.Sprintf(tree, 7610)), TTY: &sandboxer.TTY{}})
		done <- err
	}()
	s.WaitProcess("sleep 76103", 10*time.Second)
	cancel()
	if err := within(t, 10*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Canceled {
		t.Errorf("error is %v, want Canceled", err)
	}
	s.WaitNoProcess("sleep 7610", time.Second)
}

func TestSmall(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			want := fmt.Sprintf("%d\x00\n'", i)
			got, err := c.Small(t.Context(), sandboxer.ExecRequest{Command: shell(`printf '%s\0\n' "$A"; printf "'"; echo e >&2; exit ` + fmt.Sprint(i)), Env: map[string]string{"A": fmt.Sprint(i)}, Dir: "/"})
			if err != nil || string(got.Stdout) != want || string(got.Stderr) != "e\n" || got.ExitCode != i {
				t.Errorf("%d: %q %q %d, %v", i, got.Stdout, got.Stderr, got.ExitCode, err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Output(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.HasSuffix(err.Error(), "why") {
		t.Errorf("error is %v", err)
	}
	if _, err := c.Output(t.Context(), "head", "-c", "20000000", "/dev/zero"); sandboxer.CodeOf(err) != sandboxer.ResourceExhausted {
		t.Errorf("error is %v, want ResourceExhausted", err)
	}
	// Something that keeps printing does not get into what others print.
	for i := range 20 {
		_, _ = c.Output(t.Context(), "sh", "-c", "(while sleep 0.01; do echo stray; done) &")
		if out, err := c.Output(t.Context(), "echo", fmt.Sprint(i)); err == nil && string(out) != fmt.Sprintln(i) && !strings.Contains(string(out), "stray") {
			t.Errorf("got %q", out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Output(ctx, "sh", "-c", "setsid sleep 7620 & wait"); sandboxer.CodeOf(err) != sandboxer.DeadlineExceeded {
		t.Errorf("error is %v, want DeadlineExceeded", err)
	}
	s.WaitNoProcess("sleep 7620", time.Second)
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	cfg := config()
	cfg.IdleTimeout = 200 * time.Millisecond
	c := connect(t, s, cfg)
	usable(t, c)
	s.WaitNoProcess("", 10*time.Second)
	usable(t, c)
}

// TestJoinsADialThatIsGivenUp: who comes when the caller that a connection was being made for has just left does not hear of
// that. It was seen to fail where such a dial's end was told to all who waited.
func TestJoinsADialThatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	cfg := config()
	begun, end := make(chan struct{}), make(chan struct{})
	var dials atomic.Int32
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			close(begun)
			select {
			case <-ctx.Done():
				<-end
				return nil, ctx.Err()
			case <-end: // the second came before the first had left, and it goes on for that
			}
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	c := connect(t, s, cfg)
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Output(ctx, "true"); first <- err }()
	<-begun
	leave()
	if err := within(t, 10*time.Second, first); sandboxer.CodeOf(err) != sandboxer.Canceled {
		t.Errorf("who left: %v", err)
	}
	go func() { _, err := c.Output(t.Context(), "true"); second <- err }()
	<-time.After(100 * time.Millisecond) // until it waits; it passes in any case where that takes longer
	close(end)
	if err := within(t, 20*time.Second, second); err != nil {
		t.Errorf("who came then: %v", err)
	}
	if n := dials.Load(); n > 2 {
		t.Errorf("%d dials", n)
	}
}

func TestClosedPool(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	p := sshx.NewPool(config())
	c, err := p.Host(t.Context(), s.Host(), s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	done := running(t.Context(), s, c, 7630)
	_ = p.Close()
	if err := within(t, 5*time.Second, done); err == nil {
		t.Error("a command on a closed pool has no error")
	}
	s.WaitNoProcess("", 10*time.Second)
	if _, err := c.Output(t.Context(), "true"); !sandboxer.IsRefused(err) {
		t.Errorf("error is %v, want a refusal", err)
	}
	if _, err := p.Host(t.Context(), s.Host(), s.Secret); !sandboxer.IsRefused(err) {
		t.Errorf("error is %v, want a refusal", err)
	}
	_ = p.Close()
}

// After faults and use nothing is left open: goleak looks at goroutines, this at descriptors.
func TestNoDescriptorsAreLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc")
	}
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	s := sshtest.Start(t)
	before := count()
	for range 5 {
		p := sshx.NewPool(config())
		c, err := p.Host(t.Context(), s.Host(), s.Secret)
		if err != nil {
			t.Fatal(err)
		}
		many(t, c, 12, 1)
		usable(t, c)
		_ = p.Close()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
