package registry_test

import (
	"errors"
	"os"
	"testing"

	"github.com/sand-boxer/sandboxer/registry"
)

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// TestCatalogueUnwritable: the writer's error arrives.
func TestCatalogueUnwritable(t *testing.T) {
	t.Parallel()
	if err := mustNew(t).WriteCatalogue(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

// TestIteratorsStop: a loop over manifests or profiles may end early.
func TestIteratorsStop(t *testing.T) {
	t.Parallel()
	reg := mustNew(t, adapters(), registry.WithFS(os.DirFS(manifests+"/valid/full")))
	for m := range reg.Manifests() {
		if m.ID != "ext.cloud" {
			t.Fatalf("went on to %s", m.ID)
		}
		break
	}
	for p := range reg.Profiles() {
		if p.ID != "profile.cloud" {
			t.Fatalf("went on to %s", p.ID)
		}
		break
	}
}
