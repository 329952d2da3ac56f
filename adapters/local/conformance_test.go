//go:build linux || darwin

package local_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/local"
)

func TestConformance(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter {
			a := local.Adapter()
			a.Manifest = []byte(string(a.Manifest) + "config:\n  root: " + root + "\n")
			return a
		},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.local", Extension: "ext.local", Isolation: sandboxer.IsolationProcess}
		},
		Live:   func(t testing.TB) []string { return everything(t, root) },
		Listen: func(port int) []string { return []string{self(t), "echo-server", strconv.Itoa(port)} },
		Bad: []sandboxer.Inputs{
			{"evn": map[string]any{"A": "b"}},
			{"env": "A=b"},
			{"env": map[string]any{"A": 1}},
			{"env": map[string]any{"A=B": "c"}},
			{"env": map[string]any{"A": "b\x00c"}},
			{"env": map[string]any{"SANDBOXER_SANDBOX": "other"}},
		},
	})
}

// everything lists what is below the root, without what is in sandboxes.
func everything(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*", ".*", ".sandboxes/*", ".sandboxes/.*", ".snapshots/*", ".snapshots/.*"} {
		found, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f != "." && f != ".sandboxes" && f != ".snapshots" {
				out = append(out, f)
			}
		}
	}
	return out
}

// self is the path of this test program, which TestMain makes into others.
func self(t testing.TB) string {
	t.Helper()
	at, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return at
}
