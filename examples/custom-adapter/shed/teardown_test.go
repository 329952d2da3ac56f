//go:build linux || darwin

package shed_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sand-boxer/sandboxer"

	"example.com/custom-adapter/shed"
)

// box is one below dir.
func box(t *testing.T, dir string) (sandboxer.Extension, sandboxer.Target) {
	t.Helper()
	ext, err := shed.Adapter().New(t.Context(), sandboxer.Settings{Config: sandboxer.Inputs{"dir": dir}})
	if err != nil {
		t.Fatal(err)
	}
	req := &sandboxer.ProvisionRequest{
		ID: "a", Attempt: 1, Name: "a", Profile: sandboxer.Profile{Extension: "ext.shed"},
		Labels: map[string]string{sandboxer.LabelOwner: "me"},
	}
	h, err := ext.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return ext, sandboxer.Target{Handle: h, Labels: req.Labels}
}

// left fails unless Teardown says that something is left, as often as it is asked, and Inspect does not say that it is gone.
func left(t *testing.T, ext sandboxer.Extension, target sandboxer.Target) {
	t.Helper()
	for range 2 {
		if report, err := ext.Teardown(t.Context(), target); err == nil || len(report.Left) == 0 {
			t.Errorf("Teardown = %+v, %v; want what is left, and why", report, err)
		}
	}
	if _, err := ext.(sandboxer.Inspector).Inspect(t.Context(), target); errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Inspect: %v", err)
	}
}

func gone(t *testing.T, dir string, ext sandboxer.Extension, target sandboxer.Target) {
	t.Helper()
	if report, err := ext.Teardown(t.Context(), target); err != nil {
		t.Errorf("Teardown = %+v, %v", report, err)
	}
	if _, err := ext.(sandboxer.Inspector).Inspect(t.Context(), target); !errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Inspect after Teardown: %v", err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) > 0 {
		t.Errorf("left %q, %v", names, err)
	}
}

// TestTeardownThatFails: as long as a part of a box cannot be removed, every Teardown says so. The first took away what the
// second would have known the box by, and that one reported success.
func TestTeardownThatFails(t *testing.T) {
	dir := t.TempDir()
	ext, target := box(t, dir)
	r, err := ext.WaitReady(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(r.RemoteDir, strings.Repeat("d/", 300)), 0o700); err != nil {
		t.Fatal(err)
	}
	// Removing a tree takes a descriptor for each level; the superuser cannot do it without either. The limit is the process's:
	// no other test may run beside this one.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	left(t, ext, target)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	gone(t, dir, ext, target)
}

// TestDamagedLabels: a box of which nobody can say any more whose it is has not gone by that.
func TestDamagedLabels(t *testing.T) {
	dir := t.TempDir()
	ext, target := box(t, dir)
	labels := filepath.Join(dir, "a.labels")
	whole, err := os.ReadFile(labels)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(labels, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	left(t, ext, target)
	if err := os.WriteFile(labels, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	gone(t, dir, ext, target)
}

// TestCutOff: what a Provision that was cut off has written is removed, before and after its labels are in place.
func TestCutOff(t *testing.T) {
	for _, file := range []string{"a.new", "a.labels"} {
		dir := t.TempDir()
		ext, target := box(t, dir)
		labels := filepath.Join(dir, "a.labels")
		if err := errors.Join(os.Remove(filepath.Join(dir, "a")), os.Rename(labels, filepath.Join(dir, file))); err != nil {
			t.Fatal(err)
		}
		gone(t, dir, ext, target)
	}
}
