package boltstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// contents is everything that can be read from a store, by scan, by tag and by key.
func contents(t testing.TB, s store.Store) (string, error) {
	t.Helper()
	var b strings.Builder
	ctx := context.Background()
	for _, q := range []store.Query{{Kind: "sandbox"}, {Kind: "counter"}, {Kind: "outbox"}, {Kind: "sandbox", Tag: "live"}, {Kind: "sandbox", Tag: "host=3"}} {
		fmt.Fprintf(&b, "%+v\n", q)
		var keys []store.Key
		for r, err := range s.Scan(ctx, q) {
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%s %d %q %d %x\n", r.Key, r.Rev, r.Tags, r.N, r.Body)
			keys = append(keys, r.Key)
		}
		rs, err := s.Get(ctx, keys...)
		if err != nil {
			return "", err
		}
		for _, r := range rs {
			fmt.Fprintf(&b, "%d ", r.Rev)
		}
	}
	return b.String(), nil
}

// sample makes a closed store file with trees of several levels, free pages, bodies over several pages and an inline
// bucket, and returns its bytes, without what lies behind the last page in use, and its contents.
func sample(t testing.TB, records int) (file []byte, want string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	s, err := boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	commit := func(ms ...store.Mutation) {
		if _, err := s.Commit(t.Context(), ms...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range records {
		body := make([]byte, rnd.IntN(300))
		for j := range body {
			body[j] = byte(rnd.Uint32())
		}
		if i%100 == 50 {
			body = bytes.Repeat([]byte("large"), 2000)
		}
		k := store.Key{Kind: "sandbox", ID: fmt.Sprintf("sbx-%05d", i)}
		commit(
			store.Mutation{Do: store.Put, Key: k, Tags: []string{"live", fmt.Sprint("host=", i%5)}, Body: body},
			store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: fmt.Sprint(i % 7)}, Delta: int64(i)},
		)
		if i%4 == 3 {
			commit(store.Mutation{Do: store.Delete, Key: k, Expect: store.AnyRev})
		}
	}
	if want, err = contents(t, s); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(file, "\x00"))
	return file[:(used+4095)/4096*4096], want
}

// survive opens the damaged file and reads everything: either there is an error that says what is wrong, or nothing is.
func survive(t *testing.T, path string, file []byte, want, what string) (refused bool) {
	t.Helper()
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := boltstore.Open(t.Context(), path)
	if err != nil {
		code := sandboxer.CodeOf(err)
		text := err.Error()
		if code != sandboxer.Internal && code != sandboxer.FailedPrecondition {
			t.Errorf("%s: code %s: %v", what, code, err)
		}
		if !strings.Contains(text, path) || !strings.Contains(text, "offset") && !strings.Contains(text, "no store") && !strings.Contains(text, "empty") {
			t.Errorf("%s: the error does not say where: %v", what, err)
		}
		return true
	}
	got, err := contents(t, s)
	if err != nil {
		t.Errorf("%s: opened, and could not be read: %v", what, err)
	} else if got != want {
		t.Errorf("%s: opened, and holds something else:\n%.2000s", what, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
	}
	if _, err := s.Commit(t.Context(), store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: "new"}}); err != nil {
		t.Errorf("%s: opened, and takes no commit: %v", what, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close: %v", what, err)
	}
	return false
}

// TestFlippedBits: a file with one flipped bit is repaired, or refused with the place, and never read as something else. It was
// seen to fail when the checksums of records are not compared.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	file, want := sample(t, 150)
	path := filepath.Join(t.TempDir(), "db")
	rnd := rand.New(rand.NewPCG(3, 4))
	var bits []int
	for page := range 2 { // all of both root pages
		for bit := range 80 * 8 {
			if rnd.IntN(12) == 0 {
				bits = append(bits, page*4096*8+bit)
			}
		}
	}
	for range 150 {
		bits = append(bits, 2*4096*8+rnd.IntN((len(file)-2*4096)*8))
	}
	for range 80 { // the heads of pages, where the structure is
		bits = append(bits, (2+rnd.IntN(len(file)/4096-2))*4096*8+rnd.IntN(64*8))
	}
	refused := 0
	for _, bit := range bits {
		damaged := bytes.Clone(file)
		damaged[bit/8] ^= 1 << (bit % 8)
		if survive(t, path, damaged, want, fmt.Sprintf("bit %d of byte %d", bit%8, bit/8)) {
			refused++
		}
	}
	t.Logf("%d flipped bits: %d refused, the rest repaired or of no account", len(bits), refused)
	if refused == 0 || refused == len(bits) {
		t.Error("all or none was refused: the test tests nothing")
	}
}

