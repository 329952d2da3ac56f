//go:build linux || darwin

package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
)

// extension is all that the local adapter's extension can do.
type extension interface {
	sandboxer.Extension
	sandboxer.Finder
	sandboxer.Lister
	sandboxer.Executor
	sandboxer.FileTransferer
	sandboxer.Dialer
	sandboxer.Snapshotter
	sandboxer.SnapshotTransferer
	sandboxer.Inspector
	sandboxer.Extender
	sandboxer.Preflighter
	Close() error
}

func open(ctx context.Context, root string, more sandboxer.Inputs) (extension, error) {
	cfg := sandboxer.Inputs{"root": root}
	for k, v := range more {
		cfg[k] = v
	}
	ext, err := local.Adapter().New(ctx, sandboxer.Settings{ExtensionID: "ext.local", Config: cfg})
	if err != nil {
		return nil, err
	}
	return ext.(extension), nil
}

// newExtension opens an extension for the length of the test. All that is left below its root is a failure of the test.
func newExtension(t testing.TB, root string, more sandboxer.Inputs) extension {
	t.Helper()
	ext, err := open(t.Context(), root, more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ext.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return ext
}

func tempRoot(t testing.TB) string { return filepath.Join(t.TempDir(), "root") }

func request(name sandboxer.ID, owner string) *sandboxer.ProvisionRequest {
	return &sandboxer.ProvisionRequest{
		ID: name, Attempt: 1, Name: string(name), Profile: sandboxer.Profile{ID: "profile.local", Extension: "ext.local"},
		Labels: map[string]string{sandboxer.LabelOwner: owner, sandboxer.LabelID: string(name), sandboxer.LabelName: string(name)},
	}
}

func targetOf(h sandboxer.Handle, owner string) sandboxer.Target {
	return sandboxer.Target{Handle: h, Labels: map[string]string{sandboxer.LabelOwner: owner}}
}

const me = "tests.store"

// sandbox provisions one that is torn down, and verified to be gone, at the end of the test.
func sandbox(t testing.TB, ext extension, more ...func(*sandboxer.ProvisionRequest)) sandboxer.Target {
	t.Helper()
	req := request(sandboxer.NewID(), me)
	for _, f := range more {
		f(req)
	}
	h, err := ext.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	target := targetOf(h, me)
	t.Cleanup(func() { teardown(t, ext, target) })
	return target
}

func teardown(t testing.TB, ext extension, target sandboxer.Target) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if report, err := ext.Teardown(ctx, target); err != nil {
		t.Errorf("Teardown: %v; left %q", err, report.Left)
	}
	if _, err := ext.Inspect(ctx, target); sandboxer.CodeOf(err) != sandboxer.NotFound {
		t.Errorf("after Teardown, Inspect says %v", err)
	}
}

func workspace(t testing.TB, ext extension, target sandboxer.Target) string {
	t.Helper()
	r, err := ext.WaitReady(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return r.RemoteDir
}

// shell runs a script and returns what it wrote.
func shell(t testing.TB, ext extension, target sandboxer.Target, script string) string {
	t.Helper()
	var out strings.Builder
	res, err := ext.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil || res.Err() != nil {
		t.Fatalf("%s: %v, %v, output %q", script, err, res.Err(), out.String())
	}
	return out.String()
}

// eventually waits for what another process does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("%s did not happen", what)
}

// running returns the processes whose environment has an entry with this prefix, as /proc shows them.
func running(t testing.TB, prefix string) []string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil // proctree's own tests cover it
	}
	var out []string
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		env, err := os.ReadFile(p)
		if err != nil || len(env) == 0 {
			continue // gone, a zombie, or not ours
		}
		// What an earlier run of the tests left, being killed, has the same names and another directory.
		ours := prefix == "PATH=" || strings.Contains("\x00"+string(env), "\x00TMPDIR="+os.TempDir())
		for _, kv := range strings.Split(string(env), "\x00") {
			if ours && strings.HasPrefix(kv, prefix) {
				cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
				out = append(out, fmt.Sprintf("%s %q", filepath.Base(filepath.Dir(p)), cmd))
			}
		}
	}
	return out
}

// processesOf are those of one sandbox.
func processesOf(t testing.TB, target sandboxer.Target) []string {
	return running(t, "SANDBOXER_SANDBOX="+target.Handle.Ref().Name()+".")
}

// openFiles counts our descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
