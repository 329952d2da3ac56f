package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func ctx() context.Context { return context.Background() }

func TestLockNamesItsHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	holder, out := child(t, "hold", path)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("the child says %q", out.Text())
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err = boltstore.Open(t.Context(), path)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v to find out", took)
	}
	if !errors.Is(err, sandboxer.FailedPrecondition) || !sandboxer.IsRefused(err) {
		t.Errorf("a second process: %v", err)
	}
	for _, want := range []string{path, fmt.Sprintf("process %d", holder.Process.Pid), filepath.Base(os.Args[0]), host, "has had it open since 20", "; stop that one, or use another file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}

	// A process that was killed leaves its lock file behind, and no lock.
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	if _, err := os.Stat(path + ".lock"); err != nil {
		t.Errorf("the test wants a lock file that was left behind: %v", err)
	}
	s, err := boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if _, err := boltstore.Open(t.Context(), path); !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(err.Error(), ": this process has it open already; use that store") {
		t.Errorf("a second time in one process: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(t.Context(), link); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("by another name: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := boltstore.Open(ended, path); !errors.Is(err, sandboxer.Canceled) {
		t.Errorf("under a context that ended: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Close left the lock file: %v", err)
	}
}

// A process that is killed in the middle of commits loses nothing that it was told is done.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	acked := make(map[string]int64)
	for round := range 4 {
		cmd, out := child(t, "commit", path)
		for n := 0; n < 50+97*round && out.Scan(); n++ {
			note(t, acked, out.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for out.Scan() { // what it still said before it died
			note(t, acked, out.Text())
		}
		_ = cmd.Wait()
		s, err := boltstore.Open(t.Context(), path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n := 0
		for r, err := range s.Scan(t.Context(), store.Query{Kind: "sandbox", Tag: "live"}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; string(r.Body) != r.Key.ID {
				t.Errorf("record %s holds %q", r.Key, r.Body)
			}
			if rev, ok := acked[r.Key.ID]; ok && rev != r.Rev {
				t.Errorf("record %s: rev %d was acknowledged, and rev %d is there", r.Key, rev, r.Rev)
			}
			delete(acked, r.Key.ID)
		}
		if len(acked) > 0 {
			t.Fatalf("round %d: %d acknowledged commits are lost: %v", round, len(acked), acked)
		}
		counter, err := s.Get(t.Context(), store.Key{Kind: "counter", ID: "n"})
		if err != nil || counter[0].N != int64(n) {
			t.Errorf("round %d: %d records and a counter of %d (%v)", round, n, counter[0].N, err)
		}
		ms := []store.Mutation{{Do: store.Delete, Key: counter[0].Key, Expect: counter[0].Rev}} // each round counts its own
		for r, err := range s.Scan(t.Context(), store.Query{Kind: "sandbox"}) {
			if err != nil {
				t.Fatal(err)
			}
			ms = append(ms, store.Mutation{Do: store.Delete, Key: r.Key, Expect: r.Rev})
		}
		for len(ms) > 0 {
			n := min(len(ms), store.MaxMutations)
			if _, err := s.Commit(t.Context(), ms[:n]...); err != nil {
				t.Fatal(err)
			}
			ms = ms[n:]
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func note(t *testing.T, acked map[string]int64, line string) {
	t.Helper()
	var id string
	var rev int64
	if n, err := fmt.Sscan(line, &id, &rev); n != 2 || err != nil {
		t.Fatalf("the child says %q", line)
	}
	acked[id] = rev
}
