package crashtest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestLeftovers uses real processes, files and a real store from many callers that give up at random instants, and then looks
// for what a cancelled call must not leave: descriptors, temporary files, processes, directories. Goroutines are checked for
// the whole package. It runs alone: the descriptors of a process are everybody's. It was seen to fail with a store that is
// not closed.
func TestLeftovers(t *testing.T) { //nolint:paralleltest // see above
	dir := t.TempDir()
	temp := filepath.Join(dir, "tmp")
	root := filepath.Join(dir, "sandboxes")
	for _, d := range []string{temp, root} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", temp)
	before := descriptors(t)
	giveUp(t, dir, root)
	if diff := cmp.Diff(before, descriptors(t)); diff != "" {
		t.Errorf("open descriptors before (-) and after (+):\n%s", diff)
	}
	for _, d := range []string{temp, root} {
		left, err := os.ReadDir(d)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range left {
			t.Errorf("%s is left in %s", e.Name(), d)
		}
	}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, e := range environs {
		if text, err := os.ReadFile(e); err == nil && bytes.Contains(text, []byte(root)) {
			t.Errorf("process %s is left", filepath.Base(filepath.Dir(e)))
		}
	}
}

// giveUp runs the callers over a Manager and closes everything.
func giveUp(t *testing.T, dir, root string) {
	t.Helper()
	st, err := boltstore.Open(t.Context(), filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.WithAdapters(local.Adapter()), registry.WithYAML("ext.local", fmt.Appendf(nil,
		"id: ext.local\ntitle: Here\nhandler: local\ncapabilities:\n  isolation_levels: [process]\n  pricing_model: free\nconfig:\n  root: %q\n", root)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manager.New(t.Context(), manager.Config{Registry: reg, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 5 {
				impatient(t, m)
			}
		})
	}
	callers.Wait()
	for sb, err := range m.List(t.Context(), manager.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sb.Teardown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for s, err := range m.Snapshots(t.Context(), manager.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DeleteSnapshot(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// impatient does what a caller does until its time is over; where that is does not matter.
func impatient(t *testing.T, m *manager.Manager) {
	ctx, cancel := context.WithTimeout(t.Context(), rand.N(300*time.Millisecond))
	defer cancel()
	sb, err := m.Create(ctx, sandboxer.CreateRequest{Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "impatient"}})
	if err != nil {
		return
	}
	var out bytes.Buffer
	_ = sb.CopyIn(ctx, "", fstest.MapFS{"a/b": {Data: bytes.Repeat([]byte("x"), 1<<20)}})
	_, _ = sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo begun; sleep 0.05; cat a/b"}, Stdout: &out})
	_, _ = sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
	_ = sb.CopyOut(ctx, "", filepath.Join(os.TempDir(), "..", "out-"+string(sb.ID())))
	_, _ = sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", "setsid sleep 600 & sleep 600"}})
}

// descriptors are the process's open ones, as what they point to.
func descriptors(t *testing.T) map[string]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the descriptor of the listing itself
		}
		if fd := "/proc/" + fmt.Sprint(os.Getpid()) + "/fd"; to == fd {
			continue
		}
		out[to]++
	}
	return out
}
