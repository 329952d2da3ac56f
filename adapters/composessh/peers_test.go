package composessh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/beside"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// healthy is a stack of one service with a health check, as the peer of the benchmark waits for it.
const healthy = `
services:
  app:
    image: ` + hosttest.Image + `
    command: [sh, -c, "sleep 0.3; touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 1s, retries: 50}
    volumes: [".:/src"]
`

// openSSH is OpenSSH's client for a host, over a connection that is kept.
func openSSH(b *testing.B, h *hosttest.Host) func(args ...string) *exec.Cmd {
	b.Helper()
	where, known := filepath.Join(h.Server.Dir, "master"), filepath.Join(h.Server.Dir, "known")
	host, port, _ := strings.Cut(h.Host().Address, ":")
	ssh := func(args ...string) *exec.Cmd {
		return exec.Command("ssh", append([]string{"-F", "none", "-i", h.Server.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-c", "aes128-gcm@openssh.com",
			"-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=accept-new", "-p", port, "-S", where}, args...)...)
	}
	to := h.Host().User + "@" + host
	if out, err := ssh(to, "true").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	master := ssh("-M", "-N", to)
	if err := master.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = master.Process.Kill(); _ = master.Wait() })
	for begun := time.Now(); ssh("-O", "check", "x").Run() != nil; pause(b, 20*time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			b.Fatal("the ControlMaster does not come up")
		}
	}
	return func(args ...string) *exec.Cmd { return ssh(append([]string{to}, args...)...) }
}

func said(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// BenchmarkPeersCreate measures a create until it is ready beside Compose's own waiting, over a connection that is kept. What
// takes each away again is not counted.
func BenchmarkPeersCreate(b *testing.B) {
	h := hosttest.Start(b, 1)
	repo := repository(b, healthy)
	ext, ssh := build(b, adapter("")), openSSH(b, h)
	ours := func() float64 {
		req := provisionRequest(h, repo)
		var handle sandboxer.Handle
		took := beside.Timed(b, func() (err error) {
			if handle, err = ext.Provision(context.Background(), req); err == nil {
				_, err = ext.WaitReady(context.Background(), target(req, handle))
			}
			return err
		})()
		if _, err := ext.Teardown(context.Background(), target(req, handle)); err != nil {
			b.Fatal(err)
		}
		return took
	}
	theirs := func() float64 {
		took := beside.Timed(b, func() error {
			return said(ssh("docker compose -p peer -f " + filepath.Join(repo, "compose.yaml") + " up -d --wait"))
		})()
		if err := said(ssh("docker compose -p peer down -t 1")); err != nil {
			b.Fatal(err)
		}
		return took
	}
	ours() // what is asked once for each host
	b.Run("create to ready: ssh host docker compose up -d --wait, ControlMaster", func(b *testing.B) { beside.Compare(b, 15, "ms", 0.65, ours, theirs) })
}

// BenchmarkPeersSnapshot measures the download of a snapshot, and of one that is taken first, beside tar of the same directory
// over a connection that is kept. Ours is of one instant, on the host's disk for good, and has a digest.
func BenchmarkPeersSnapshot(b *testing.B) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("there is no go to ask for its source")
	}
	noise := make([]byte, 256<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	for name, c := range map[string]struct {
		target float64
		fill   func(dir string) error
	}{
		"many files": {1 / 1.3, func(dir string) error {
			return said(exec.Command("cp", "-r", filepath.Join(strings.TrimSpace(string(goroot)), "src"), dir))
		}},
		"256 MiB that are noise": {1, func(dir string) error { return os.WriteFile(filepath.Join(dir, "noise"), noise, 0o600) }},
	} {
		b.Run(name, func(b *testing.B) {
			h := hosttest.Start(b, 1)
			repo := repository(b, oneService)
			if err := c.fill(repo); err != nil {
				b.Fatal(err)
			}
			ext, ssh := build(b, adapter("")), openSSH(b, h)
			req := provisionRequest(h, repo)
			handle, err := ext.Provision(context.Background(), req)
			if err != nil {
				b.Fatal(err)
			}
			t := target(req, handle)
			defer func() { _, _ = ext.Teardown(context.Background(), t) }()
			if _, err := ext.WaitReady(context.Background(), t); err != nil {
				b.Fatal(err)
			}
			snaps, _ := sandboxer.As[sandboxer.Snapshotter](ext)
			mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](ext)
			file := filepath.Join(b.TempDir(), "snapshot")
			into := func(f func(w io.Writer) error) error {
				w, err := os.Create(file)
				if err != nil {
					return err
				}
				return errors.Join(f(w), w.Close())
			}
			var at sandboxer.SnapshotTarget
			take := func() error {
				s, err := snaps.Snapshot(context.Background(), t, sandboxer.SnapshotRequest{ID: "kept", Labels: req.Labels})
				at = sandboxer.SnapshotTarget{Snapshot: s, Host: req.Host, Secret: req.Secret}
				return err
			}
			download := func() error {
				return into(func(w io.Writer) error { return mover.ExportSnapshot(context.Background(), at, w) })
			}
			forget := func() {
				if err := snaps.DeleteSnapshot(context.Background(), at); err != nil {
					b.Fatal(err)
				}
			}
			theirs := beside.Timed(b, func() error {
				return into(func(w io.Writer) error {
					cmd := ssh("tar -C " + filepath.Join(h.Server.Home, place, req.Name, "workspace") + " -cf - .")
					cmd.Stdout = w
					return cmd.Run()
				})
			})
			if err := take(); err != nil {
				b.Fatal(err)
			}
			b.Run("snapshot of "+name+", download: ssh host tar, ControlMaster", func(b *testing.B) {
				beside.Compare(b, 7, "ms", c.target, beside.Timed(b, download), theirs)
			})
			forget()
			b.Run("snapshot of "+name+", taken and downloaded: ssh host tar, ControlMaster", func(b *testing.B) {
				beside.Compare(b, 7, "ms", c.target, func() float64 {
					defer forget()
					return beside.Timed(b, func() error { return errors.Join(take(), download()) })()
				}, theirs)
			})
		})
	}
}
