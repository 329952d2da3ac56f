//go:build linux || darwin

package local

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

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
	ref := sandboxer.HandleRef{ID: "sbx-0001", Attempt: 2, Extension: "ext.local"}
	if h.Ref() != ref || h.StateVersion() != 1 {
		t.Errorf("%+v of version %d, want %+v of version 1", h.Ref(), h.StateVersion(), ref)
	}
	var got state
	if err := h.State(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state{Root: "/home/builder/.local/state/sandboxer/local"}, got); diff != "" {
		t.Error(diff)
	}
	var e extension
	newer, err := sandboxer.NewHandle(ref, stateVersion+1, map[string]string{"x": "y"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.baseOf(newer); sandboxer.CodeOf(err) != sandboxer.FailedPrecondition {
		t.Errorf("a state of a newer release: %v", err)
	}
	for _, bad := range []any{state{}, state{Root: "relative"}, "text"} {
		h, err := sandboxer.NewHandle(ref, stateVersion, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.baseOf(h); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
