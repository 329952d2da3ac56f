package workspace_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// TestPushFS: another file system than a disk arrives as it is, what has not changed stays there, and what has no time always
// goes again.
func TestPushFS(t *testing.T) {
	t.Parallel()
	c, dst := connect(t, sshtest.Start(t)), filepath.Join(t.TempDir(), "made", "here")
	src := fstest.MapFS{
		"dir": {Mode: fs.ModeDir | 0o750, ModTime: stamp}, "dir/run": {Data: []byte("x"), Mode: 0o755, ModTime: stamp}, "empty": {Mode: fs.ModeDir | 0o700, ModTime: stamp},
		"link": {Data: []byte("dir/run"), Mode: fs.ModeSymlink | 0o777, ModTime: stamp}, "large": {Data: make([]byte, 1<<20), Mode: 0o644, ModTime: stamp},
		"socket": {Mode: fs.ModeSocket, ModTime: stamp}, "untimed": {Data: []byte("one")},
	}
	push := func(o workspace.PushOptions) workspace.Summary {
		t.Helper()
		sum, err := workspace.PushFS(t.Context(), c, dst, src, o)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if diff := cmp.Diff(workspace.Summary{Files: 3, Links: 1, Dirs: 2, Bytes: 1<<20 + 4, Skipped: []string{"socket"}}, push(workspace.PushOptions{})); diff != "" {
		t.Errorf("the first push (-want +got):\n%s", diff)
	}
	src["untimed"].Data = []byte("two")
	if diff := cmp.Diff(workspace.Summary{Files: 1, Bytes: 3, Same: 5, Skipped: []string{"socket"}}, push(workspace.PushOptions{})); diff != "" {
		t.Errorf("the second push (-want +got):\n%s", diff)
	}
	if got := read(t, filepath.Join(dst, "untimed")); got != "two" {
		t.Errorf("what has no time is %q", got)
	}
	for name, f := range src {
		info, err := os.Lstat(filepath.Join(dst, name))
		if name == "socket" {
			continue
		}
		if err != nil || info.Mode().Type() != f.Mode.Type() || name != "untimed" && (!info.ModTime().Equal(stamp) || info.Mode() != f.Mode) {
			t.Errorf("%s arrived as %v, %v", name, info, err)
		}
	}
	if os.Getuid() != 0 {
		return // nobody else may give files away
	}
	// The second has more digits than a ustar header has room for.
	for _, who := range []workspace.Owner{{UID: 1234, GID: 2345}, {UID: 3_000_000, GID: 4_000_000_000}} {
		src["dir/run"].ModTime = src["dir/run"].ModTime.Add(1)
		push(workspace.PushOptions{Owner: &who})
		out, err := exec.Command("stat", "-c", "%u:%g", filepath.Join(dst, "dir"), filepath.Join(dst, "dir/run"), filepath.Join(dst, "link")).Output()
		if want := strings.Repeat(fmt.Sprintf("%d:%d\n", who.UID, who.GID), 2) + "0:0\n"; err != nil || string(out) != want {
			t.Errorf("they belong to %q, want %q: %v", out, want, err)
		}
	}
}

// TestPushFSRefuses: a source that is not there is no empty one, and nothing of the host is removed for it.
func TestPushFSRefuses(t *testing.T) {
	t.Parallel()
	c, dst := connect(t, sshtest.Start(t)), t.TempDir()
	write(t, filepath.Join(dst, "kept"), "kept")
	for name, tc := range map[string]struct {
		src  fs.FS
		code sandboxer.Code
	}{
		"none":                {os.DirFS(filepath.Join(dst, "none")), sandboxer.NotFound},
		"a link, and no way":  {noLinks{fstest.MapFS{"link": {Data: []byte("x"), Mode: fs.ModeSymlink | 0o777}}}, sandboxer.Unsupported},
		"a link to no name":   {fstest.MapFS{"link": {Data: []byte("a\x00b"), Mode: fs.ModeSymlink | 0o777}}, sandboxer.InvalidArgument},
		"a name that is none": {oddNames{fstest.MapFS{}}, sandboxer.InvalidArgument},
	} {
		_, err := workspace.PushFS(t.Context(), c, dst, tc.src, workspace.PushOptions{})
		if sandboxer.CodeOf(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, dst); !cmp.Equal(got, []string{"kept"}) {
		t.Errorf("the host has %q", got)
	}
}

// noLinks hides that a file system can read links.
type noLinks struct{ fs.FS }

// oddNames lists a name that leads elsewhere.
type oddNames struct{ fs.FS }

func (o oddNames) ReadDir(string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(fstest.MapFS{"x": {Data: []byte("x")}}, ".")
	return []fs.DirEntry{oddEntry{entries[0]}}, err
}

type oddEntry struct{ fs.DirEntry }

func (oddEntry) Name() string { return "../x" }
