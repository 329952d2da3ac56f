package sshx_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	out := make([]byte, n)
	_, _ = r.Read(out)
	return out
}

func TestStreams(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		delay   time.Duration
		config  []string
		prepare func(*testing.T, *sshtest.Server)
		lanes   bool
	}{
		{name: "near"},
		{name: "far", delay: 20 * time.Millisecond, lanes: true},
		{name: "far with one session", delay: 20 * time.Millisecond, config: []string{"MaxSessions 1"}, lanes: true},
		{name: "far without Perl", delay: 20 * time.Millisecond, prepare: withoutPerl},
		{name: "far without forwarding", delay: 20 * time.Millisecond, config: []string{"AllowStreamLocalForwarding no"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t, test.config...)
			if test.prepare != nil {
				test.prepare(t, s)
			}
			p := sshtest.NewProxy(t, s.Address)
			p.Delay(test.delay)
			host := s.Host()
			host.Address = p.Address
			c := connectTo(t, s, config(), host)
			testStreams(t, s, c)
			var left bytes.Buffer
			_, err := c.Receive(t.Context(), sandboxer.ExecRequest{Command: shell(`ls -d "/tmp/sandboxer-$SANDBOXER_EXEC" "$TMPDIR/sandboxer-$SANDBOXER_EXEC" 2>/dev/null; echo end`), Stdout: &left})
			if err != nil || left.String() != "end\n" {
				t.Errorf("when a command begins, what its stream came over is still there: %v\n%s", err, left.String())
			}
			if far := c.RoundTrip() >= 2*test.delay; !far {
				t.Errorf("the round trip is %v", c.RoundTrip())
			}
			var under bytes.Buffer
			_, err = c.Send(t.Context(), sandboxer.ExecRequest{Command: shell("cat >/dev/null; tr '\\0' ' ' </proc/$PPID/cmdline"), Stdin: strings.NewReader("x"), Stdout: &under})
			if lanes := strings.HasPrefix(under.String(), "perl"); err != nil || lanes != test.lanes {
				t.Errorf("it runs under %q, %v", under.String(), err)
			}
			if left := list(t, s.Temp); len(left) > 0 {
				t.Errorf("left after streams: %q", left)
			}
		})
	}
}

