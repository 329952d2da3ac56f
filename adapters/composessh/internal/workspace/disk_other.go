//go:build !unix

package workspace

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// folder is an open directory of this machine. Its names are single elements.
type folder struct{ root *os.Root }

func openFolder(root *os.Root) (*folder, error) {
	own, err := root.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	return &folder{own}, nil
}

func (d *folder) Close() error { return d.root.Close() }

func (d *folder) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, f.Close())
}

// stat describes a name; false where it is no file, directory or link.
func (d *folder) stat(name string) (entry, bool, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return entry{}, false, err
	}
	e, ok := infoEntry(name, info)
	if e.kind == kindLink {
		e.link, err = d.root.Readlink(name)
		e.link = strings.ReplaceAll(e.link, `\`, "/")
	}
	return e, ok, err
}

// open opens a regular file, and describes it as it is now. One that became something else is Aborted.
func (d *folder) open(name string) (file, entry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return file{}, entry{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return file{}, entry{}, errors.Join(err, f.Close())
	}
	e, ok := infoEntry(name, info)
	if !ok || e.kind != kindFile {
		return file{}, entry{}, errors.Join(errReplaced, f.Close())
	}
	return file{f}, e, nil
}

// file is an open file.
type file struct{ *os.File }

func infoEntry(name string, info fs.FileInfo) (entry, bool) {
	mtime := info.ModTime()
	e := entry{name: name, perm: uint16(info.Mode().Perm()), sec: mtime.Unix(), nsec: int32(mtime.Nanosecond())}
	switch {
	case info.Mode().IsRegular():
		e.kind, e.size = kindFile, info.Size()
	case info.IsDir():
		e.kind = kindDir
	case info.Mode().Type() == fs.ModeSymlink:
		e.kind = kindLink
	default:
		return e, false
	}
	return e, true
}
