//go:build linux || darwin

// Package rmtree removes trees that somebody else has filled: with directories that forbid everything, links that lead
// away, more levels than there are file descriptors, and files that appear while it works. The local adapter calls it.
package rmtree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"time"
)

const (
	maxDepth = 64  // deeper directories are moved up first: each level holds a file descriptor
	batch    = 256 // names read at a time
	rounds   = 20  // looks at a tree that somebody keeps filling
)

// Remove removes name, an element of parent, and all that is in it, and follows no link. It returns nil only when nothing
// of that name is there any more, and ends with ctx.
func Remove(ctx context.Context, parent *os.Root, name string) error {
	var last error
	for round := range rounds {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, last)
		}
		switch info, err := parent.Lstat(name); {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !info.IsDir():
			last = ignoreGone(parent.Remove(name))
		default:
			last = removeDir(ctx, parent, name)
		}
		if last == nil {
			continue // look whether it is true
		}
		if round > 0 {
			t := time.NewTimer(time.Duration(round) * 5 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
	if last == nil {
		last = fmt.Errorf("%s appears again whenever it is removed", name)
	}
	return last
}

func removeDir(ctx context.Context, parent *os.Root, name string) error {
	top, err := enter(parent, name)
	if err != nil {
		return err
	}
	r := remover{ctx: ctx, top: top}
	err = errors.Join(r.empty(top, "", 0), top.Close())
	if rerr := ignoreGone(parent.Remove(name)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// enter opens a directory, whatever it forbids.
func enter(parent *os.Root, name string) (*os.Root, error) {
	if info, err := parent.Lstat(name); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is no directory any more", name)
	} else if info.Mode()&0o700 != 0o700 {
		if err := parent.Chmod(name, 0o700); err != nil {
			return nil, err
		}
	}
	return parent.OpenRoot(name)
}

type remover struct {
	ctx   context.Context
	top   *os.Root
	moved int
}

// empty removes what is in d, which lies at the path at below the top. It goes on after an error and returns the first.
func (r *remover) empty(d *os.Root, at string, depth int) error {
	var first error
	keep := func(err error) {
		if first == nil && ignoreGone(err) != nil {
			first = err
		}
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		names, err := some(d)
		if err != nil {
			return err
		}
		progress := false
		for _, name := range names {
			err := r.one(d, name, path.Join(at, name), depth)
			progress = progress || ignoreGone(err) == nil
			keep(err)
		}
		if len(names) == 0 || !progress {
			return first
		}
		first = nil // what failed is met again
	}
}

func (r *remover) one(d *os.Root, name, at string, depth int) error {
	info, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return d.Remove(name)
	}
	if depth >= maxDepth {
		r.moved++
		// Its ".." changes, and so it must be ours to write.
		if info.Mode()&0o700 != 0o700 {
			if err := d.Chmod(name, 0o700); err != nil {
				return err
			}
		}
		return r.top.Rename(at, ".moved-"+strconv.Itoa(r.moved))
	}
	sub, err := enter(d, name)
	if err != nil {
		return err
	}
	err = errors.Join(r.empty(sub, at, depth+1), sub.Close())
	if err != nil {
		return err
	}
	return d.Remove(name)
}

// some returns a few names in d; none means that it is empty.
func some(d *os.Root) ([]string, error) {
	f, err := d.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(batch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, errors.Join(err, f.Close())
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
