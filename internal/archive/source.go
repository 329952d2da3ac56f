package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/sand-boxer/sandboxer"
)

// dir is one directory that is being packed. Names are single elements. It is counted, because files are read after the
// walk has moved on.
type dir interface {
	names() ([]string, error) // sorted by bytes
	lstat(name string) (fs.FileInfo, error)
	readlink(name string) (string, error)
	open(name string) (fs.File, error) // never waits, not even for the other end of a named pipe
	sub(name string) (dir, error)
	retain()
	release()
}

// rootDir is a directory on disk, held open, so that renaming a parent while it is packed cannot lead anywhere else.
type rootDir struct {
	root *os.Root
	refs *atomic.Int32 // nil: the caller's, not ours to close
}

func (d *rootDir) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func (d *rootDir) lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

func (d *rootDir) readlink(name string) (string, error) {
	target, err := d.root.Readlink(name)
	if os.PathSeparator == '\\' {
		target = strings.ReplaceAll(target, `\`, "/")
	}
	return target, err
}

func (d *rootDir) open(name string) (fs.File, error) {
	return d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func (d *rootDir) sub(name string) (dir, error) {
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return ownRoot(root), nil
}

func ownRoot(root *os.Root) *rootDir {
	d := &rootDir{root: root, refs: new(atomic.Int32)}
	d.refs.Store(1)
	return d
}

func (d *rootDir) retain() {
	if d.refs != nil {
		d.refs.Add(1)
	}
}

func (d *rootDir) release() {
	if d.refs != nil && d.refs.Add(-1) == 0 {
		_ = d.root.Close() // read only: there is nothing to lose
	}
}

// fsDir is a directory of any other file system.
type fsDir struct {
	fsys  fs.FS
	at    string
	found map[string]fs.DirEntry

	follow bool // of the one file that was asked for, what it leads to is meant
}

func (d *fsDir) names() ([]string, error) {
	entries, err := fs.ReadDir(d.fsys, d.at)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	d.found = make(map[string]fs.DirEntry, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		d.found[e.Name()] = e
	}
	slices.Sort(names)
	return names, nil
}

func (d *fsDir) lstat(name string) (info fs.FileInfo, err error) {
	e, listed := d.found[name]
	if d.follow {
		info, err = fs.Stat(d.fsys, path.Join(d.at, name))
	} else if _, ok := d.fsys.(fs.ReadLinkFS); !ok && listed {
		info, err = e.Info() // without ReadLinkFS, only the listing tells a link from what it points to
	} else {
		info, err = fs.Lstat(d.fsys, path.Join(d.at, name))
	}
	if err != nil {
		return nil, err
	}
	return knownInfo(info), nil
}

func (d *fsDir) readlink(name string) (string, error) {
	if _, ok := d.fsys.(fs.ReadLinkFS); !ok {
		return "", sandboxer.Mark(sandboxer.Unsupported, fmt.Errorf("is a symbolic link, and %T implements no fs.ReadLinkFS to read it", d.fsys))
	}
	return fs.ReadLink(d.fsys, path.Join(d.at, name))
}

func (d *fsDir) open(name string) (fs.File, error) {
	f, err := d.fsys.Open(path.Join(d.at, name))
	if err != nil {
		return nil, err
	}
	return knownFile{f}, nil
}

func (d *fsDir) sub(name string) (dir, error) {
	return &fsDir{fsys: d.fsys, at: path.Join(d.at, name)}, nil
}

func (d *fsDir) retain()  {}
func (d *fsDir) release() {}

// knownFile and knownInfo repair what a file system in memory says of modes, see PackFS.
type knownFile struct{ fs.File }

func (f knownFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	return knownInfo(info), nil
}

type repairedInfo struct {
	fs.FileInfo
	mode fs.FileMode
}

func (i repairedInfo) Mode() fs.FileMode { return i.mode }

// knownInfo gives files of embed.FS (0444, directories 0555) and of fstest.MapFS (0 where none is given) modes that somebody
// can work with. Both keep no times: that is how they are told from a disk, where such modes were meant.
func knownInfo(info fs.FileInfo) fs.FileInfo {
	if !info.ModTime().IsZero() {
		return info
	}
	switch perm := info.Mode().Perm(); {
	case info.IsDir() && (perm == 0 || perm == 0o555):
		return repairedInfo{info, info.Mode()&^fs.ModePerm | 0o755}
	case info.Mode().IsRegular() && (perm == 0 || perm == 0o444):
		return repairedInfo{info, info.Mode()&^fs.ModePerm | 0o644}
	}
	return info
}
