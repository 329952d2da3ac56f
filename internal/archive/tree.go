package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// tree writes below a root. It keeps the directory that it wrote to last open, since a stream stays in one for long; all
// names below are reached in two steps, the directory, every element of which is a real one, and the name in it.
type tree struct {
	ctx  context.Context
	root *os.Root
	at   string // the directory that is open
	cur  *os.Root
	file *os.File // cur again, as what calls without a method in os.Root need
	dirs map[string]plannedDir
	list []string // keys of dirs, parents first
}

// plannedDir is what a directory gets at the end.
type plannedDir struct {
	mode fs.FileMode
	time time.Time
}

func newTree(ctx context.Context, root *os.Root) *tree {
	return &tree{ctx: ctx, root: root, dirs: map[string]plannedDir{}}
}

// parent opens the directory of name, makes it where it is missing, and returns the last element of name.
func (t *tree) parent(name string) (*os.Root, string, error) { return t.enter(t.ctx, name, true) }

// enter opens the directory of name and returns the last element of name. It goes down one element at a time, each in the
// directory that it lies in: a look that begins at the root every time costs the square of the depth, and a name of a few
// KiB is thousands of directories deep.
func (t *tree) enter(ctx context.Context, name string, create bool) (*os.Root, string, error) {
	at, base := path.Split(name)
	at = path.Clean(at)
	if t.cur != nil && t.at == at {
		return t.cur, base, nil
	}
	t.close()
	cur := t.root
	for end := 0; at != "." && end < len(at); end++ {
		from := end
		for end < len(at) && at[end] != '/' {
			end++
		}
		next, err := t.down(ctx, cur, at[from:end], create)
		if cur != t.root {
			_ = cur.Close() // a directory: nothing was written to it
		}
		switch {
		case errors.Is(err, errIsLink):
			return nil, "", refuse(name, "lies below the symbolic link %q; nothing is written through a link", clip(at[:end]))
		case errors.Is(err, errIsNoDir):
			return nil, "", refuse(name, "lies below %q, which is no directory", clip(at[:end]))
		case err != nil:
			return nil, "", err
		}
		cur = next
	}
	t.at, t.cur = at, cur
	return cur, base, nil
}

// What a directory of a name turned out to be.
var (
	errIsLink  = errors.New("a symbolic link")
	errIsNoDir = errors.New("no directory")
)

// down opens the directory elem of dir.
func (t *tree) down(ctx context.Context, dir *os.Root, elem string, create bool) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch info, err := dir.Lstat(elem); {
	case errors.Is(err, fs.ErrNotExist) && create:
		if err := dir.Mkdir(elem, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink:
		return nil, errIsLink
	case !info.IsDir():
		return nil, errIsNoDir
	}
	return dir.OpenRoot(elem)
}

func (t *tree) close() {
	if t.file != nil {
		_ = t.file.Close() // as below
	}
	if t.cur != nil && t.cur != t.root {
		_ = t.cur.Close() // a directory: nothing was written to it
	}
	t.at, t.cur, t.file = "", nil, nil
}

// turns bounds how often a name is cleared when somebody else keeps creating it.
const turns = 10

// replace calls create until it does not find something in its place, and removes what is there: files and links, and
// directories where they are empty.
func (t *tree) replace(name string, create func(dir *os.Root, base string) error) error {
	for turn := 0; ; turn++ {
		dir, base, err := t.parent(name)
		if err != nil {
			return err
		}
		err = create(dir, base)
		if !errors.Is(err, fs.ErrExist) || turn == turns {
			return err
		}
		err = dir.Remove(base)
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
			return refuse(name, "takes the place of a directory that is not empty")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(t.dirs, name)
	}
}

func (t *tree) create(name string) (f *os.File, err error) {
	err = t.replace(name, func(dir *os.Root, base string) error {
		f, err = dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	return f, err
}

func (t *tree) symlink(name, target string) error {
	return t.replace(name, func(dir *os.Root, base string) error { return dir.Symlink(target, base) })
}

// link makes name a second name of from, which is a file.
func (t *tree) link(from, name string) error {
	return t.replace(name, func(dir *os.Root, base string) error {
		if _, err := dir.Lstat(base); err == nil {
			return fs.ErrExist // cleared first; then through the root, since from may lie anywhere below it
		}
		return t.root.Link(from, name)
	})
}

// mkdir makes a directory or takes the one that is there, open for filling until finish.
func (t *tree) mkdir(name string, mode fs.FileMode, mtime time.Time) error {
	err := t.replace(name, func(dir *os.Root, base string) error {
		err := dir.Mkdir(base, 0o700)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := dir.Lstat(base)
		switch {
		case err != nil:
			return err
		case !info.IsDir():
			return fs.ErrExist
		case info.Mode()&0o700 != 0o700:
			return dir.Chmod(base, info.Mode()|0o700)
		}
		return nil
	})
	if err == nil {
		t.plan(name, mode, mtime)
	}
	return err
}

// plan notes what a directory is to become; the last entry for it counts.
func (t *tree) plan(name string, mode fs.FileMode, mtime time.Time) {
	if _, ok := t.dirs[name]; !ok {
		t.list = append(t.list, name)
	}
	t.dirs[name] = plannedDir{mode, mtime}
}

// setTime sets the time of a file or link, not of what a link leads to.
func (t *tree) setTime(name string, mtime time.Time) error {
	dir, base, err := t.parent(name)
	if err != nil {
		return err
	}
	if t.file == nil {
		if t.file, err = dir.Open("."); err != nil {
			return err
		}
	}
	return setModTime(dir, t.file, base, mtime)
}

// lstat looks at a name that goes through no symbolic link.
func (t *tree) lstat(name string) (fs.FileInfo, error) {
	dir, base, err := t.enter(t.ctx, name, false)
	if err != nil {
		return nil, err
	}
	return dir.Lstat(base)
}

func (t *tree) readlink(name string) (string, error) { return t.root.Readlink(name) }

// leaves removes the link at name when following it leads out of the root.
func (t *tree) leaves(name string) (bool, error) {
	_, err := t.root.Stat(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if rerr := t.root.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return true, fmt.Errorf("leaves the tree and cannot be removed: %w", rerr)
	}
	return true, nil
}

// finish sets modes and times of directories, children first, since setting a child's may need its parent's. It does so also
// when the context has ended, and goes down to no directory that the extraction did not go down to before that.
func (t *tree) finish() error {
	defer t.close()
	ctx := context.WithoutCancel(t.ctx)
	var errs []error
	for i := len(t.list) - 1; i >= 0; i-- {
		name := t.list[i]
		want, ok := t.dirs[name]
		if !ok {
			continue // replaced by something else
		}
		delete(t.dirs, name)
		dir, base, err := t.enter(ctx, name, false)
		if err != nil {
			continue // taken away meanwhile by somebody else
		}
		if info, err := dir.Lstat(base); err != nil || !info.IsDir() {
			continue // as above
		}
		if err := finishDir(dir, base, want); err != nil {
			errs = append(errs, entryError(name, err))
		}
		if len(errs) == 10 {
			break
		}
	}
	return errors.Join(errs...)
}

func finishDir(dir *os.Root, base string, want plannedDir) error {
	if err := dir.Chtimes(base, time.Time{}, want.time); err != nil {
		return err
	}
	return dir.Chmod(base, want.mode)
}