func testStreams(t *testing.T, s *sshtest.Server, c *sshx.Conn) {
	for _, size := range []int{0, 1, 256<<10 + 1, 4 * 256 << 10, 9<<20 + 17} {
		data := noise(size)
		name := filepath.Join(s.Dir, "data")
		want := fmt.Sprintf("%x  -\n", sha256.Sum256(data))
		var out bytes.Buffer
		got, err := c.Send(t.Context(), sandboxer.ExecRequest{Command: shell("tee '" + name + "' | sha256sum"), Stdin: bytes.NewReader(data), Stdout: &out})
		if err != nil || got.ExitCode != 0 || out.String() != want {
			t.Errorf("send %d bytes: %+v, %v, %q, want %q", size, got, err, out.String(), want)
		}
		out.Reset()
		var errs bytes.Buffer
		got, err = c.Receive(t.Context(), sandboxer.ExecRequest{Command: shell("echo x >&2; exec cat '" + name + "'"), Stdout: &out, Stderr: &errs})
		if err != nil || got.ExitCode != 0 || !bytes.Equal(out.Bytes(), data) || errs.String() != "x\n" {
			t.Errorf("receive %d bytes: %+v, %v, %d bytes, %q", size, got, err, out.Len(), errs.String())
		}
	}
	got, err := c.Send(t.Context(), sandboxer.ExecRequest{Command: shell("exit 3"), Stdin: bytes.NewReader(noise(8 << 20))})
	if err != nil || got.ExitCode != 3 {
		t.Errorf("a command that reads nothing: %+v, %v", got, err)
	}
	var out bytes.Buffer
	got, err = c.Send(t.Context(), sandboxer.ExecRequest{Command: shell("head -c 3; exit 0"), Stdin: strings.NewReader("abc" + strings.Repeat("d", 8<<20)), Stdout: &out})
	if err != nil || got.ExitCode != 0 || out.String() != "abc" {
		t.Errorf("a command that reads little: %+v, %v, %q", got, err, out.String())
	}
	got, err = c.Receive(t.Context(), sandboxer.ExecRequest{Command: shell("echo x; exit 4"), Stdout: io.Discard})
	if err != nil || got.ExitCode != 4 {
		t.Errorf("a command that fails: %+v, %v", got, err)
	}
	failure := errors.New("the disk is full")
	if _, err := c.Send(t.Context(), sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: iotest.ErrReader(failure)}); !errors.Is(err, failure) {
		t.Errorf("error is %v, want that of the reader", err)
	}
	if _, err := c.Receive(t.Context(), sandboxer.ExecRequest{Command: []string{"cat", "/dev/zero"}, Stdout: brokenWriter{failure}}); !errors.Is(err, failure) {
		t.Errorf("error is %v, want that of the writer", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = c.Receive(ctx, sandboxer.ExecRequest{Command: shell("cat /dev/zero; : 7501"), Stdout: io.Discard})
	if sandboxer.CodeOf(err) != sandboxer.DeadlineExceeded {
		t.Errorf("error is %v, want DeadlineExceeded", err)
	}
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = c.Send(ctx, sandboxer.ExecRequest{Command: shell("cat; : 7502"), Stdin: r})
	if sandboxer.CodeOf(err) != sandboxer.DeadlineExceeded {
		t.Errorf("error is %v, want DeadlineExceeded", err)
	}
	for _, part := range []string{": 7501", "cat /dev/zero", ": 7502"} {
		if left := s.Processes(part); len(left) > 0 {
			t.Errorf("left after a cancelled stream:\n%s", strings.Join(left, "\n"))
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	from, to := filepath.Join(s.Dir, "it's from"), filepath.Join(s.Dir, "to\nthere")
	if _, err := c.Output(t.Context(), "sh", "-c", `mkdir -p "$0/a/empty"; cd "$0"; echo hello >a/f; chmod 640 a/f; ln -s nowhere a/l; ln a/f a/h; touch -d 2001-02-03T04:05:06 a/f`, from); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := c.Download(t.Context(), from, &stream); err != nil {
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), to, &stream); err != nil {
		t.Fatal(err)
	}
	list := `cd "$0"; find . -printf '%P %y %m %l %s %n %T@\n' | grep -v ' d ' | sort; find . -type d | sort`
	want, err1 := c.Output(t.Context(), "sh", "-c", list, from)
	got, err2 := c.Output(t.Context(), "sh", "-c", list, to)
	if err1 != nil || err2 != nil || len(want) == 0 {
		t.Fatal(err1, err2)
	}
	// The stream of GNU tar's default format has whole seconds.
	cut := func(b []byte) string { return strings.ReplaceAll(string(b), ".0000000000", "") }
	wl, gl := strings.Split(cut(want), "\n"), strings.Split(cut(got), "\n")
	if len(wl) != len(gl) || wl[1] != gl[1] {
		t.Errorf("from:\n%s\nto:\n%s", want, got)
	}
	if err := c.Download(t.Context(), filepath.Join(s.Dir, "missing"), io.Discard); err == nil {
		t.Error("a directory that is missing was downloaded")
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(s.Dir, "echo")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}
		}()
		conn, err := c.Dial(t.Context(), network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "hello")
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
			t.Errorf("%s: got %q, %v", network, got, err)
		}
		_ = conn.Close()
		if conn, err = c.Dial(t.Context(), network, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: error is %v, want a timeout", network, err)
		}
		_ = conn.Close()
		_ = l.Close()
		if _, err := c.Dial(t.Context(), network, l.Addr().String()); sandboxer.CodeOf(err) != sandboxer.Unavailable || !sandboxer.IsRefused(err) {
			t.Errorf("%s: error is %v, want Unavailable, refused", network, err)
		}
	}
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "from here")
			_ = conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "from here" {
		t.Errorf("got %q, %v", got, err)
	}
	_, _ = conn.Close(), l.Close()
}
