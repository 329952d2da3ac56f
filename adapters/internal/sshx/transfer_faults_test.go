package sshx_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

func tarOf(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data))})
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// distances are those at which transfers take different ways.
var distances = map[string]time.Duration{"near": 0, "far": 10 * time.Millisecond}

func TestTransferIsCutOff(t *testing.T) {
	t.Parallel()
	for name, delay := range distances {
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, upload %v", name, up), func(t *testing.T) {
				t.Parallel()
				s := sshtest.Start(t)
				p, c := behind(t, s, shortLease())
				p.Delay(delay)
				usable(t, c)
				big := filepath.Join(s.Dir, "big")
				if _, err := c.Output(t.Context(), "sh", "-c", `mkdir "$0"; head -c 64000000 /dev/zero >"$0/zeros"`, big); err != nil {
					t.Fatal(err)
				}
				for _, fault := range connectionFaults {
					r, w := io.Pipe()
					done := make(chan error, 1)
					if up {
						go func() { done <- c.Upload(t.Context(), filepath.Join(s.Dir, "up"), r) }()
						archive := tar.NewWriter(w)
						if err := archive.WriteHeader(&tar.Header{Name: "half", Mode: 0o600, Size: 8 << 20}); err != nil {
							t.Fatal(err)
						}
						if _, err := archive.Write(make([]byte, 1<<20)); err != nil {
							t.Fatal(err)
						}
						// Until the host's tar runs nothing was begun, and the upload would rightly begin again elsewhere.
						s.WaitProcess("tar", 20*time.Second)
					} else {
						go func() {
							err := c.Download(t.Context(), big, w)
							_ = w.CloseWithError(err)
							done <- err
						}()
						if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
							t.Fatal(err)
						}
					}
					fault.make(s, p)
					if !up {
						_, _ = io.Copy(io.Discard, r)
					}
					if err := within(t, 20*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Unavailable || sandboxer.IsRefused(err) {
						t.Errorf("%s: error is %v, want Unavailable", fault.name, err)
					}
					_, _ = w.Close(), r.Close()
					s.WaitNoProcess("tar", 20*time.Second)
					fault.repair(p)
					usable(t, c)
				}
			})
		}
	}
}

// Wherever a connection ends, what is not whole is not taken for it, and nothing hangs or stays.
func TestResetAtAnyByte(t *testing.T) {
	t.Parallel()
	data := noise(256 << 10)
	for name, delay := range distances {
		for what, try := range map[string]func(*testing.T, *sshtest.Server, *sshx.Conn) error{
			"exec": func(t *testing.T, _ *sshtest.Server, c *sshx.Conn) error {
				var out bytes.Buffer
				got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("cat; : 7401"), Stdin: bytes.NewReader(data), Stdout: &out})
				if err == nil && (got.ExitCode != 0 || !bytes.Equal(out.Bytes(), data)) {
					t.Errorf("%+v with %d bytes and no error", got, out.Len())
				}
				return err
			},
			"output": func(t *testing.T, _ *sshtest.Server, c *sshx.Conn) error {
				var out, errs bytes.Buffer
				got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("head -c 150000 /dev/zero; head -c 150000 /dev/zero >&2; exit 7"), Stdout: &out, Stderr: &errs})
				if err == nil && (got.ExitCode != 7 || out.Len() != 150000 || errs.Len() != 150000) {
					t.Errorf("%+v with %d and %d bytes and no error", got, out.Len(), errs.Len())
				}
				return err
			},
			"upload": func(t *testing.T, s *sshtest.Server, c *sshx.Conn) error {
				dir := filepath.Join(s.Dir, fmt.Sprint(rand.Int64()))
				err := c.Upload(t.Context(), dir, bytes.NewReader(tarOf(t, "file", data)))
				if err == nil {
					if got := read(t, filepath.Join(dir, "file")); !bytes.Equal(got, data) {
						t.Errorf("%d bytes were uploaded and no error", len(got))
					}
				}
				return err
			},
			"download": func(t *testing.T, s *sshtest.Server, c *sshx.Conn) error {
				var out bytes.Buffer
				err := c.Download(t.Context(), filepath.Join(s.Dir, "down"), &out)
				if err == nil && (!bytes.Contains(out.Bytes(), data) || out.Len()%512 != 0) {
					t.Errorf("%d bytes were downloaded and no error", out.Len())
				}
				return err
			},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				s := sshtest.Start(t)
				p, c := behind(t, s, config())
				p.Delay(delay)
				usable(t, c)
				if err := c.Upload(t.Context(), filepath.Join(s.Dir, "down"), bytes.NewReader(tarOf(t, "file", data))); err != nil {
					t.Fatal(err)
				}
				seed := rand.Uint64()
				r := rand.New(rand.NewPCG(seed, 0))
				failed := 0
				for range 12 {
					p.ResetAfter(r.Int64N(700_000))
					done := make(chan error, 1)
					go func() { done <- try(t, s, c) }()
					err := within(t, 30*time.Second, done)
					if err != nil {
						failed++
						if sandboxer.CodeOf(err) != sandboxer.Unavailable {
							t.Errorf("error is %v, want Unavailable", err)
						}
					}
					p.ResetAfter(-1)
				}
				if t.Failed() || failed == 0 {
					t.Logf("%d failed, seed %d", failed, seed)
				}
				for _, part := range []string{"7401", "tar ", "head "} {
					s.WaitNoProcess(part, 20*time.Second)
				}
				usable(t, c)
				if left := list(t, s.Temp); len(left) > 0 {
					t.Errorf("left: %s", strings.Join(left, ", "))
				}
			})
		}
	}
}