// TestCutTails: the same of a file whose end is missing. It was seen to fail when what the examination finds is passed over: then
// bbolt reads behind the end of the file, which ends the process.
func TestCutTails(t *testing.T) {
	t.Parallel()
	file, want := sample(t, 150)
	path := filepath.Join(t.TempDir(), "db")
	rnd := rand.New(rand.NewPCG(5, 6))
	at := []int{0, 1, 15, 79, 80, 4095, 4096, 4097, 8191, 8192, len(file) - 1}
	for range 50 {
		at = append(at, rnd.IntN(len(file)), rnd.IntN(len(file)/4096)*4096)
	}
	refused := 0
	for _, n := range at {
		if survive(t, path, file[:n], want, fmt.Sprintf("cut after %d bytes", n)) {
			refused++
		}
	}
	if refused < len(at)/2 {
		t.Errorf("only %d of %d cut files were refused", refused, len(at))
	}
}

// Whole pages that are lost, misplaced or old are what a failing disk leaves, and no checksum of a record shows it.
func TestWrongPages(t *testing.T) {
	t.Parallel()
	file, want := sample(t, 150)
	path := filepath.Join(t.TempDir(), "db")
	rnd := rand.New(rand.NewPCG(7, 8))
	pages := len(file) / 4096
	page := func(b []byte, i int) []byte { return b[i*4096 : (i+1)*4096] }
	for i := range pages {
		damaged := bytes.Clone(file)
		clear(page(damaged, i))
		survive(t, path, damaged, want, fmt.Sprintf("page %d is zero", i))

		other := rnd.IntN(pages)
		damaged = bytes.Clone(file)
		copy(page(damaged, i), page(file, other))
		survive(t, path, damaged, want, fmt.Sprintf("page %d holds page %d", i, other))

		damaged = bytes.Clone(file)
		copy(page(damaged, i)[16:], page(file, other)[16:])
		survive(t, path, damaged, want, fmt.Sprintf("page %d holds page %d under its own head", i, other))

		damaged = bytes.Clone(file)
		clear(page(damaged, i)[512*(1+rnd.IntN(7)):])
		survive(t, path, damaged, want, fmt.Sprintf("the end of page %d is zero", i))
	}
}

// What can be made good without losing anything is, and is logged.
func TestRepairs(t *testing.T) {
	t.Parallel()
	file, want := sample(t, 150)
	for name, test := range map[string]struct {
		spoil func(b []byte)
		says  string
	}{
		"index entries renamed": {func(b []byte) {
			if at := bytes.Index(b, []byte("sandbox\x00host=3\x00sbx-00013")); at >= 0 {
				b[at+len("sandbox\x00host=")] = '2'
			}
		}, "tag index"},
		"both root pages": {func(b []byte) { b[16+20] ^= 8; b[4096+16+50] ^= 1 }, "flipped bit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bytes.Clone(file)
			test.spoil(b)
			if bytes.Equal(b, file) {
				t.Fatal("nothing was damaged")
			}
			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			for _, says := range []string{test.says, ""} { // the second time there is nothing to say
				log.Reset()
				s, err := boltstore.Open(t.Context(), path, boltstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := contents(t, s); err != nil || got != want {
					t.Errorf("it was not made good (%v)", err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if !strings.Contains(log.String(), says) || says == "" && log.String() != "" {
					t.Errorf("the log has %q, want %q", log.String(), says)
				}
			}
		})
	}
}
