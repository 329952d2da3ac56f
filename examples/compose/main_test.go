package main

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNobodyThere: without a host there is an error that says so, and nothing is waited for. Against a real host it is run by
// the tests of the adapter.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	o := options{
		store: filepath.Join(t.TempDir(), "store.db"), repo: "stack", service: "shell", key: filepath.Join(t.TempDir(), "none"), host: "nobody@127.0.0.1:1",
	}
	err := run(context.Background(), io.Discard, o)
	if code := sandboxer.CodeOf(err); code != sandboxer.Unauthenticated {
		t.Errorf("without a key: %v (%s)", err, code)
	}
}
