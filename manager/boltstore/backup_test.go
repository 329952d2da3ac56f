package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// A copy made while commits go on holds each of them as a whole or not at all, and opens like any store.
func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := boltstore.Open(t.Context(), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	n := store.Key{Kind: "counter", ID: "n"}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := store.Key{Kind: "sandbox", ID: fmt.Sprint(c, "-", i)}
				if _, err := s.Commit(ctx(), store.Mutation{Do: store.Put, Key: k, Tags: []string{"live"}, Body: body},
					store.Mutation{Do: store.Add, Key: n, Delta: 1}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 5 {
		before, err := s.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.Backup(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprint("copy-", i))
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := boltstore.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		records := int64(0)
		for _, err := range c.Scan(t.Context(), store.Query{Kind: "sandbox", Tag: "live"}) {
			if records++; err != nil {
				t.Fatal(err)
			}
		}
		rs, err := c.Get(t.Context(), n)
		if err != nil || rs[0].N != records || records < before[0].N {
			t.Errorf("the copy has %d records and a counter of %d; before it was made there were %d (%v)", records, rs[0].N, before[0].N, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ended, &bytes.Buffer{}); !errors.Is(err, sandboxer.Canceled) {
		t.Errorf("under a context that ended: %v", err)
	}
	broken := errors.New("no room for the copy")
	if err := s.Backup(t.Context(), failingWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("to a writer that fails: %v", err)
	}
	if _, err := s.Get(t.Context(), n); err != nil {
		t.Errorf("after a copy that failed: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
