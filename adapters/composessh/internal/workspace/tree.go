package workspace

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// tree is a directory that is here, of a disk or of any other file system.
type tree interface {
	sub(name string) (tree, error) // name is relative and clean, or "."
	folder() (folder, error)
	text(name string) (string, error) // of a file of patterns, see readPatterns
	Close() error
}

// folder is a directory whose names are asked about. They are single elements.
type folder interface {
	names() ([]string, error) // sorted
	// stat describes a name; false where it is no file, directory or link.
	stat(name string) (entry, bool, error)
	// open opens a regular file, and describes it as it is now. One that became something else is Aborted.
	open(name string) (file, entry, error)
	Close() error
}

type file = io.ReadCloser

// diskTree is a directory that is held open, so that it leads nowhere else whatever changes meanwhile.
type diskTree struct{ *os.Root }

func (t diskTree) sub(name string) (tree, error) {
	root, err := t.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return diskTree{root}, nil
}

func (t diskTree) folder() (folder, error)          { return openFolder(t.Root) }
func (t diskTree) text(name string) (string, error) { return readPatterns(t.Root, name) }

// fsTree is a directory of any file system.
type fsTree struct {
	fsys fs.FS
	at   string
}

func (t fsTree) sub(name string) (tree, error)    { return fsTree{t.fsys, path.Join(t.at, name)}, nil }
func (t fsTree) folder() (folder, error)          { return &fsFolder{fsTree: t}, nil }
func (t fsTree) text(name string) (string, error) { return "", nil } // none of its files is ours to heed
func (t fsTree) Close() error                     { return nil }

type fsFolder struct {
	fsTree
	found map[string]fs.DirEntry
}

func (d *fsFolder) names() ([]string, error) {
	entries, err := fs.ReadDir(d.fsys, d.at)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	d.found = make(map[string]fs.DirEntry, len(entries))
	for _, e := range entries {
		name := e.Name()
		if !isClean(name) || strings.ContainsAny(name, "/\x00") {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%T has %q in it, which is no name", d.fsys, clip(name)))
		}
		names = append(names, name)
		d.found[name] = e
	}
	return names, nil
}

func (d *fsFolder) stat(name string) (entry, bool, error) {
	info, err := d.found[name].Info() // of a link as a link
	if err != nil {
		return entry{}, false, err
	}
	e, ok := fsEntry(name, info)
	if e.kind == kindLink {
		if _, can := d.fsys.(fs.ReadLinkFS); !can {
			return e, false, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("it is a symbolic link, and %T implements no fs.ReadLinkFS to read it", d.fsys))
		}
		if e.link, err = fs.ReadLink(d.fsys, path.Join(d.at, name)); strings.ContainsRune(e.link, 0) {
			err = sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("it leads to %q", clip(e.link)))
		}
	}
	return e, ok, err
}

func (d *fsFolder) open(name string) (file, entry, error) {
	at := path.Join(d.at, name)
	f, err := d.fsys.Open(at)
	if err != nil {
		return nil, entry{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errReplaced
	}
	if links, ok := d.fsys.(fs.ReadLinkFS); ok && err == nil {
		now, lerr := links.Lstat(at) // Open has followed what it has become
		if err = lerr; err == nil && !now.Mode().IsRegular() {
			err = errReplaced
		}
	}
	if err != nil {
		_ = f.Close() // read only
		return nil, entry{}, err
	}
	e, _ := fsEntry(name, info)
	return f, e, nil
}

// fsEntry describes a name as archive.PackFS would.
func fsEntry(name string, info fs.FileInfo) (entry, bool) {
	mode, mtime := archive.InfoOf(info)
	e := entry{name: name, perm: uint16(mode.Perm()), sec: mtime.Unix(), nsec: int32(mtime.Nanosecond()), untimed: info.ModTime().IsZero()}
	if mode&fs.ModeSticky != 0 {
		e.perm |= sticky
	}
	switch {
	case mode.IsRegular():
		e.kind, e.size = kindFile, info.Size()
	case mode.IsDir():
		e.kind = kindDir
	case mode.Type() == fs.ModeSymlink:
		e.kind = kindLink
	default:
		return e, false
	}
	return e, true
}
