package boltstore_test

import (
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/manager/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	conform(t, func(path string) (*boltstore.Store, error) { return boltstore.Open(ctx(), path) })
}

// Where runs of the system cannot be told apart, commits are synced in two steps.
func TestStoreOnOtherSystems(t *testing.T) {
	t.Parallel()
	conform(t, func(path string) (*boltstore.Store, error) {
		return boltstore.OpenIn(ctx(), path, 0, slog.New(slog.DiscardHandler))
	})
}

func conform(t *testing.T, open func(path string) (*boltstore.Store, error)) {
	var mu sync.Mutex
	paths := make(map[store.Store]string)
	opened := func(t testing.TB, path string) store.Store {
		s, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		mu.Lock()
		defer mu.Unlock()
		paths[s] = path
		return s
	}
	storetest.Run(t,
		func(t testing.TB) store.Store { return opened(t, filepath.Join(t.TempDir(), "db")) },
		storetest.WithReopen(func(t testing.TB, s store.Store) store.Store {
			if err := s.(*boltstore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			path := paths[s]
			mu.Unlock()
			return opened(t, path)
		}))
}
