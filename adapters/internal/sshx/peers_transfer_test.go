package sshx_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/beside"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// sameCipher is what x/crypto asks for first.
const sameCipher = "aes128-gcm@openssh.com"

// inMemory is a directory that no disk slows down, or an ordinary one.
func inMemory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "peers")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// manyFiles is a tree that everybody has who has Go.
func manyFiles(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "src")
	if _, statErr := os.Stat(dir); err != nil || statErr != nil {
		b.Skipf("there is no tree of many files: %v, %v", err, statErr)
	}
	return dir
}

func pipeline(b *testing.B, parts ...*exec.Cmd) {
	b.Helper()
	var said bytes.Buffer
	for i, cmd := range parts {
		cmd.Stderr = &said
		if i > 0 {
			r, w, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			parts[i-1].Stdout, cmd.Stdin = w, r
			defer func() { _, _ = r.Close(), w.Close() }()
		}
	}
	for i, cmd := range parts {
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if i > 0 {
			_ = parts[i-1].Stdout.(*os.File).Close()
			_ = cmd.Stdin.(*os.File).Close()
		}
	}
	for _, cmd := range parts {
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%s: %v: %s", cmd, err, said.Bytes())
		}
	}
}

// in makes what a round needs and takes it away again, untimed: a new directory for each.
func in(b *testing.B, base string, f func(b *testing.B, dir string)) func() float64 {
	return func() float64 {
		dir, err := os.MkdirTemp(base, "round")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		runtime.GC()
		begin := time.Now()
		f(b, dir)
		return float64(time.Since(begin)) / float64(time.Millisecond)
	}
}

func upload(b *testing.B, c *sshx.Conn, tree, dir string) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	r, w := io.Pipe()
	go func() {
		_, err := archive.PackRoot(b.Context(), w, root, ".", archive.PackOptions{})
		_ = w.CloseWithError(err)
	}()
	if err := c.Upload(b.Context(), dir, r); err != nil {
		b.Fatal(err)
	}
}

func download(b *testing.B, c *sshx.Conn, tree, dir string) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := archive.Extract(b.Context(), r, root, archive.ExtractOptions{})
		_ = r.CloseWithError(err)
		done <- err
	}()
	err = c.Download(b.Context(), tree, w)
	_ = w.CloseWithError(err)
	if second := <-done; err != nil || second != nil {
		b.Fatal(err, second)
	}
}

// BenchmarkPeersTree copies many files, from memory to memory. The peer with a ControlMaster was the slower one: its data
// goes through one process more.
func BenchmarkPeersTree(b *testing.B) {
	s := sshtest.Start(b)
	tree, base := manyFiles(b), inMemory(b)
	from := filepath.Join(base, "tree")
	pipeline(b, exec.Command("cp", "-r", tree, from))
	c, theirs := connect(b, s, plain()), newPeer(b, s, s.Port(), "-c", sameCipher)
	if _, err := c.Output(b.Context(), "true"); err != nil {
		b.Fatal(err)
	}
	ours := in(b, base, func(b *testing.B, dir string) { upload(b, c, from, dir) })
	b.Run("upload of many files: tar, ssh, tar", func(b *testing.B) {
		beside.Compare(b, 7, "ms", 1/1.4, ours, in(b, base, func(b *testing.B, dir string) {
			pipeline(b, exec.Command("tar", "-C", from, "-cf", "-", "."), theirs.command("tar -C '"+dir+"' -xpf -"))
		}))
	})
	b.Run("upload of many files: rsync over ssh", func(b *testing.B) {
		if _, err := exec.LookPath("rsync"); err != nil {
			b.Skip("there is no rsync to compare with")
		}
		beside.Compare(b, 5, "ms", 1/2.0, ours, in(b, base, func(b *testing.B, dir string) {
			pipeline(b, exec.Command("rsync", "-a", "-e", "ssh "+strings.Join(theirs.args, " "), from+"/", s.User+"@127.0.0.1:"+dir+"/"))
		}))
	})
	b.Run("download of many files, extracted: tar, ssh, tar", func(b *testing.B) {
		beside.Compare(b, 7, "ms", 1/1.3, in(b, base, func(b *testing.B, dir string) { download(b, c, from, dir) }), in(b, base, func(b *testing.B, dir string) {
			pipeline(b, theirs.command("tar -C '"+from+"' -cf - ."), exec.Command("tar", "-C", dir, "-xpf", "-"))
		}))
	})
	b.Run("download of many files, as a file: tar, ssh", func(b *testing.B) {
		beside.Compare(b, 7, "ms", 1/1.3, in(b, base, func(b *testing.B, dir string) {
			f, err := os.Create(filepath.Join(dir, "snapshot"))
			if err == nil {
				err = c.Download(b.Context(), from, f)
			}
			if err != nil {
				b.Fatal(err)
			}
			_ = f.Close()
		}), in(b, base, func(b *testing.B, dir string) {
			cmd := theirs.command("tar -C '" + from + "' -cf - .")
			f, err := os.Create(filepath.Join(dir, "snapshot"))
			if err != nil {
				b.Fatal(err)
			}
			cmd.Stdout = f
			pipeline(b, cmd)
			_ = f.Close()
		}))
	})
}

