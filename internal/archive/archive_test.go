//go:build unix

package archive_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openRoot opens dir for the length of the test.
func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// describe lists a tree: one line per file with everything that a copy must keep.
func describe(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%q %v %d", rel, info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(b), clipBytes(b))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func clipBytes(b []byte) []byte {
	if len(b) > 64 {
		return append(append([]byte(nil), b[:32]...), b[len(b)-32:]...)
	}
	return b
}

func write(t testing.TB, name string, data []byte, mode fs.FileMode, mtime time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// readable is what a mode must allow so that we can read the source ourselves.
func readable() fs.FileMode {
	if os.Geteuid() == 0 {
		return 0
	}
	return 0o700
}

// entry is one of a stream that a test makes.
type entry struct {
	tar.Header
	body string
}

func stream(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(e.body))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, body string) entry { return entry{tar.Header{Name: name}, body} }
func dir(name string) entry        { return entry{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }
func link(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}, ""}
}
func hard(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}
func special(name string, kind byte) entry {
	return entry{tar.Header{Name: name, Typeflag: kind}, ""}
}

func extract(t testing.TB, dst string, tarball []byte, o archive.ExtractOptions) error {
	t.Helper()
	_, err := archive.Extract(t.Context(), bytes.NewReader(tarball), openRoot(t, dst), o)
	return err
}

func TestRoundTripKeepsEverything(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	at := time.Date(2019, 3, 4, 5, 6, 7, 123456789, time.UTC)
	big := make([]byte, 700<<10)
	_, _ = rand.Read(big)
	names := []string{"plain", "with space", "with\nnewline", `quo"te's`, "-dash", "invalid-\xff\xfe", "ünïcode",
		strings.Repeat("x", 255), "deep/" + strings.Repeat("long/", 60) + "leaf", `back\slash`, "colon:", "*?[", "..dots", "a=b"}
	for i, n := range names {
		if runtime.GOOS == "darwin" && !utf8.ValidString(n) {
			continue // APFS takes no such name
		}
		write(t, filepath.Join(src, n), []byte(n), []fs.FileMode{0o644, 0o755, 0o400, readable(), 0o666}[i%5], at.Add(time.Duration(i)))
	}
	write(t, filepath.Join(src, "empty"), nil, 0o600, time.Unix(0, 0))
	write(t, filepath.Join(src, "before-1970"), []byte("old"), 0o600, time.Unix(-12345, 999999999))
	write(t, filepath.Join(src, "big"), big, 0o640, at)
	write(t, filepath.Join(src, "sticky"), big[:300<<10], 0o640, at)
	symlink(t, "plain", filepath.Join(src, "to-plain"))
	symlink(t, "/etc/passwd", filepath.Join(src, "away"))
	symlink(t, "../../../nowhere\n", filepath.Join(src, "sub/dangling"))
	symlink(t, strings.Repeat("y/", 400), filepath.Join(src, "long-link"))
	if err := os.Mkdir(filepath.Join(src, "empty-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "read-only/inside"), []byte("in"), 0o444, at)
	for _, d := range []string{"read-only", "sub", "."} {
		if err := errors.Join(os.Chtimes(filepath.Join(src, d), at, at), os.Chmod(filepath.Join(src, d), 0o555)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(src, "read-only"), 0o755)
		_ = os.Chmod(filepath.Join(src, "sub"), 0o755)
		_ = os.Chmod(src, 0o755)
	})

	var first bytes.Buffer
	sum, err := archive.PackRoot(t.Context(), &first, openRoot(t, src), ".", archive.PackOptions{RootEntry: true})
	if err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	got, err := archive.Extract(t.Context(), bytes.NewReader(first.Bytes()), openRoot(t, dst), archive.ExtractOptions{RootEntry: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sum, got); diff != "" {
		t.Errorf("what was extracted is not what was packed (-packed +extracted):\n%s", diff)
	}
	if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
		t.Errorf("the copy differs (-source +copy):\n%s", diff)
	}
	var second bytes.Buffer
	if _, err := archive.PackRoot(t.Context(), &second, openRoot(t, dst), ".", archive.PackOptions{RootEntry: true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("packing the copy gives other bytes than packing the source")
	}
	if err := os.Chmod(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	// Extracting over itself replaces read-only files in read-only directories.
	if err := extract(t, dst, first.Bytes(), archive.ExtractOptions{RootEntry: true}); err != nil {
		t.Errorf("extracting a second time: %v", err)
	}
	if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
		t.Errorf("after a second time the copy differs (-source +copy):\n%s", diff)
	}
	for _, d := range []string{"read-only", "sub", "."} {
		_ = os.Chmod(filepath.Join(dst, d), 0o755)
	}
}

func TestPackOnePath(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	at := time.Unix(1600000000, 5)
	write(t, filepath.Join(src, "a/b/file"), []byte("content"), 0o640, at)
	symlink(t, "b", filepath.Join(src, "a/link-to-dir"))
	symlink(t, "b/file", filepath.Join(src, "a/link-to-file"))
	symlink(t, "/etc", filepath.Join(src, "a/link-out"))
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"a/b", []string{"file"}},
		{"a/b/", []string{"file"}},
		{"a/link-to-dir", []string{"file"}},
		{"a/b/file", []string{"file"}},
		{"a/link-to-file", []string{"link-to-file"}},
		{"a", []string{"b/", "b/file", "link-out", "link-to-dir", "link-to-file"}},
	} {
		var buf bytes.Buffer
		if _, err := archive.PackRoot(t.Context(), &buf, openRoot(t, src), tc.path, archive.PackOptions{}); err != nil {
			t.Errorf("PackRoot(%q): %v", tc.path, err)
			continue
		}
		if diff := cmp.Diff(tc.want, entryNames(t, buf.Bytes())); diff != "" {
			t.Errorf("PackRoot(%q) (-want +got):\n%s", tc.path, diff)
		}
		if strings.HasSuffix(tc.path, "/") {
			continue // not a path of io/fs
		}
		buf.Reset()
		if _, err := archive.PackFS(t.Context(), &buf, os.DirFS(src), tc.path, archive.PackOptions{}); err != nil {
			t.Errorf("PackFS(%q): %v", tc.path, err)
		}
		if diff := cmp.Diff(tc.want, entryNames(t, buf.Bytes())); diff != "" {
			t.Errorf("PackFS(%q) (-want +got):\n%s", tc.path, diff)
		}
	}
	for path, code := range map[string]sandboxer.Code{"missing": sandboxer.NotFound, "a/link-out": "", "../x": ""} {
		_, err := archive.PackRoot(t.Context(), io.Discard, openRoot(t, src), path, archive.PackOptions{})
		if err == nil {
			t.Errorf("PackRoot(%q) succeeded", path)
		}
		if code != "" && !errors.Is(err, code) {
			t.Errorf("PackRoot(%q) = %v, want %s", path, err, code)
		}
	}
}

