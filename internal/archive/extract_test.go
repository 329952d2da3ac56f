//go:build unix

package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

func TestHostileEntriesAreRefusedByName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		entries []entry
		at      string // the entry that the error must name
	}{
		"absolute":                    {[]entry{file("/etc/x", "x")}, "/etc/x"},
		"parent":                      {[]entry{file("../x", "x")}, "../x"},
		"parent inside":               {[]entry{file("a/../../x", "x")}, "a/../../x"},
		"parent that stays":           {[]entry{file("a/../x", "x")}, "a/../x"},
		"parent at the end":           {[]entry{dir("a/..")}, "a/.."},
		"root is a file":              {[]entry{link(".", "/etc")}, "."},
		"character device":            {[]entry{special("null", tar.TypeChar)}, "null"},
		"block device":                {[]entry{special("disk", tar.TypeBlock)}, "disk"},
		"named pipe":                  {[]entry{special("pipe", tar.TypeFifo)}, "pipe"},
		"unknown type":                {[]entry{special("odd", 'Z')}, "odd"},
		"through an absolute link":    {[]entry{link("l", "/tmp"), file("l/x", "x")}, "l/x"},
		"through a relative link":     {[]entry{link("l", ".."), file("l/x", "x")}, "l/x"},
		"through a link that stays":   {[]entry{dir("d"), link("l", "d"), file("l/x", "x")}, "l/x"},
		"directory through a link":    {[]entry{link("l", "/tmp"), dir("l/d")}, "l/d"},
		"link through a link":         {[]entry{link("l", "/tmp"), link("l/m", "x")}, "l/m"},
		"below a file":                {[]entry{file("f", "x"), file("f/x", "x")}, "f/x"},
		"hard link out":               {[]entry{hard("h", "../outside/secret")}, "h"},
		"hard link absolute":          {[]entry{hard("h", "/etc/passwd")}, "h"},
		"hard link through a link":    {[]entry{link("l", "../outside"), hard("h", "l/secret")}, "h"},
		"hard link to a directory":    {[]entry{dir("d"), hard("h", "d")}, "h"},
		"hard link to nothing":        {[]entry{hard("h", "nothing")}, "h"},
		"file in place of a full dir": {[]entry{file("d/x", "x"), file("d", "x")}, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			in, out := filepath.Join(top, "in"), filepath.Join(top, "outside")
			write(t, filepath.Join(out, "secret"), []byte("secret"), 0o600, time.Unix(99, 9))
			if err := os.Mkdir(in, 0o755); err != nil {
				t.Fatal(err)
			}
			before := describe(t, out)
			err := extract(t, in, stream(t, tc.entries...), archive.ExtractOptions{})
			var named *archive.EntryError
			if !errors.As(err, &named) || named.Name != tc.at {
				t.Fatalf("Extract = %v, want an error about %q", err, tc.at)
			}
			if code := sandboxer.CodeOf(err); code != sandboxer.InvalidArgument && code != sandboxer.NotFound {
				t.Errorf("code %s of %v", code, err)
			}
			if diff := cmp.Diff(before, describe(t, out)); diff != "" {
				t.Errorf("something outside changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestExtractReplacesWithoutWritingThrough(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	in, out := filepath.Join(top, "in"), filepath.Join(top, "outside")
	write(t, filepath.Join(out, "kept"), []byte("kept"), 0o600, time.Unix(99, 9))
	write(t, filepath.Join(out, "also"), []byte("also"), 0o600, time.Unix(99, 9))
	write(t, filepath.Join(in, "file"), []byte("longer than before"), 0o400, time.Unix(1, 0))
	symlink(t, "../outside/kept", filepath.Join(in, "link"))
	symlink(t, "../outside", filepath.Join(in, "dir"))
	if err := os.Link(filepath.Join(out, "also"), filepath.Join(in, "shared")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(in, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := describe(t, out)
	err := extract(t, in, stream(t, file("file", "new"), file("link", "new"), file("shared", "new"), dir("dir/"), file("dir/x", "new"), link("empty", "file")), archive.ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, describe(t, out)); diff != "" {
		t.Errorf("something outside changed (-before +after):\n%s", diff)
	}
	for _, n := range []string{"file", "link", "shared", "dir/x", "empty"} {
		if b, err := os.ReadFile(filepath.Join(in, n)); err != nil || string(b) != "new" {
			t.Errorf("%s holds %q, %v", n, b, err)
		}
	}
}

func TestLeaveOutReportsAllAtTheEnd(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	in := filepath.Join(top, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	symlink(t, "../elsewhere", filepath.Join(in, "mine"))
	err := extract(t, in, stream(t,
		file("a/b/file", "1"), link("a/abs", "/etc/passwd"), link("a/up", "../../x"), link("a/sneaky", "b/../../../x"),
		link("a/inside", "../other"), link("a/deep", "b/file"), link("x", "."), link("via", "x/../.."), special("pipe", tar.TypeFifo),
		link("a/b/l", "../../other"), hard("moved", "a/b/l"), link("through", "mine/secret"), file("other", "last")),
		archive.ExtractOptions{Links: archive.LeaveOut})
	if !errors.Is(err, sandboxer.InvalidArgument) {
		t.Fatalf("Extract = %v, want InvalidArgument", err)
	}
	var have []string
	for _, n := range []string{"a/abs", "a/up", "a/sneaky", "via", "moved", "through", "pipe", "a/inside", "a/deep", "a/b/l", "x", "other", "a/b/file"} {
		if _, lerr := os.Lstat(filepath.Join(in, n)); lerr == nil {
			have = append(have, n)
		} else if !strings.Contains(err.Error(), n) {
			t.Errorf("%s is missing and not reported: %v", n, err)
		}
	}
	if diff := cmp.Diff([]string{"a/inside", "a/deep", "a/b/l", "x", "other", "a/b/file"}, have); diff != "" {
		t.Errorf("extracted (-want +got):\n%s", diff)
	}
}

func TestExtractOptions(t *testing.T) {
	t.Parallel()
	set := entry{tar.Header{Name: "tool", Mode: 0o6755}, "x"}
	for name, tc := range map[string]struct {
		o    archive.ExtractOptions
		in   []entry
		code sandboxer.Code
		mode os.FileMode // of "tool"
	}{
		"without set-id":   {archive.ExtractOptions{}, []entry{set}, "", 0o755},
		"with set-id":      {archive.ExtractOptions{SetID: true}, []entry{set}, "", 0o755 | os.ModeSetuid | os.ModeSetgid},
		"entries at limit": {archive.ExtractOptions{MaxEntries: 2}, []entry{set, file("b", "")}, "", 0o755},
		"too many entries": {archive.ExtractOptions{MaxEntries: 2}, []entry{set, file("b", ""), file("c", "")}, sandboxer.ResourceExhausted, 0o755},
		"bytes at limit":   {archive.ExtractOptions{MaxBytes: 4}, []entry{set, file("b", "123")}, "", 0o755},
		"too many bytes":   {archive.ExtractOptions{MaxBytes: 3}, []entry{set, file("b", "123")}, sandboxer.ResourceExhausted, 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dst := t.TempDir()
			err := extract(t, dst, stream(t, tc.in...), tc.o)
			if sandboxer.CodeOf(err) != tc.code {
				t.Errorf("Extract = %v, want %q", err, tc.code)
			}
			info, err := os.Stat(filepath.Join(dst, "tool"))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != tc.mode {
				t.Errorf("mode %v, want %v", info.Mode(), tc.mode)
			}
		})
	}
}

func TestRootEntryIsIgnoredUnlessAsked(t *testing.T) {
	t.Parallel()
	dst := t.TempDir()
	before := describe(t, dst)
	if err := extract(t, dst, stream(t, entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711}, ""}), archive.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, describe(t, dst)); diff != "" {
		t.Errorf("the directory that was extracted into changed (-before +after):\n%s", diff)
	}
}

func TestCutStreamsAreErrors(t *testing.T) {
	t.Parallel()
	whole := stream(t, dir("d"), file("d/a", strings.Repeat("a", 1000)), file("d/b", "b"), link("l", "d/a"))
	for n := range len(whole) - 1 {
		if n%512 != 0 && n%97 != 0 {
			continue
		}
		dst := t.TempDir()
		if err := extract(t, dst, whole[:n], archive.ExtractOptions{}); err == nil {
			t.Errorf("a stream cut after %d of %d bytes was taken for whole", n, len(whole))
		}
	}
}

// sized is a header that announces more than the stream holds.
func sized(t *testing.T, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0o600, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, strings.Repeat("x", 2048)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err == nil {
		t.Fatal("the header does not lie")
	}
	return buf.Bytes()
}

func TestLyingSizes(t *testing.T) {
	t.Parallel()
	for size, code := range map[int64]sandboxer.Code{8 << 30: sandboxer.Unavailable, 1 << 62: sandboxer.ResourceExhausted} {
		if err := extract(t, t.TempDir(), sized(t, size), archive.ExtractOptions{}); !errors.Is(err, code) {
			t.Errorf("announced %d bytes: %v, want %s", size, err, code)
		}
	}
}

// sparse is a PAX 1.0 sparse file of one long hole.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	data := "1\n" + fmt.Sprint(size) + "\n0\n"
	data += strings.Repeat("\x00", 512-len(data))
	record := func(k, v string) string {
		n := len(k) + len(v) + 3
		for len(fmt.Sprint(n))+len(k)+len(v)+3 != n {
			n = len(fmt.Sprint(n)) + len(k) + len(v) + 3
		}
		return fmt.Sprintf("%d %s=%s\n", n, k, v)
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", fmt.Sprint(size))
	var buf bytes.Buffer
	raw := func(kind byte, name, body string) {
		block := make([]byte, 512)
		copy(block, name)
		copy(block[100:], "0000644\x00")
		copy(block[108:], "0000000\x000000000\x00")
		copy(block[124:], fmt.Sprintf("%011o\x00", len(body)))
		copy(block[136:], "00000000000\x00")
		block[156] = kind
		copy(block[257:], "ustar\x0000")
		copy(block[148:156], "        ")
		sum := 0
		for _, b := range block {
			sum += int(b)
		}
		copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
		buf.Write(block)
		buf.WriteString(body)
		buf.Write(make([]byte, (512-len(body)%512)%512))
	}
	raw('x', "pax", pax)
	raw('0', "GNUSparseFile.0/hole", data)
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

func TestSparseFiles(t *testing.T) {
	t.Parallel()
	dst := t.TempDir()
	if err := extract(t, dst, sparse(t, 1<<20), archive.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dst, "hole")); err != nil || info.Size() != 1<<20 {
		t.Errorf("the hole of 1 MiB is %v, %v", info, err)
	}
	if err := extract(t, t.TempDir(), sparse(t, 1<<36), archive.ExtractOptions{}); !errors.Is(err, sandboxer.ResourceExhausted) {
		t.Errorf("2 KiB that expand to 64 GiB: %v, want ResourceExhausted", err)
	}
}

// blocked reads data and then nothing, until released.
type blocked struct {
	data io.Reader
	free chan struct{}
}

func (b *blocked) Read(p []byte) (int, error) {
	if n, err := b.data.Read(p); n > 0 || err == nil {
		return n, err
	}
	<-b.free
	return 0, io.EOF
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.free
	return len(p), nil
}

func TestBlockedPeersEndWithTheContext(t *testing.T) {
	t.Parallel()
	peer := &blocked{bytes.NewReader(stream(t, file("a", "x"))[:1024]), make(chan struct{})}
	defer close(peer.free)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := archive.Extract(ctx, peer, openRoot(t, t.TempDir()), archive.ExtractOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Extract of a stream that stalls: %v", err)
	}
	src := t.TempDir()
	for i := range 200 {
		write(t, filepath.Join(src, fmt.Sprint(i)), make([]byte, 8<<10), 0o644, time.Unix(1, 0))
	}
	if _, err := archive.PackRoot(ctx, peer, openRoot(t, src), ".", archive.PackOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pack into a stream that stalls: %v", err)
	}
	fail := errors.New("broken")
	if _, err := archive.PackRoot(t.Context(), failing{fail}, openRoot(t, src), ".", archive.PackOptions{}); !errors.Is(err, fail) {
		t.Errorf("Pack into a stream that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
