package workspace_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

// change does something to a tree: the few names make things meet.
func change(tb testing.TB, rnd *rand.Rand, dir string) {
	tb.Helper()
	names := []string{"a", "b", "-c", "d e", "f\ng", "\xffh"}
	name := dir
	for range 1 + rnd.IntN(4) {
		name = filepath.Join(name, names[rnd.IntN(len(names))])
	}
	at := stamp.Add(time.Duration(rnd.IntN(3)) * time.Second / 2)
	put := func(f func() error) {
		// What is in the way goes.
		for p := filepath.Dir(name); len(p) > len(dir); p = filepath.Dir(p) {
			if info, err := os.Lstat(p); err == nil && !info.IsDir() {
				remove(tb, p)
			}
		}
		remove(tb, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), f()); err != nil {
			tb.Fatal(err)
		}
	}
	switch rnd.IntN(6) {
	case 0, 1:
		put(func() error {
			return errors.Join(os.WriteFile(name, []byte("0123456789")[:rnd.IntN(3)], 0o644), os.Chmod(name, []os.FileMode{0o644, 0o600, 0o755}[rnd.IntN(3)]), os.Chtimes(name, at, at))
		})
	case 2:
		put(func() error { return os.Symlink(names[rnd.IntN(len(names))], name) })
	case 3:
		put(func() error { return os.Mkdir(name, 0o750) })
	case 4:
		_ = os.RemoveAll(name) // there may be a file in the way
	case 5:
		if info, err := os.Lstat(name); err == nil && info.Mode()&os.ModeSymlink == 0 {
			if err := os.Chtimes(name, at, at); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// From any tree to any other: afterwards they are equal, and the next push has nothing to do. Contents of one size are the
// same here, since files of one size and time are taken for equal.
func TestPushBetweenAnyTrees(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	src, dst := t.TempDir(), t.TempDir()
	for round := range 40 {
		for range rnd.IntN(12) {
			change(t, rnd, src)
		}
		for range rnd.IntN(12) {
			change(t, rnd, dst)
		}
		push(t, r, src, dst, workspace.PushOptions{})
		if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
			t.Fatalf("round %d (-here +there):\n%s", round, diff)
		}
		if sum := push(t, r, src, dst, workspace.PushOptions{}); sum.Files+sum.Dirs+sum.Links+sum.Removed > 0 {
			t.Fatalf("round %d: an unchanged tree: %+v", round, sum)
		}
	}
}

func TestPushThroughAWrapper(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	r.before = []string{"env", "-i", "PATH=/usr/bin:/bin"} // as words before a command are
	src, dst := hostileTree(t), filepath.Join(t.TempDir(), "dst")
	push(t, r, src, dst, workspace.PushOptions{})
	if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
		t.Errorf("the copy differs (-here +there):\n%s", diff)
	}
}
