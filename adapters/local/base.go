//go:build linux || darwin

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// base is the directory below which everything lies, open for one call.
type base struct {
	path string
	root *os.Root
}

// openBase opens the directory at path. Unless it is to be made, it is nil without an error where there is none: then
// nothing has ever been made there.
func openBase(path string, create bool) (*base, error) {
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, classify(fmt.Errorf("the root cannot be made: %w", err))
		}
	}
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil
	}
	if err != nil {
		return nil, classify(fmt.Errorf("the root cannot be opened: %w", err))
	}
	info, err := root.Stat(".")
	if err == nil && info.Mode().Perm()&0o002 != 0 {
		err = sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("the root %s may be written by everybody, who could put anything in a sandbox's place; take a directory of your own below it", path))
	}
	if err != nil {
		_ = root.Close() // nothing was written
		return nil, classify(err)
	}
	return &base{path: path, root: root}, nil
}

func (b *base) close() { _ = b.root.Close() } // a directory: nothing was written to it

// lock takes the lock of the base, which one process at a time holds while it decides who owns a name.
func (b *base) lock(ctx context.Context) (unlock func(), err error) {
	_, unlock, err = lockFile(ctx, b.root, ".", syscall.LOCK_EX)
	return unlock, classify(err)
}

// lockFile takes an advisory lock on the file that is called name now, shared or exclusive, and says which file it was. It
// polls, so that it ends with ctx.
func lockFile(ctx context.Context, root *os.Root, name string, how int) (was fs.FileInfo, unlock func(), err error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	was, err = f.Stat()
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 25*time.Millisecond) {
		err := flock(f, how|syscall.LOCK_NB)
		if err == nil {
			return was, func() {
				// Explicitly, because a child that is just being started may still hold the file open.
				_ = flock(f, syscall.LOCK_UN)
				_ = f.Close() // nothing was written
			}, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = pause(ctx, wait)
		}
		if err != nil {
			_ = f.Close() // nothing was written
			return nil, nil, fmt.Errorf("waiting for the lock on %s: %w", filepath.Join(root.Name(), name), err)
		}
	}
}

func flock(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = conn.Control(func(fd uintptr) {
		for ferr = syscall.EINTR; errors.Is(ferr, syscall.EINTR); {
			ferr = syscall.Flock(int(fd), how)
		}
	})
	return errors.Join(err, ferr)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace writes a file so that it is either there as a whole or not at all, also after a loss of power.
func replace(root *os.Root, temp, name string, data []byte) (err error) {
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, ignoreGone(root.Remove(temp)))
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// elements returns the names in a directory that begin with prefix; none where there is no such directory.
func elements(root *os.Root, dir, prefix string) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, ignoreGone(err)
	}
	all, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	out := all[:0]
	for _, name := range all {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out, nil
}

// classify gives an error of the operating system its code; one that has a code keeps it.
func classify(err error) error {
	switch {
	case err == nil, sandboxer.CodeOf(err) != sandboxer.Unknown:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG), errors.Is(err, syscall.EMFILE),
		errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return sandboxer.Mark(sandboxer.ResourceExhausted, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return sandboxer.Mark(sandboxer.PermissionDenied, err)
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Mark(sandboxer.NotFound, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrInvalid), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return sandboxer.Mark(sandboxer.InvalidArgument, err)
	}
	return err
}
