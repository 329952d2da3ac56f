package saasstub

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
	ref := sandboxer.HandleRef{ID: "sbx-0001", Attempt: 2, Extension: "ext.saasstub"}
	if h.Ref() != ref || h.StateVersion() != 1 {
		t.Errorf("%+v of version %d, want %+v of version 1", h.Ref(), h.StateVersion(), ref)
	}
	if err := read(h); err != nil {
		t.Error(err)
	}
	var got state
	if err := h.State(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state{Serial: 4711}, got); diff != "" {
		t.Error(diff)
	}
	newer, err := sandboxer.NewHandle(ref, stateVersion+1, map[string]string{"x": "y"})
	if err != nil {
		t.Fatal(err)
	}
	if err := read(newer); sandboxer.CodeOf(err) != sandboxer.FailedPrecondition {
		t.Errorf("a state of a newer release: %v", err)
	}
}
