package sshx_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
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
		name  string
		delay time.Duration
	}{{"near", 0}, {"far", 20 * time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t)
			p := sshtest.NewProxy(t, s.Address)
			p.Delay(test.delay)
			host := s.Host()
			host.Address = p.Address
			c := connectTo(t, s, config(), host)
			for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 6 * 256 << 10, 4<<20 + 17} {
				data := noise(size)
				want := fmt.Sprintf("%x  -\n", sha256.Sum256(data))
				var out bytes.Buffer
				got, err := c.Send(t.Context(), sandboxer.ExecRequest{Command: []string{"sha256sum"}, Stdin: bytes.NewReader(data), Stdout: &out})
				if err != nil || got.ExitCode != 0 || out.String() != want {
					t.Errorf("send %d bytes: %+v, %v, %q, want %q", size, got, err, out.String(), want)
				}
				out.Reset()
				name := filepath.Join(s.Dir, "data")
				if _, err := c.Send(t.Context(), sandboxer.ExecRequest{Command: shell("cat >'" + name + "'"), Stdin: bytes.NewReader(data)}); err != nil {
					t.Fatal(err)
				}
				got, err = c.Receive(t.Context(), sandboxer.ExecRequest{Command: []string{"cat", name}, Stdout: &out})
				if err != nil || got.ExitCode != 0 || !bytes.Equal(out.Bytes(), data) {
					t.Errorf("receive %d bytes: %+v, %v, %d bytes", size, got, err, out.Len())
				}
			}
			if far := c.RoundTrip() >= 2*test.delay; !far {
				t.Errorf("the round trip is %v", c.RoundTrip())
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
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err = c.Receive(ctx, sandboxer.ExecRequest{Command: shell("cat /dev/zero; : 7501"), Stdout: io.Discard})
			if sandboxer.CodeOf(err) != sandboxer.DeadlineExceeded {
				t.Errorf("error is %v, want DeadlineExceeded", err)
			}
			if left := strings.Join(s.Processes(), "\n"); strings.Contains(left, "7501") || strings.Contains(left, "cat ") {
				t.Errorf("left after a cancelled stream:\n%s", left)
			}
			if left, err := os.ReadDir(s.Temp); err != nil || len(left) > 0 {
				t.Errorf("left after streams: %v, %v", left, err)
			}
		})
	}
}

func TestTransferIsCutOff(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	p, c := behind(t, s, config())
	usable(t, c)
	for name, fault := range map[string]func(){"reset": func() { p.Reset() }, "restart": func() { s.Restart() }} {
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- c.Upload(t.Context(), filepath.Join(s.Dir, "up"), r) }()
		archive := tar.NewWriter(w)
		if err := archive.WriteHeader(&tar.Header{Name: "half", Mode: 0o600, Size: 8 << 20}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		// Until the host's tar runs nothing was begun, and the upload would rightly begin again on another connection.
		s.WaitProcess("tar", 10*time.Second)
		fault()
		if err := within(t, 15*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Unavailable {
			t.Errorf("%s: error is %v, want Unavailable", name, err)
		}
		_ = w.Close()
		s.WaitNoProcess("tar", 10*time.Second)
		usable(t, c)
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
