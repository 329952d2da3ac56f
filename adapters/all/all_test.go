package all_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/adapters/all"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestAdaptersWorkTogether: all of them in one registry and one Manager, which checks that what they declare is so.
func TestAdaptersWorkTogether(t *testing.T) {
	reg, err := registry.New(registry.WithAdapters(all.Adapters()...))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manager.New(t.Context(), manager.Config{Registry: reg, Store: store.Memory()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoneIsForgotten compares with the manifests that lie beside this package.
func TestNoneIsForgotten(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "*", "ext.*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range files {
		own, err := filepath.Glob(filepath.Join(filepath.Dir(f), "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if len(own) == 0 { // a module of its own is not imported from here
			want = append(want, strings.TrimSuffix(filepath.Base(f), ".yaml"))
		}
	}
	reg, err := registry.New(registry.WithAdapters(all.Adapters()...))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for m := range reg.Manifests() {
		got = append(got, m.ID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Adapters() and the manifests in adapters/ differ (-files +registered):\n%s", diff)
	}
}
