package workspace

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
	perm uint16 // the lower twelve bits of a mode; here without those that make a program run as somebody else
	nsec int32
	sec  int64
	size int64
	link string // where a link leads

	untimed bool // here: a file system that keeps no times has it

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

// equal reports whether the host has what is here, as far as one can tell without reading it.
func (e *entry) equal(there *entry) bool {
	if e.kind != there.kind || e.sec != there.sec || e.nsec != there.nsec {
		return false
	}
	switch e.kind {
	case kindFile:
		return !e.untimed && e.size == there.size && e.perm == there.perm
	case kindDir: // new directories inherit a set-group-ID bit there
		return e.perm == there.perm&^setBits
	}
	return e.link == there.link
}

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
