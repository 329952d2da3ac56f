//go:build unix

package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sand-boxer/sandboxer/internal/archive"
)

// FuzzExtract extracts anything, both ways, next to a directory that must stay as it was.
func FuzzExtract(f *testing.F) {
	for _, s := range [][]byte{
		nil,
		stream(f, file("a/b", "x"), link("l", "../outside"), file("l/x", "x")),
		stream(f, link("d", "."), link("d2", "d/../.."), hard("h", "../outside/secret"), special("p", tar.TypeFifo)),
		stream(f, dir("a"), link("a/l", ".."), hard("m", "a/l"), dir("m/x"), file(strings.Repeat("n", 200), "x")),
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, leaveOut bool) {
		o := archive.ExtractOptions{MaxEntries: 200, MaxBytes: 1 << 20, RootEntry: true}
		if leaveOut {
			o.Links = archive.LeaveOut
		}
		checkContained(t, data, o)
	})
}

// checkContained extracts data and fails when anything outside was touched, or a link leads there that must not.
func checkContained(t testing.TB, data []byte, o archive.ExtractOptions) {
	t.Helper()
	top, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	in, out := filepath.Join(top, "in"), filepath.Join(top, "outside")
	write(t, filepath.Join(out, "secret"), []byte("secret"), 0o600, time.Unix(99, 9))
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	before := describe(t, out)
	root, err := os.OpenRoot(in)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = archive.Extract(t.Context(), bytes.NewReader(data), root, o) // most are refused, and may be
	_ = root.Close()
	_ = os.Chmod(in, 0o755)
	if diff := cmp.Diff(before, describe(t, out)); diff != "" {
		t.Fatalf("something outside changed (-before +after):\n%s", diff)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 2 {
		t.Fatalf("beside the directory there is now %v, %v", entries, err)
	}
	err = filepath.WalkDir(in, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a directory that took our own permission away
		}
		if d.Type()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
			t.Errorf("%q is a special file", p)
		}
		if d.Type() == fs.ModeSymlink && o.Links == archive.LeaveOut {
			if real, err := filepath.EvalSymlinks(p); err == nil && real != in && !strings.HasPrefix(real, in+"/") {
				t.Errorf("%q leads to %q", p, real)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = filepath.WalkDir(in, func(p string, d fs.DirEntry, _ error) error { // so that the test can clean up
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o755)
		}
		return nil
	})
	if err := os.RemoveAll(top); err != nil {
		t.Fatal(err)
	}
}

// TestNoOrderOfEntriesGetsOut draws streams of few names, where links, directories and files get into each other's way.
func TestNoOrderOfEntriesGetsOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "a/a", "a/b", "b/a", "a/b/c", "b/b/b", "./a", "a//b"})
		target := rapid.SampledFrom([]string{".", "..", "a", "b", "a/b", "../a", "../..", "../../outside", "a/..", "b/../..", "a/b/../../..", "/", "../../../x", "b/../../outside/secret"})
		var entries []entry
		for range rapid.IntRange(1, 8).Draw(rt, "n") {
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				entries = append(entries, file(name.Draw(rt, "file"), "x"))
			case 1:
				entries = append(entries, dir(name.Draw(rt, "dir")))
			case 2:
				entries = append(entries, link(name.Draw(rt, "link"), target.Draw(rt, "target")))
			case 3:
				entries = append(entries, hard(name.Draw(rt, "hard"), name.Draw(rt, "to")))
			}
		}
		o := archive.ExtractOptions{}
		if rapid.Bool().Draw(rt, "leave out") {
			o.Links = archive.LeaveOut
		}
		checkContained(t, stream(t, entries...), o)
	})
}

// TestRoundTripOfAnyTree packs drawn trees; packing the copy must give the same bytes.
func TestRoundTripOfAnyTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		top, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		src, dst := filepath.Join(top, "src"), filepath.Join(top, "dst")
		if err := errors.Join(os.Mkdir(src, 0o755), os.Mkdir(dst, 0o755)); err != nil {
			t.Fatal(err)
		}
		elem := rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 120), func(b []byte) string {
			s := strings.NewReplacer("/", "_", "\x00", "0").Replace(string(b))
			if runtime.GOOS == "darwin" {
				s = strings.ToValidUTF8(s, "_") // APFS takes nothing else
			}
			if s == "." || s == ".." {
				s += "x"
			}
			return s
		})
		dirs := []string{src}
		var times []func() error
		for range rapid.IntRange(0, 12).Draw(rt, "n") {
			at := filepath.Join(rapid.SampledFrom(dirs).Draw(rt, "dir"), elem.Draw(rt, "name"))
			if _, err := os.Lstat(at); err == nil || len(at) > 3000 {
				continue
			}
			mtime := time.Unix(rapid.Int64Range(-1<<31, 1<<33).Draw(rt, "sec"), rapid.Int64Range(0, 999999999).Draw(rt, "nsec"))
			mode := fs.FileMode(rapid.Uint32Range(0, 0o777).Draw(rt, "mode")) | readable()
			set := func() error { return errors.Join(os.Chtimes(at, mtime, mtime), os.Chmod(at, mode)) }
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				err = os.WriteFile(at, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(rt, "data"), 0o600)
			case 1:
				err = os.Mkdir(at, 0o700)
				dirs = append(dirs, at)
			case 2:
				err = os.Symlink(elem.Draw(rt, "target"), at)
				set = func() error { return nil }
			}
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, set)
		}
		for i := len(times) - 1; i >= 0; i-- {
			if err := times[i](); err != nil {
				t.Fatal(err)
			}
		}
		var first, second bytes.Buffer
		from, to := openRoot(t, src), openRoot(t, dst)
		if _, err := archive.PackRoot(t.Context(), &first, from, ".", archive.PackOptions{RootEntry: true}); err != nil {
			rt.Fatal(err)
		}
		if _, err := archive.Extract(t.Context(), bytes.NewReader(first.Bytes()), to, archive.ExtractOptions{RootEntry: true}); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
			rt.Fatalf("the copy differs (-source +copy):\n%s", diff)
		}
		if _, err := archive.PackRoot(t.Context(), &second, to, ".", archive.PackOptions{RootEntry: true}); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			rt.Fatal("packing the copy gives other bytes than packing the source")
		}
	})
}
