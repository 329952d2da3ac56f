//go:build unix

package boltstore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// The file is mapped into memory: what happens to it happens to an open store. It must be an error, not a crash, and never
// a record that nobody wrote.
func TestFileChangesUnderAnOpenStore(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, f *os.File, size int64){
		"a record is changed": func(t *testing.T, f *os.File, size int64) {
			b := make([]byte, size)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			for at := 0; ; at++ { // wherever it stands
				i := bytes.Index(b[at:], []byte("the body"))
				if i < 0 {
					return
				}
				at += i
				if _, err := f.WriteAt([]byte("THE"), int64(at)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"all pages are overwritten": func(t *testing.T, f *os.File, size int64) {
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)-8192), 8192); err != nil {
				t.Fatal(err)
			}
		},
		"it is cut": func(t *testing.T, f *os.File, _ int64) {
			if err := f.Truncate(8192); err != nil {
				t.Fatal(err)
			}
		},
		"it is emptied": func(t *testing.T, f *os.File, _ int64) {
			if err := f.Truncate(0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			s, err := boltstore.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			k := store.Key{Kind: "sandbox", ID: "k"}
			put := store.Mutation{Do: store.Put, Key: k, Expect: store.AnyRev, Tags: []string{"live"}, Body: []byte("the body")}
			if _, err := s.Commit(t.Context(), put); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			spoil(t, f, info.Size())

			if rs, err := s.Get(t.Context(), k); err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Get: %+v, %v", rs, err)
			}
			var last error
			for _, err := range s.Scan(t.Context(), store.Query{Kind: "sandbox", Tag: "live"}) {
				last = err
			}
			if last == nil || !strings.Contains(last.Error(), "damaged") {
				t.Errorf("Scan: %v", last)
			}
			put.Do, put.Tags, put.Body, put.Delta = store.Add, nil, nil, 1
			for range 2 {
				if _, err := s.Commit(t.Context(), put); err == nil || sandboxer.CodeOf(err) == sandboxer.Aborted {
					t.Errorf("Commit: %v", err)
				}
			}
			if name == "a record is changed" {
				other := store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: "other"}}
				if _, err := s.Commit(t.Context(), other); err != nil {
					t.Errorf("a commit that has nothing to do with it: %v", err)
				}
			}
			_ = s.Close() // an error or none, but it returns
			if s, err = boltstore.Open(t.Context(), path); err == nil {
				t.Error("it could be opened again")
				_ = s.Close()
			} else if strings.Contains(err.Error(), "it open") || strings.Contains(err.Error(), "timeout") {
				t.Errorf("the lock was not given back: %v", err)
			}
		})
	}
}
