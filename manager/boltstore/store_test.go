package boltstore_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/manager/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	paths := make(map[store.Store]string)
	open := func(t testing.TB, path string) store.Store {
		s, err := boltstore.Open(t.Context(), path)
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
		func(t testing.TB) store.Store { return open(t, filepath.Join(t.TempDir(), "db")) },
		storetest.WithReopen(func(t testing.TB, s store.Store) store.Store {
			if err := s.(*boltstore.Store).Close(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			path := paths[s]
			mu.Unlock()
			return open(t, path)
		}))
}
