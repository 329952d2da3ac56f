package workspace_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

func TestPushDistrustsTheHostsList(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	plant(t, filepath.Join(src, "file"), "x", 0o644, stamp)
	const good = "f644 1 1551675967.1234567890 file\x00\x00"
	for name, tc := range map[string]struct {
		out  string
		code sandboxer.Code
	}{
		"nothing":             {"", sandboxer.Unavailable},
		"no end":              {good, sandboxer.Unavailable},
		"broken off":          {good + "f644 1 1.0 fi", sandboxer.Unavailable},
		"a target is missing": {"f644 1 1.0 x.0\x00", sandboxer.Unavailable},
		"no record":           {"hello\x00\x00.0\x00", sandboxer.Internal},
		"upwards":             {"f644 1 1.0 ../x\x00\x00.0\x00", sandboxer.Internal},
		"upwards inside":      {"f644 1 1.0 a/../../x\x00\x00.0\x00", sandboxer.Internal},
		"absolute":            {"f644 1 1.0 /etc/passwd\x00\x00.0\x00", sandboxer.Internal},
		"the tree itself":     {"d755 1 1.0 \x00\x00.0\x00", sandboxer.Internal},
		"a dot":               {"d755 1 1.0 ./a\x00\x00.0\x00", sandboxer.Internal},
		"twice":               {good + good + ".0\x00", sandboxer.Internal},
		"more after the end":  {good + ".0\x00" + "f644 1 1.0 y\x00\x00", sandboxer.Internal},
		"two ends":            {good + ".0\x00.0\x00", sandboxer.Internal},
		"a strange end":       {good + ".x\x00", sandboxer.Internal},
		"mode":                {"f99 1 1.0 a\x00\x00.0\x00", sandboxer.Internal},
		"mode too long":       {"f77777 1 1.0 a\x00\x00.0\x00", sandboxer.Internal},
		"size":                {"f644 -1 1.0 a\x00\x00.0\x00", sandboxer.Internal},
		"huge size":           {"f644 99999999999999999999 1.0 a\x00\x00.0\x00", sandboxer.Internal},
		"time":                {"f644 1 x a\x00\x00.0\x00", sandboxer.Internal},
		"time's fraction":     {"f644 1 1.-5 a\x00\x00.0\x00", sandboxer.Internal},
		"a file with target":  {"f644 1 1.0 a\x00b\x00.0\x00", sandboxer.Internal},
		"a long name":         {"f644 1 1.0 " + strings.Repeat("a", 1<<20) + "\x00\x00.0\x00", sandboxer.Internal},
		"find is not GNU's":   {".81\x00", sandboxer.FailedPrecondition},
		"find failed":         {".1\x00", sandboxer.Unknown},
	} {
		r := &scripted{out: tc.out}
		_, err := workspace.Push(t.Context(), r, "/w", openRoot(t, src), workspace.PushOptions{})
		if sandboxer.CodeOf(err) != tc.code || err == nil {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
		if r.sent.Len() > 0 {
			t.Errorf("%s: something was sent", name)
		}
	}
	r := &scripted{out: good + ".0\x00"}
	sum, err := workspace.Push(t.Context(), r, "/w", openRoot(t, src), workspace.PushOptions{})
	if diff := cmp.Diff(workspace.Summary{Same: 1}, sum); err != nil || diff != "" {
		t.Errorf("a good list: %v\n%s", err, diff)
	}
}

// endless writes records until somebody has enough.
type endless struct{ scripted }

func (e *endless) Exec(_ context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	record := []byte("f644 1 1.0 " + strings.Repeat("a", 50_000) + "00000000\x00\x00")
	for i := 0; ; i++ {
		for k, n := 0, i; k < 8; k, n = k+1, n/10 {
			record[len(record)-3-k] = byte('0' + n%10)
		}
		if _, err := req.Stdout.Write(record); err != nil {
			return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Unknown, err)
		}
	}
}

func TestPushLimitsTheHostsList(t *testing.T) {
	t.Parallel()
	_, err := workspace.Push(t.Context(), &endless{}, "/w", openRoot(t, t.TempDir()), workspace.PushOptions{})
	if sandboxer.CodeOf(err) != sandboxer.ResourceExhausted {
		t.Errorf("error is %v, want ResourceExhausted", err)
	}
}

