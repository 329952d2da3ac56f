package memfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type entry struct {
	name, text, link string
	kind             byte
	mode             int64
}

var stamp = time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)

func pack(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.text)), ModTime: stamp, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &raw
}

// dump lists a tree as "mode name content".
func dump(t testing.TB, f *FS, root string) []string {
	t.Helper()
	var out []string
	var walk func(string)
	walk = func(dir string) {
		all, err := f.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range all {
			p := dir + "/" + in.Name
			line := in.Mode.String() + " " + strings.TrimPrefix(p, root+"/")
			switch {
			case in.Mode.IsDir():
				out = append(out, line)
				walk(p)
				continue
			case in.Target != "":
				line += " -> " + in.Target
			default:
				data, err := f.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				line += " " + string(data)
			}
			out = append(out, line)
		}
	}
	walk(root)
	return out
}

func TestExtract(t *testing.T) {
	t.Parallel()
	file := func(name, text string) entry { return entry{name: name, text: text, kind: tar.TypeReg, mode: 0o644} }
	link := func(name, to string) entry { return entry{name: name, link: to, kind: tar.TypeSymlink} }
	dir := func(name string) entry { return entry{name: name, kind: tar.TypeDir, mode: 0o755} }
	for name, tc := range map[string]struct {
		in   []entry
		want []string
		err  error
	}{
		"plain":                   {in: []entry{file("a/b", "x"), {name: "run", text: "y", kind: tar.TypeReg, mode: 0o700}}, want: []string{"drwxr-xr-x a", "-rw-r--r-- a/b x", "-rwx------ run y"}},
		"empty directory":         {in: []entry{{name: "d/", kind: tar.TypeDir, mode: 0o700}}, want: []string{"drwx------ d"}},
		"link kept":               {in: []entry{link("l", "/etc/passwd"), link("m", "../../x")}, want: []string{"Lrwxrwxrwx l -> /etc/passwd", "Lrwxrwxrwx m -> ../../x"}},
		"through a link inside":   {in: []entry{dir("d"), link("l", "d"), file("l/f", "x")}, want: []string{"drwxr-xr-x d", "-rw-r--r-- d/f x", "Lrwxrwxrwx l -> d"}},
		"through a link outside":  {in: []entry{link("l", "/outside"), file("l/f", "x")}, err: ErrEscapes},
		"through a link above":    {in: []entry{link("l", "../outside"), file("l/f", "x")}, err: ErrEscapes},
		"through two links":       {in: []entry{link("l", "m"), link("m", ".."), file("l/outside/f", "x")}, err: ErrEscapes},
		"dots":                    {in: []entry{file("../f", "x")}, err: ErrEscapes},
		"dots within":             {in: []entry{file("a/../../f", "x")}, err: ErrEscapes},
		"absolute":                {in: []entry{file("/f", "x")}, err: ErrEscapes},
		"file over a link":        {in: []entry{link("l", "/outside/kept"), file("l", "x")}, want: []string{"-rw-r--r-- l x"}},
		"directory over a link":   {in: []entry{link("l", "/outside"), dir("l"), file("l/f", "x")}, want: []string{"drwxr-xr-x l", "-rw-r--r-- l/f x"}},
		"file over a file":        {in: []entry{file("f", "x"), file("f", "y")}, want: []string{"-rw-r--r-- f y"}},
		"file over a directory":   {in: []entry{dir("d"), file("d", "x")}, err: syscall.EISDIR},
		"under a file":            {in: []entry{file("f", "x"), file("f/g", "x")}, err: syscall.ENOTDIR},
		"hard link":               {in: []entry{file("f", "x"), {name: "g", link: "f", kind: tar.TypeLink}}, want: []string{"-rw-r--r-- f x", "-rw-r--r-- g x"}},
		"hard link outside":       {in: []entry{{name: "g", link: "../outside/kept", kind: tar.TypeLink}}, err: ErrEscapes},
		"hard link over a link":   {in: []entry{link("l", "/outside"), {name: "g", link: "l/kept", kind: tar.TypeLink}}, err: ErrEscapes},
		"device":                  {in: []entry{{name: "d", kind: tar.TypeBlock}}, err: errAny},
		"odd names":               {in: []entry{file("a b\n'\"", "x"), file("-n", "y")}, want: []string{"-rw-r--r-- -n y", "-rw-r--r-- a b\n'\" x"}},
		"links in a circle":       {in: []entry{link("a", "b"), link("b", "a"), file("a/f", "x")}, err: syscall.ELOOP},
		"mode of the destination": {in: []entry{{name: "./", kind: tar.TypeDir, mode: 0o700}}, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := New()
			if err := f.WriteFile("/outside/kept", []byte("kept"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := f.Extract(t.Context(), "/space/in", pack(t, tc.in...), TarOptions{})
			switch {
			case errors.Is(tc.err, errAny) && err != nil:
			case !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil):
				t.Errorf("Extract: %v, want %v", err, tc.err)
			}
			if tc.err == nil {
				if diff := cmp.Diff(tc.want, dump(t, f, "/space/in")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff([]string{"-rw-r--r-- kept kept"}, dump(t, f, "/outside")); diff != "" {
				t.Errorf("written outside (-want +got):\n%s", diff)
			}
		})
	}
}

var errAny = errors.New("any error")

func TestArchiveIsExact(t *testing.T) {
	t.Parallel()
	in := pack(t, entry{name: "b", text: "\x00\xff", kind: tar.TypeReg, mode: 0o600},
		entry{name: "d/", kind: tar.TypeDir, mode: 0o711}, entry{name: "d/l", link: "../b", kind: tar.TypeSymlink, mode: 0o777})
	f := New()
	if err := f.Extract(t.Context(), "/t", bytes.NewReader(in.Bytes()), TarOptions{}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.Archive(t.Context(), "/t", &out, TarOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(in.Bytes(), out.Bytes()) {
		t.Error("the archive differs from what was extracted")
	}
	out.Reset()
	if err := f.Archive(t.Context(), "/t/d/l", &out, TarOptions{}); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&out).Next()
	if err != nil || h.Name != "l" || h.Typeflag != tar.TypeSymlink {
		t.Errorf("one link is archived as %+v, %v", h, err)
	}
	if err := f.Archive(t.Context(), "/nope", io.Discard, TarOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Archive of nothing: %v", err)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	t.Parallel()
	f := New()
	if err := f.WriteFile("/d/f", []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := f.Clone()
	for tree, text := range map[*FS]string{f: "two", c: "six"} {
		w, err := tree.OpenWriter("/d/f", true, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	for tree, want := range map[*FS]string{f: "onetwo", c: "onesix"} {
		if got, err := tree.ReadFile("/d/f"); string(got) != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	f := New()
	for p, text := range map[string]string{"/a/b/f": "deep", "/g": "top"} {
		if err := f.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for at, to := range map[string]string{"/l": "a/b", "/a/up": "..", "/abs": "/a", "/loop": "loop", "/dangling": "nope"} {
		if err := f.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{"/l/f": "deep", "/l/../b/f": "deep", "/a/up/g": "top", "/abs/b/f": "deep", "/../g": "top", "//a//./b/f": "deep", "/abs/up/abs/up/g": "top"} {
		if got, err := f.ReadFile(p); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", p, got, err, want)
		}
	}
	for p, want := range map[string]error{"/loop/x": syscall.ELOOP, "/g/x": syscall.ENOTDIR, "/nope": fs.ErrNotExist, "/dangling": fs.ErrNotExist, "/a": syscall.EISDIR} {
		if _, err := f.ReadFile(p); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
	if err := f.Rename("/a", "/a/b/c"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a directory into itself: %v", err)
	}
	if err := f.Remove("/a", false); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("a full directory: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f := New()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			p := "/d/" + string(rune('a'+i%8))
			for range 20 {
				if err := f.WriteFile(p, []byte("x"), 0o644); err != nil {
					t.Error(err)
				}
				_, _ = f.ReadFile(p)
				_ = f.Archive(t.Context(), "/d", io.Discard, TarOptions{})
				_ = f.Clone()
			}
		})
	}
	wg.Wait()
}

// FuzzExtract: whatever comes in, nothing outside the destination changes, and what came in goes out again.
func FuzzExtract(f *testing.F) {
	f.Add(pack(f, entry{name: "a/b", text: "x", kind: tar.TypeReg}, entry{name: "l", link: "..", kind: tar.TypeSymlink}, entry{name: "l/x", text: "y", kind: tar.TypeReg}).Bytes())
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tree := New()
		if err := tree.WriteFile("/outside/kept", []byte("kept"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := tree.Extract(t.Context(), "/in", bytes.NewReader(raw), TarOptions{})
		if diff := cmp.Diff([]string{"-rw-r--r-- kept kept"}, dump(t, tree, "/outside")); diff != "" {
			t.Fatalf("written outside:\n%s", diff)
		}
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := tree.Archive(t.Context(), "/in", &out, TarOptions{}); err != nil {
			t.Skip("names or times that tar takes and cannot write again:", err)
		}
		again := New()
		if err := again.Extract(t.Context(), "/in", &out, TarOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dump(t, tree, "/in"), dump(t, again, "/in")); diff != "" {
			t.Fatalf("there and back:\n%s", diff)
		}
	})
}
