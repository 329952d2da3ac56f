//go:build linux || darwin

package rmtree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/adapters/local/internal/rmtree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setUp(t *testing.T) (*os.Root, string) {
	t.Helper()
	top := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(top, "outside/kept"), 0o755), os.MkdirAll(filepath.Join(top, "in/tree"), 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(top, "in"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, top
}

func mustBeGone(t *testing.T, root *os.Root, top string) {
	t.Helper()
	if err := rmtree.Remove(t.Context(), root, "tree"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := root.Lstat("tree"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(top, "outside/kept")); err != nil {
		t.Errorf("something outside is gone: %v", err)
	}
	if err := rmtree.Remove(t.Context(), root, "tree"); err != nil {
		t.Errorf("Remove of what is gone: %v", err)
	}
}

func TestRemoveOddTrees(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(t *testing.T, tree string) error{
		"a file": func(_ *testing.T, tree string) error {
			return errors.Join(os.Remove(tree), os.WriteFile(tree, nil, 0))
		},
		"a link": func(_ *testing.T, tree string) error {
			return errors.Join(os.Remove(tree), os.Symlink("../outside", tree))
		},
		"links that lead away": func(_ *testing.T, tree string) error {
			return errors.Join(os.Symlink("../../outside", tree+"/a"), os.Symlink("/", tree+"/b"), os.Symlink(".", tree+"/c"))
		},
		"directories that forbid everything": func(_ *testing.T, tree string) error {
			return errors.Join(os.MkdirAll(tree+"/a/b/c", 0o755), os.WriteFile(tree+"/a/b/f", nil, 0),
				os.Chmod(tree+"/a/b/c", 0), os.Chmod(tree+"/a/b", 0), os.Chmod(tree+"/a", 0), os.Chmod(tree, 0))
		},
		"special files": func(_ *testing.T, tree string) error {
			return syscall.Mkfifo(tree+"/fifo", 0)
		},
		"many files": func(_ *testing.T, tree string) error {
			for i := range 2000 {
				if err := os.WriteFile(fmt.Sprintf("%s/%d", tree, i), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		"names of any bytes": func(_ *testing.T, tree string) error {
			return errors.Join(os.Mkdir(tree+"/\xff\n'", 0o700), os.Mkdir(tree+"/-rf", 0o700), os.Mkdir(tree+"/"+strings.Repeat("x", 255), 0o700))
		},
		"more levels than descriptors": func(_ *testing.T, tree string) error {
			at, err := os.OpenRoot(tree)
			for range 3000 {
				if err != nil {
					return err
				}
				if err = at.Mkdir("d", 0o700); err != nil {
					return err
				}
				next, oerr := at.OpenRoot("d")
				_ = at.Close()
				at, err = next, oerr
			}
			return errors.Join(err, at.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, top := setUp(t)
			if err := build(t, filepath.Join(top, "in/tree")); err != nil {
				t.Fatal(err)
			}
			mustBeGone(t, root, top)
		})
	}
}

func TestRemoveWhileSomebodyFills(t *testing.T) {
	t.Parallel()
	root, top := setUp(t)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := 0; !stop.Load() && n < 2000; n++ {
				d := filepath.Join(top, "in/tree", fmt.Sprint(i), fmt.Sprint(n))
				_ = os.MkdirAll(d, 0o700)
				_ = os.WriteFile(filepath.Join(d, "f"), nil, 0)
				_ = os.Symlink("/", filepath.Join(d, "l"))
			}
		})
	}
	_ = rmtree.Remove(t.Context(), root, "tree") // may or may not win
	stop.Store(true)
	wg.Wait()
	mustBeGone(t, root, top)
}

func TestRemoveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	root, _ := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rmtree.Remove(ctx, root, "tree"); !errors.Is(err, context.Canceled) {
		t.Errorf("Remove: %v", err)
	}
}
