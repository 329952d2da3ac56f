//go:build linux || darwin

package local_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// The host program that is killed: it makes, uses and removes sandboxes of a few names until then.
const (
	boxes     = 3
	hostOwner = "host.store"
)

func boxID(i int) sandboxer.ID { return sandboxer.ID(fmt.Sprintf("crash-%d", i)) }
func snapID(i int) string      { return fmt.Sprintf("snap-%d", i) }

// hostProgram works below root in one of several ways, and does not end by itself.
func hostProgram(root, way string) error {
	ctx := context.Background()
	ext, err := open(ctx, root, nil)
	if err != nil {
		return err
	}
	if way == "small-files" {
		return smallFiles(ctx, ext)
	}
	fmt.Println("ready")
	failed := make(chan error)
	for i := range boxes {
		go func() {
			for {
				if err := live(ctx, ext, i); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// live is one sandbox from its beginning to its end, with all that can be under way when a program dies.
func live(ctx context.Context, ext extension, i int) error {
	h, err := ext.Provision(ctx, request(boxID(i), hostOwner))
	if err != nil {
		return err
	}
	box := targetOf(h, hostOwner)
	run := func(script string) error {
		res, err := ext.Exec(ctx, box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Stdout: io.Discard})
		if err == nil {
			err = res.Err()
		}
		return err
	}
	if err := run(`mkdir -p d/e; head -c 300000 /dev/urandom >d/e/f; chmod 500 d/e d; (setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &); sleep 1000 & echo x`); err != nil {
		return err
	}
	labels := map[string]string{sandboxer.LabelOwner: hostOwner}
	s, err := ext.Snapshot(ctx, box, sandboxer.SnapshotRequest{ID: snapID(i), Labels: labels})
	if err != nil {
		return err
	}
	if _, err := ext.Teardown(ctx, box); err != nil {
		return err
	}
	if h, err = ext.Restore(ctx, request(boxID(i), hostOwner), s); err != nil {
		return err
	}
	box = targetOf(h, hostOwner)
	if err := run(`sleep 1000 & echo x`); err != nil {
		return err
	}
	if _, err := ext.Teardown(ctx, box); err != nil {
		return err
	}
	return ext.DeleteSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: s})
}

// startHost runs the host program, or with "small-files" returns what it says when it has ended.
func startHost(t *testing.T, root, way string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), "host-program", root, way)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("the host program said %q, %v", line, err)
	}
	return cmd
}

// TestWhatACrashLeavesIsFoundByName kills a host program at any moment and knows nothing afterwards but names.
func TestWhatACrashLeavesIsFoundByName(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	found := 0
	for range 12 {
		cmd := startHost(t, root, "live")
		delay := time.NewTimer(time.Duration(rand.IntN(400)) * time.Millisecond)
		<-delay.C
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		found += len(everything(t, root))
		for s, err := range ext.ListSnapshots(t.Context(), sandboxer.ListQuery{}) {
			if err != nil {
				t.Fatalf("a half-written snapshot is visible: %v", err)
			}
			checkSnapshot(t, ext, s)
		}
		for _, err := range ext.List(t.Context(), sandboxer.ListQuery{}) {
			if err != nil {
				t.Fatalf("a half-made sandbox cannot be listed: %v", err)
			}
		}
		for i := range boxes {
			ref := sandboxer.HandleRef{ID: boxID(i), Attempt: 1, Extension: "ext.local"}
			teardown(t, ext, targetOf(sandboxer.BareHandle(ref), hostOwner))
			gone := sandboxer.Snapshot{ID: snapID(i), Labels: map[string]string{sandboxer.LabelOwner: hostOwner}}
			if err := ext.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: gone}); err != nil {
				t.Errorf("DeleteSnapshot: %v", err)
			}
			if left := running(t, "SANDBOXER_SANDBOX="+string(boxID(i))+"."); len(left) > 0 {
				t.Errorf("running: %q", left)
			}
		}
		if left := everything(t, root); len(left) > 0 {
			t.Fatalf("left below the root: %q", left)
		}
	}
	if found == 0 {
		t.Error("no crash left anything: the test shows nothing")
	}
}