func entryNames(t testing.TB, tarball []byte) []string {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(tarball)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// noLinks hides that a file system can read links.
type noLinks struct{ fs.FS }

func TestPackFSOfMemory(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"bare":     {Data: []byte("1")},
		"script":   {Data: []byte("2"), Mode: 0o755},
		"dir/file": {Data: []byte("3"), Mode: 0o600, ModTime: time.Unix(1700000000, 7)},
		"zero":     {Data: []byte("4"), Mode: 0, ModTime: time.Unix(1700000000, 7)},
		"link":     {Data: []byte("bare"), Mode: fs.ModeSymlink | 0o777},
	}
	dst := t.TempDir()
	var buf bytes.Buffer
	if _, err := archive.PackFS(t.Context(), &buf, fsys, ".", archive.PackOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := extract(t, dst, buf.Bytes(), archive.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{"bare": 0o644, "script": 0o755, "dir": 0o755 | fs.ModeDir, "dir/file": 0o600, "zero": 0}
	for name, mode := range want {
		info, err := os.Lstat(filepath.Join(dst, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); err != nil || target != "bare" {
		t.Errorf("link leads to %q, %v", target, err)
	}
	src := t.TempDir()
	symlink(t, "x", filepath.Join(src, "l"))
	_, err := archive.PackFS(t.Context(), io.Discard, noLinks{os.DirFS(src)}, ".", archive.PackOptions{})
	if !errors.Is(err, sandboxer.Unsupported) || !strings.Contains(fmt.Sprint(err), `"l"`) {
		t.Errorf("a link that cannot be read: %v, want Unsupported naming it", err)
	}
}

func TestPackSkipsSpecialFiles(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	write(t, filepath.Join(src, "file"), []byte("x"), 0o644, time.Unix(1, 0))
	if err := syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	sum, err := archive.PackRoot(t.Context(), &buf, openRoot(t, src), ".", archive.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(archive.Summary{Entries: 1, Bytes: 1, Skipped: []string{"fifo"}}, sum); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}
