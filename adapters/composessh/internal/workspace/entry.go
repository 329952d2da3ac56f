package workspace

import (
	"io/fs"
	"time"
)

// The kinds of entries, as find calls them.
const (
	kindFile = 'f'
	kindDir  = 'd'
	kindLink = 'l'
)

// entry is one name of a tree, here or on the host.
type entry struct {
	name string // here without, on the host with the directory
	kind byte
	perm uint16 // the lower twelve bits of a mode
	nsec int32
	sec  int64
	size int64
	link string // where a link leads

	send bool // here: the host lacks it, or has another
	weak bool // here: a directory that is ignored, and kept where something in it is not
	same bool // on the host: it is here too
}

const (
	permBits = 0o777
	sticky   = 0o1000
	setBits  = 0o6000
	ownAll   = 0o700
)

// entryOf describes what is here. The bits that make a program run as somebody else do not travel.
func entryOf(name string, info fs.FileInfo) (entry, bool) {
	mtime := info.ModTime()
	e := entry{name: name, perm: uint16(info.Mode().Perm()), sec: mtime.Unix(), nsec: int32(mtime.Nanosecond())}
	if info.Mode()&fs.ModeSticky != 0 {
		e.perm |= sticky
	}
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

// equal reports whether the host has what is here, as far as one can tell without reading it.
func (e *entry) equal(there *entry) bool {
	if e.kind != there.kind || e.sec != there.sec || e.nsec != there.nsec {
		return false
	}
	switch e.kind {
	case kindFile:
		return e.size == there.size && e.perm == there.perm
	case kindDir: // new directories inherit a set-group-ID bit there
		return e.perm == there.perm&^setBits
	}
	return e.link == there.link
}

func (e *entry) mtime() time.Time { return time.Unix(e.sec, int64(e.nsec)) }

// list is a directory that is here. Its path is relative to the tree, and empty for that itself.
type list struct {
	path    string
	entries []entry
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}
