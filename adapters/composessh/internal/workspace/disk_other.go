//go:build !unix

package workspace

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// diskFolder is an open directory of this machine. Its names are single elements.
type diskFolder struct{ root *os.Root }

func openFolder(root *os.Root) (folder, error) {
	own, err := root.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	return &diskFolder{own}, nil
}

func (d *diskFolder) Close() error { return d.root.Close() }

func (d *diskFolder) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, f.Close())
}

func (d *diskFolder) stat(name string) (entry, bool, error) {
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

func (d *diskFolder) open(name string) (file, entry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, entry{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, entry{}, errors.Join(err, f.Close())
	}
	e, ok := infoEntry(name, info)
	if !ok || e.kind != kindFile {
		return nil, entry{}, errors.Join(errReplaced, f.Close())
	}
	return f, e, nil
}

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
