package boltstore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

const sector = 512

// frame is the file as it was when a commit had returned, and what was in it.
type frame struct {
	file []byte
	want string
}

// record makes n random commits in one run of the operating system and returns the frames behind each.
func record(t *testing.T, seed uint64, n int) []frame {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	s, err := boltstore.OpenIn(t.Context(), path, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var frames []frame
	snap := func() {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := contents(t, s)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame{file[:min(len(file), len(bytes.TrimRight(file, "\x00"))+64<<10)], want})
	}
	snap()
	for range n {
		var ms []store.Mutation
		for _, id := range rnd.Perm(60)[:1+rnd.IntN(8)] {
			m := store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: fmt.Sprint(id)}, Expect: store.AnyRev,
				Tags: []string{"live", fmt.Sprint("host=", rnd.IntN(5))}, Body: bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(900))}
			if rnd.IntN(4) == 0 {
				m.Do, m.Tags, m.Body = store.Delete, nil, nil
			}
			ms = append(ms, m)
		}
		ms = append(ms, store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: "n"}, Delta: 1})
		if _, err := s.Commit(t.Context(), ms...); err != nil {
			t.Fatal(err)
		}
		snap()
	}
	return frames
}

// tear returns the file as the end of the system may leave it while it writes what makes before into after: of the sectors
// that differ, those that keep chooses have reached the disk.
func tear(before, after []byte, keep func(sector int) bool) []byte {
	torn := make([]byte, max(len(before), len(after)))
	copy(torn, before)
	for at := 0; at < len(after); at += sector {
		end := min(at+sector, len(after))
		if !bytes.Equal(torn[at:end], after[at:end]) && keep(at/sector) {
			copy(torn[at:end], after[at:end])
		}
	}
	return torn
}

// Whatever part of its writes a commit under way has on the disk when the system ends, every commit that had returned is
// there afterwards, and the one under way is there as a whole or not at all. Seen to fail with examiner.undo returning the
// damage, and while the state did not name its transaction, so that old pages in perfect order passed for new ones.
func TestTornCommits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	undone, kept := 0, 0
	for seed := range uint64(2) {
		frames := record(t, seed, 16)
		rnd := rand.New(rand.NewPCG(seed, 1))
		for i := range len(frames) - 1 {
			before, after := frames[i], frames[i+1]
			for name, keep := range map[string]func(int) bool{
				"nothing":                  func(int) bool { return false },
				"everything":               func(int) bool { return true },
				"the root pages":           func(s int) bool { return s < 16 },
				"all but the root pages":   func(s int) bool { return s >= 16 },
				"half":                     func(int) bool { return rnd.IntN(2) == 0 },
				"most":                     func(int) bool { return rnd.IntN(12) != 0 },
				"the root pages and most":  func(s int) bool { return s < 16 || rnd.IntN(12) != 0 },
				"the beginning of a write": func(s int) bool { return s%8 < 3 },
			} {
				if err := os.WriteFile(path, tear(before.file, after.file, keep), 0o600); err != nil {
					t.Fatal(err)
				}
				var log strings.Builder
				s, err := boltstore.OpenIn(t.Context(), path, 2, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Errorf("seed %d, commit %d, on disk: %s: %v", seed, i+1, name, err)
					continue
				}
				got, err := contents(t, s)
				switch {
				case err != nil:
					t.Errorf("seed %d, commit %d, on disk: %s: %v", seed, i+1, name, err)
				case got == after.want:
					kept++
				case got != before.want:
					t.Errorf("seed %d, commit %d, on disk: %s: neither what was before nor what was committed", seed, i+1, name)
				case strings.Contains(log.String(), "undone"):
					undone++
				}
				if _, err := s.Commit(t.Context(), store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: "new"}}); err != nil {
					t.Errorf("seed %d, commit %d, on disk: %s: Commit: %v", seed, i+1, name, err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("seed %d, commit %d, on disk: %s: Close: %v", seed, i+1, name, err)
				}
			}
		}
	}
	t.Logf("%d commits under way were undone, %d were there", undone, kept)
	if undone == 0 || kept == 0 {
		t.Error("no commit was torn: the test tests nothing")
	}
}

// In the same run of the operating system nothing that was written gets lost, so a last commit that is not whole is damage,
// and what it acknowledged must not be undone. The same when the store was closed.
func TestDamagedLastCommitIsNotUndone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	frames := record(t, 9, 20)
	refused := 0
	for i := range len(frames) - 1 {
		torn := tear(frames[i].file, frames[i+1].file, func(s int) bool { return s < 16 || s%3 != 0 })
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := boltstore.OpenIn(t.Context(), path, 1, slog.New(slog.DiscardHandler))
		if err != nil {
			if !strings.Contains(err.Error(), "damaged") {
				t.Errorf("commit %d: %v", i+1, err)
			}
			refused++
			continue
		}
		got, err := contents(t, s)
		if err != nil || got != frames[i+1].want {
			t.Errorf("commit %d: what was committed is not there (%v)", i+1, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused == 0 {
		t.Error("no commit was damaged: the test tests nothing")
	}
}

// TestDamageThatLooksTorn pins what is not promised: after a restart of the system, one flipped bit in what the last commit wrote
// undoes that commit, although it had returned, and the warning has to say that it may be so. It was seen to fail with a
// warning that told of a commit under way alone.
func TestDamageThatLooksTorn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	frames := record(t, 5, 12)
	before, last := frames[len(frames)-2], frames[len(frames)-1]
	undone := 0
	for at := 8192; at < min(len(before.file), len(last.file)); at += 4096 {
		if bytes.Equal(before.file[at:at+4096], last.file[at:at+4096]) {
			continue
		}
		file := bytes.Clone(last.file)
		file[at+40] ^= 1
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		s, err := boltstore.OpenIn(t.Context(), path, 2, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Errorf("a bit at %d: %v", at+40, err)
			continue
		}
		got, err := contents(t, s)
		switch {
		case err != nil:
			t.Errorf("a bit at %d: %v", at+40, err)
		case got == before.want:
			undone++
			for _, want := range []string{"level=WARN", "is undone", "or the file was damaged since, and then a commit that had returned is lost"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the warning does not say %q: %s", want, log.String())
				}
			}
		case got != last.want:
			t.Errorf("a bit at %d: neither what was before nor what was committed", at+40)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if undone == 0 {
		t.Error("no commit was undone: the test tests nothing")
	}
}
