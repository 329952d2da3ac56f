package workspace_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

func openRoot(tb testing.TB, dir string) *os.Root {
	tb.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return root
}

// describe lists a tree: one line per name with everything that a copy must keep.
func describe(tb testing.TB, dir string) []string {
	tb.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("%q %v %d", rel, info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(b), b[:min(len(b), 64)])
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return lines
}

var stamp = time.Date(2019, 3, 4, 5, 6, 7, 123456789, time.UTC)

// plant makes a file with a mode and a time of its own.
func plant(tb testing.TB, name, data string, mode fs.FileMode, at time.Time) {
	tb.Helper()
	if runtime.GOOS == "windows" {
		tb.Skip("Windows has other modes and times of files")
	}
	write(tb, name, data)
	if err := errors.Join(os.Chmod(name, mode), os.Chtimes(name, at, at)); err != nil {
		tb.Fatal(err)
	}
}

func symlink(tb testing.TB, target, name string) {
	tb.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(target, name)); err != nil {
		tb.Fatal(err)
	}
}

// hostileTree has everything in it that a name, a time or a mode can be.
func hostileTree(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	names := []string{
		"plain", "with space", "with\nnewline", `quo"te's`, "-dash", "--help", "invalid-\xff\xfe", "ünïcode", strings.Repeat("x", 255),
		"deep/" + strings.Repeat("long/", 60) + "leaf", `back\slash`, "colon:", "*?[", "..dots", "a=b", "sub/-rf", "sub/ ", "sub/\x01",
		strings.Repeat("y", 100), strings.Repeat("z", 101), "a", "a-b", "ab/c", "ab-d",
	}
	for i, n := range names {
		if runtime.GOOS == "darwin" && !utf8.ValidString(n) {
			continue // APFS takes no such name
		}
		plant(tb, filepath.Join(dir, n), n, []fs.FileMode{0o644, 0o755, 0o400, 0, 0o666}[i%5], stamp.Add(time.Duration(i)))
	}
	plant(tb, filepath.Join(dir, "empty"), "", 0o600, time.Unix(0, 0))
	plant(tb, filepath.Join(dir, "whole"), "x", 0o600, time.Unix(1700000000, 0))
	plant(tb, filepath.Join(dir, "before-1970"), "old", 0o600, time.Unix(-12345, 999999999))
	plant(tb, filepath.Join(dir, "before-1970-whole"), "old", 0o600, time.Unix(-12345, 0))
	plant(tb, filepath.Join(dir, "late"), "new", 0o600, time.Unix(1<<33+5, 7))
	plant(tb, filepath.Join(dir, "big"), strings.Repeat("big", 900_000), 0o640, stamp)
	plant(tb, filepath.Join(dir, "block"), strings.Repeat("b", 256<<10+1), 0o640, stamp)
	symlink(tb, "plain", filepath.Join(dir, "to-plain"))
	symlink(tb, "/etc/passwd", filepath.Join(dir, "away"))
	symlink(tb, "../../../nowhere\n", filepath.Join(dir, "sub/dangling"))
	symlink(tb, strings.Repeat("y/", 400), filepath.Join(dir, "long-link"))
	symlink(tb, "-n", filepath.Join(dir, "-link"))
	if err := os.Mkdir(filepath.Join(dir, "empty-dir"), 0o700); err != nil {
		tb.Fatal(err)
	}
	plant(tb, filepath.Join(dir, "read-only/inside"), "in", 0o444, stamp)
	for d, mode := range map[string]fs.FileMode{"read-only": 0o555, "sub": fs.ModeSticky | 0o777, "empty-dir": 0o700} {
		d = filepath.Join(dir, d)
		if err := errors.Join(os.Chmod(d, mode), os.Chtimes(d, stamp, stamp)); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func TestPushMakesTreesEqual(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	src, dst := hostileTree(t), filepath.Join(host.Dir, "it's\ta tree")
	root := openRoot(t, src)
	push := func(o workspace.PushOptions) workspace.Summary {
		t.Helper()
		sum, err := workspace.Push(t.Context(), c, dst, root, o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
			t.Fatalf("the copy differs (-here +there):\n%s", diff)
		}
		return sum
	}
	dst = filepath.Join(host.Dir, "it's a tree")
	all := push(workspace.PushOptions{})
	if all.Same != 0 || all.Removed != 0 || all.Files < 25 || all.Links != 5 || all.Dirs < 60 {
		t.Errorf("a fresh push: %+v", all)
	}
	again := push(workspace.PushOptions{})
	if diff := cmp.Diff(workspace.Summary{Same: all.Files + all.Links + all.Dirs}, again); diff != "" {
		t.Errorf("an unchanged tree (-want +got):\n%s", diff)
	}
	// Each kind of change is seen, and nothing else is sent.
	for _, tc := range []struct {
		name   string
		change func(dir string) error
		want   workspace.Summary
	}{
		{"content", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "plain"), []byte("longer"), 0), os.Chtimes(filepath.Join(dir, "plain"), stamp, stamp))
		}, workspace.Summary{Files: 1, Bytes: 6}},
		{"a nanosecond", func(dir string) error {
			return os.Chtimes(filepath.Join(dir, "plain"), stamp, stamp.Add(1))
		}, workspace.Summary{Files: 1, Bytes: 6}},
		{"mode", func(dir string) error { return os.Chmod(filepath.Join(dir, "plain"), 0o711) }, workspace.Summary{Files: 1, Bytes: 6}},
		{"mode of a directory", func(dir string) error { return os.Chmod(filepath.Join(dir, "empty-dir"), 0o750) }, workspace.Summary{Dirs: 1}},
		{"a new file in a read-only directory", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "read-only/new"), nil, 0o644), os.Chtimes(filepath.Join(dir, "read-only"), stamp, stamp))
		}, workspace.Summary{Files: 1, Dirs: 1}},
		{"one that goes", func(dir string) error { return os.Remove(filepath.Join(dir, "read-only/new")) }, workspace.Summary{Dirs: 1, Removed: 1}},
		{"a tree that goes", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "deep")) }, workspace.Summary{Removed: 1}},
		{"a file becomes a directory", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "a-b")), os.Mkdir(filepath.Join(dir, "a-b"), 0o755), os.WriteFile(filepath.Join(dir, "a-b/f"), nil, 0o644))
		}, workspace.Summary{Files: 1, Dirs: 1, Removed: 1}},
		{"a directory becomes a link", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "sub")), os.Symlink("ab", filepath.Join(dir, "sub")))
		}, workspace.Summary{Links: 1, Removed: 1}},
		{"a link becomes a directory", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "sub")), os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "sub/c"), nil, 0o644))
		}, workspace.Summary{Files: 1, Dirs: 1, Removed: 1}},
		{"a link becomes a file", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "away")), os.WriteFile(filepath.Join(dir, "away"), []byte("here"), 0o644))
		}, workspace.Summary{Files: 1, Bytes: 4}},
		{"a link leads elsewhere", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "to-plain")), os.Symlink("empty", filepath.Join(dir, "to-plain")))
		}, workspace.Summary{Links: 1}},
		{"everything goes", func(dir string) error {
			for _, n := range names(t, dir) {
				if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
					return err
				}
			}
			return nil
		}, workspace.Summary{Removed: int64(len(names(t, src)) - 1)}},
	} {
		if err := tc.change(src); err != nil {
			t.Fatal(err)
		}
		got := push(workspace.PushOptions{})
		got.Same = 0
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if left := names(t, host.Temp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// What containers did to the tree does not lead a push out of it, and is gone afterwards.
func TestPushOverWhatContainersPlanted(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	src, dst, outside := t.TempDir(), filepath.Join(host.Dir, "tree"), filepath.Join(host.Dir, "outside")
	plant(t, filepath.Join(src, "dir/sub/file"), "mine", 0o644, stamp)
	plant(t, filepath.Join(src, "dir/other"), "mine", 0o644, stamp)
	plant(t, filepath.Join(src, "linked"), "mine", 0o644, stamp)
	plant(t, filepath.Join(src, "fifo"), "mine", 0o644, stamp)
	root := openRoot(t, src)
	push := func() workspace.Summary {
		t.Helper()
		sum, err := workspace.Push(t.Context(), c, dst, root, workspace.PushOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
			t.Fatalf("the copy differs (-here +there):\n%s", diff)
		}
		return sum
	}
	push()
	plant(t, filepath.Join(outside, "sub/file"), "theirs", 0o600, stamp)
	plant(t, filepath.Join(outside, "hard"), "theirs", 0o600, stamp)
	before := describe(t, outside)
	remove(t, filepath.Join(dst, "dir"))
	symlink(t, outside, filepath.Join(dst, "dir"))
	remove(t, filepath.Join(dst, "linked"))
	if err := os.Link(filepath.Join(outside, "hard"), filepath.Join(dst, "linked")); err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(dst, "fifo"))
	mkfifo(t, filepath.Join(dst, "fifo"))
	symlink(t, outside, filepath.Join(dst, "surplus-link"))
	symlink(t, outside, filepath.Join(dst, "surplus/with/link"))
	symlink(t, "loop", filepath.Join(dst, "loop"))
	plant(t, filepath.Join(dst, "-rf"), "", 0o644, stamp)
	plant(t, filepath.Join(dst, "\n./dir\n"), "", 0o644, stamp)
	plant(t, filepath.Join(dst, "\xff\xfe"), "", 0o644, stamp)
	push()
	if diff := cmp.Diff(before, describe(t, outside)); diff != "" {
		t.Errorf("outside of the tree (-before +after):\n%s", diff)
	}
}

func TestPushKeepsReadersAndLinks(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	src, dst := t.TempDir(), filepath.Join(host.Dir, "tree")
	plant(t, filepath.Join(src, "file"), "first", 0o644, stamp)
	root := openRoot(t, src)
	if _, err := workspace.Push(t.Context(), c, dst, root, workspace.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(filepath.Join(dst, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := os.Link(filepath.Join(dst, "file"), filepath.Join(host.Dir, "second-name")); err != nil {
		t.Fatal(err)
	}
	plant(t, filepath.Join(src, "file"), "second version", 0o644, stamp)
	if _, err := workspace.Push(t.Context(), c, dst, root, workspace.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _ := reader.Read(b)
	if got := string(b[:n]); got != "first" {
		t.Errorf("a program that reads it got %q", got)
	}
	if got := read(t, filepath.Join(host.Dir, "second-name")); got != "first" {
		t.Errorf("its other name has %q", got)
	}
	if got := read(t, filepath.Join(dst, "file")); got != "second version" {
		t.Errorf("it has %q", got)
	}
}

func TestPushKeep(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	src, dst := t.TempDir(), filepath.Join(host.Dir, "tree")
	plant(t, filepath.Join(src, "file"), "mine", 0o644, stamp)
	plant(t, filepath.Join(dst, "theirs/file"), "theirs", 0o644, stamp)
	plant(t, filepath.Join(dst, "file/in the way"), "theirs", 0o644, stamp)
	mkfifo(t, filepath.Join(src, "fifo"))
	sum, err := workspace.Push(t.Context(), c, dst, openRoot(t, src), workspace.PushOptions{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(workspace.Summary{Files: 1, Bytes: 4, Removed: 1, Skipped: []string{"fifo"}}, sum); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if got := read(t, filepath.Join(dst, "file")) + read(t, filepath.Join(dst, "theirs/file")); got != "minetheirs" {
		t.Errorf("the files hold %q", got)
	}
}