// checkSnapshot restores what a listing shows.
func checkSnapshot(t *testing.T, ext extension, s sandboxer.Snapshot) {
	t.Helper()
	req := request(sandboxer.NewID(), hostOwner)
	h, err := ext.Restore(t.Context(), req, s)
	if err != nil {
		t.Errorf("a visible snapshot cannot be restored: %v", err)
	}
	if !h.IsZero() {
		teardown(t, ext, targetOf(h, hostOwner))
	}
}

// smallFiles does what needs space while files may not be larger than 128 KiB.
func smallFiles(ctx context.Context, ext extension) error {
	fmt.Println("ready")
	h, err := ext.Provision(ctx, request(boxID(0), hostOwner))
	if err != nil {
		return err
	}
	box := targetOf(h, hostOwner)
	if _, err := ext.Exec(ctx, box, sandboxer.ExecRequest{Command: []string{"sh", "-c", `for i in 1 2 3 4; do head -c 100000 /dev/urandom >$i; done`}}); err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 128 << 10, Max: 128 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	return outOfSpace(ctx, ext, box)
}

// outOfSpace tries what cannot succeed and says whether it failed as it should.
func outOfSpace(ctx context.Context, ext extension, box sandboxer.Target) error {
	if _, err := ext.Snapshot(ctx, box, sandboxer.SnapshotRequest{ID: snapID(0), Labels: box.Labels}); sandboxer.CodeOf(err) != sandboxer.ResourceExhausted {
		return fmt.Errorf("Snapshot: %w", err)
	}
	for s, err := range ext.ListSnapshots(ctx, sandboxer.ListQuery{}) {
		return fmt.Errorf("a snapshot is visible: %v, %w", s, err)
	}
	if err := ext.CopyIn(ctx, box, "", tarOf("big", strings.Repeat("x", 4<<20))); sandboxer.CodeOf(err) != sandboxer.ResourceExhausted {
		return fmt.Errorf("CopyIn: %w", err)
	}
	if _, err := ext.Teardown(ctx, box); err != nil {
		return fmt.Errorf("Teardown: %w", err)
	}
	return fmt.Errorf("as it should be")
}

func TestNothingHalfIsVisibleWhenFilesMayNotGrow(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	out, err := exec.Command(self(t), "host-program", root, "small-files").CombinedOutput()
	if err == nil || string(out) != "ready\nas it should be\n" {
		t.Fatalf("%s (%v)", out, err)
	}
	if left := everything(t, root); len(left) > 0 {
		t.Errorf("left below the root: %q", left)
	}
}

// TestFullDisk needs a file system of its own, which only root on Linux can have; the test above covers the rest.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 || mountSmall(disk) != nil {
		return
	}
	defer func() {
		if err := unmount(disk); err != nil {
			t.Error(err)
		}
	}()
	root := filepath.Join(disk, "root")
	ext, err := open(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ext.Close() }()
	h, err := ext.Provision(t.Context(), request(boxID(0), hostOwner))
	if err != nil {
		t.Fatal(err)
	}
	box := targetOf(h, hostOwner)
	if _, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", `head -c 1000000 /dev/urandom >kept; cat /dev/zero >filler; head -c 4096 /dev/zero >filler2`}}); err != nil {
		t.Fatal(err)
	}
	// Not a byte is free: not even a claim can be written.
	if h, err := ext.Provision(t.Context(), request(boxID(1), hostOwner)); sandboxer.CodeOf(err) != sandboxer.ResourceExhausted || !sandboxer.IsRefused(err) || !h.IsZero() {
		t.Errorf("Provision on a full disk: %v, %v; want it refused, ResourceExhausted", h, err)
	}
	if left := running(t, "SANDBOXER_SANDBOX="+string(boxID(1))); len(left) > 0 {
		t.Errorf("running: %q", left)
	}
	if err := outOfSpace(t.Context(), ext, box); fmt.Sprint(err) != "as it should be" {
		t.Error(err)
	}
	if left := everything(t, root); len(left) > 0 {
		t.Errorf("left below the root: %q", left)
	}
}