// BenchmarkPeersBulk moves what cannot be compressed, near and far: the delay is that of a proxy in front of both. Far away
// the peer has a ControlMaster, so that it need not connect.
func BenchmarkPeersBulk(b *testing.B) {
	for _, size := range []int{64, 256} {
		for _, delay := range []time.Duration{0, 40 * time.Millisecond} {
			s := sshtest.Start(b)
			p := sshtest.NewProxy(b, s.Address)
			p.Delay(delay)
			host := s.Host()
			host.Address = p.Address
			c := connectTo(b, s, plain(), host)
			_, port, _ := net.SplitHostPort(p.Address)
			theirs := newPeer(b, s, port, "-c", sameCipher)
			rounds, up, down, how := 7, 1/1.0, 1/1.0, ""
			if delay > 0 {
				theirs = theirs.master(b)
				rounds, up, down, how = 5, 1/5.0, 1/5.0, ", ControlMaster"
			}
			data := noise(size << 20)
			file := filepath.Join(inMemory(b), "data")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Output(b.Context(), "true"); err != nil {
				b.Fatal(err)
			}
			exchange := func(send bool) func() error {
				return func() error {
					req := sandboxer.ExecRequest{Command: shell("cat >/dev/null"), Stdin: bytes.NewReader(data)}
					do, n := c.Send, &counter{}
					if !send {
						req = sandboxer.ExecRequest{Command: []string{"cat", file}, Stdout: n}
						do = c.Receive
					}
					got, err := do(context.WithoutCancel(b.Context()), req)
					if err == nil && (got.ExitCode != 0 || !send && n.n != len(data)) {
						err = fmt.Errorf("%+v, %d bytes", got, n.n)
					}
					return err
				}
			}
			b.Run(fmt.Sprintf("upload of %d MiB, round trip %v: ssh%s", size, 2*delay, how), func(b *testing.B) {
				beside.Compare(b, rounds, "ms", up, beside.Timed(b, exchange(true)), beside.Timed(b, func() error {
					cmd := theirs.command("cat >/dev/null")
					cmd.Stdin = bytes.NewReader(data)
					return cmd.Run()
				}))
			})
			b.Run(fmt.Sprintf("download of %d MiB, round trip %v: ssh%s", size, 2*delay, how), func(b *testing.B) {
				beside.Compare(b, rounds, "ms", down, beside.Timed(b, exchange(false)), beside.Timed(b, func() error {
					cmd := theirs.command("cat " + file)
					cmd.Stdout = &counter{}
					return cmd.Run()
				}))
			})
		}
	}
}

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
