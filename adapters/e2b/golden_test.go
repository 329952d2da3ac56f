package e2b

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// TestGoldenHandle: a handle of this release is readable for ever.
func TestGoldenHandle(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "handle.v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var h sandboxer.Handle
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	ref := sandboxer.HandleRef{ID: "sbx-0001", Attempt: 2, Extension: "ext.e2b"}
	if h.Ref() != ref || h.StateVersion() != 1 {
		t.Errorf("%+v of version %d, want %+v of version 1", h.Ref(), h.StateVersion(), ref)
	}
	got, err := stateOf(sandboxer.Target{Handle: h})
	if err != nil {
		t.Fatal(err)
	}
	want := state{Sandbox: "i4vqn8rk1xp3", purchase: purchase{
		Key: "v7", Created: time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC), Timeout: 3600, CPU: 2000, Memory: 4 << 30,
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(state{})); diff != "" {
		t.Error(diff)
	}
	newer, err := sandboxer.NewHandle(ref, stateVersion+1, map[string]string{"x": "y"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stateOf(sandboxer.Target{Handle: newer}); sandboxer.CodeOf(err) != sandboxer.FailedPrecondition {
		t.Errorf("a state of a newer release: %v", err)
	}
}