// Whatever a host says it has, a push names nothing but clean paths below the directory, and its stream is one.
func FuzzManifest(f *testing.F) {
	for _, s := range []string{
		"f644 1 1551675967.1234567890 file\x00\x00", "d755 4096 1.0 dir\x00\x00f600 3 -5.9999999990 dir/x\x00\x00", "l777 4 1.0 dir\x00../..\x00",
		"d0 0 1.0 file\x00\x00f644 1 1.0 file/x\x00\x00", "f644 1 1.0 -rf\x00\x00", "f644 1 1.0 \n\xff\x00\x00", "s755 0 1.0 dir/sub\x00\x00",
		"d755 1 1.0 a\x00\x00d755 1 1.0 a/b\x00\x00f644 1 1.0 a/b/ignored\x00\x00",
	} {
		f.Add(s)
	}
	src := f.TempDir()
	plant(f, filepath.Join(src, "file"), "x", 0o644, stamp)
	plant(f, filepath.Join(src, "dir/sub/deep"), "x", 0o644, stamp)
	plant(f, filepath.Join(src, ".gitignore"), "ignored\n*.o\n", 0o644, stamp)
	root := openRoot(f, src)
	f.Fuzz(func(t *testing.T, list string) {
		r := &scripted{out: list + ".0\x00"}
		sum, err := workspace.Push(t.Context(), r, "/w", root, workspace.PushOptions{Ignore: []string{workspace.GitIgnore}})
		if err != nil {
			if len(r.commands) > 1 {
				t.Errorf("it was refused after something was sent: %v", err)
			}
			return
		}
		if len(r.commands) < 2 {
			return
		}
		open, removed, stream := r.lists(t)
		if int64(len(removed)) != sum.Removed {
			t.Errorf("%d are removed, the summary says %d", len(removed), sum.Removed)
		}
		for _, name := range append(open, removed...) {
			rest, ok := strings.CutPrefix(name, "./")
			if !ok || rest == "" || path.Clean(rest) != rest || path.IsAbs(rest) || rest == ".." || strings.HasPrefix(rest, "../") {
				t.Errorf("%q is named", name)
			}
		}
		if err := readAll(stream); err != nil {
			t.Errorf("the stream: %v", err)
		}
	})
}

// readAll reads a tar stream to its end.
func readAll(stream []byte) error {
	for r := tar.NewReader(bytes.NewReader(stream)); ; {
		if _, err := r.Next(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
}

// What is sent is what archive/tar understands, to the last bit.
func TestStreamIsTar(t *testing.T) {
	t.Parallel()
	src := hostileTree(t)
	r := &scripted{out: ".0\x00"}
	sum, err := workspace.Push(t.Context(), r, "/w", openRoot(t, src), workspace.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, stream := r.lists(t)
	if len(stream)%512 != 0 {
		t.Errorf("the stream has %d bytes", len(stream))
	}
	var got workspace.Summary
	for tr := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(src, h.Name)
		want := lstat(t, name)
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(want.ModTime()) {
			t.Errorf("%q is of %v, want %v", h.Name, h.ModTime, want.ModTime())
		}
		switch h.Typeflag {
		case tar.TypeReg:
			got.Files++
			got.Bytes += h.Size
			if string(body) != read(t, name) {
				t.Errorf("%q has other contents", h.Name)
			}
		case tar.TypeDir:
			got.Dirs++
		case tar.TypeSymlink:
			got.Links++
			if h.Linkname != readlink(t, name) {
				t.Errorf("%q leads to %q", h.Name, h.Linkname)
			}
		default:
			t.Errorf("%q is a %c", h.Name, h.Typeflag)
		}
		if mode := h.FileInfo().Mode(); h.Typeflag != tar.TypeSymlink && mode != want.Mode() {
			t.Errorf("%q has mode %v, want %v", h.Name, mode, want.Mode())
		}
	}
	if diff := cmp.Diff(sum, got); diff != "" {
		t.Errorf("summary and stream differ (-summary +stream):\n%s", diff)
	}
}

// Every directory on the way to a file comes before it, also where the host has them all: should one have become a link
// meanwhile, tar puts a directory in its place first.
func TestStreamHasEveryDirectoryOnTheWay(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	plant(t, filepath.Join(src, "a/b/c/file"), "x", 0o644, stamp)
	for _, d := range []string{"a/b/c", "a/b", "a"} {
		if err := os.Chtimes(filepath.Join(src, d), stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	const at = " 1 1551675967.1234567890 "
	r := &scripted{out: "d755" + at + "a\x00\x00d755" + at + "a/b\x00\x00d755" + at + "a/b/c\x00\x00f600" + at + "a/b/c/file\x00\x00.0\x00"}
	if _, err := workspace.Push(t.Context(), r, "/w", openRoot(t, src), workspace.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	_, _, stream := r.lists(t)
	var got []string
	for tr := tar.NewReader(bytes.NewReader(stream)); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		got = append(got, h.Name)
	}
	if diff := cmp.Diff([]string{"a/", "a/b/", "a/b/c/", "a/b/c/file"}, got); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}
