package workspace

import (
	"slices"
	"strings"
)

// plan is what has to be done on the host.
type plan struct {
	open   []string // directories to make writable first
	remove []string // none of them below another
	sum    Summary
}

// compare marks what is to be sent, and finds what is to be removed. Whatever the host's list says, a name in it only ever
// leads to that name's removal.
func compare(here *local, there *remote, keep bool) *plan {
	p := &plan{}
	dirs := map[string]*entry{} // here
	dirty := map[string]bool{}  // directories whose contents change
	var key []byte
	for li := range here.lists {
		l := &here.lists[li]
		for i := range l.entries {
			e := &l.entries[i]
			key = append(key[:0], l.path...)
			if l.path != "" {
				key = append(key, '/')
			}
			key = append(key, e.name...)
			if e.kind == kindDir {
				dirs[string(key)] = e
			}
			at, found := there.index[string(key)]
			e.send = !found || !e.equal(&there.entries[at])
			if found {
				old := &there.entries[at]
				old.same = old.kind == e.kind
				if !old.same && (old.kind == kindDir || e.kind == kindDir) {
					p.remove = append(p.remove, old.name)
				} else {
					old.same = true // replaced by what is sent
				}
			}
			if e.send && e.kind != kindDir {
				dirty[l.path] = true
			}
		}
	}
	if !keep {
		p.remove = append(p.remove, surplus(here, there)...)
	}
	p.remove = topmost(p.remove)
	for _, name := range p.remove {
		dir, _ := split(name)
		dirty[dir] = true
	}
	// A directory goes with what is sent into it: so that its time is right afterwards, and so that a link in its place is
	// replaced first. Children come first here.
	for i := len(here.lists) - 1; i >= 0; i-- {
		l := &here.lists[i]
		for j := range l.entries {
			e := &l.entries[j]
			if e.kind == kindDir && dirty[join(l.path, e.name)] {
				e.send = true
			}
			if e.send {
				dirty[l.path] = true
				p.sum.count(e)
			} else {
				p.sum.Same++
			}
		}
	}
	p.sum.Removed = int64(len(p.remove))
	p.open = closed(there, dirs, dirty)
	return p
}

func (s *Summary) count(e *entry) {
	switch e.kind {
	case kindFile:
		s.Files++
		s.Bytes += e.size
	case kindDir:
		s.Dirs++
	default:
		s.Links++
	}
}

// summary is that of sending everything.
func (l *local) summary() Summary {
	s := Summary{Skipped: l.skipped}
	for i := range l.lists {
		for j := range l.lists[i].entries {
			s.count(&l.lists[i].entries[j])
		}
	}
	return s
}

func (p *plan) empty() bool { return p.sum.Removed+p.sum.Files+p.sum.Dirs+p.sum.Links == 0 }

// surplus finds what the host has and is not here, without what is ignored and the directories around that.
func surplus(here *local, there *remote) []string {
	protected := map[string]bool{} // directories with something ignored in them
	var out []string
	for i := range there.entries {
		e := &there.entries[i]
		if e.same {
			continue
		}
		if !here.ignoresThere(e.name, e.kind == kindDir) {
			out = append(out, e.name)
			continue
		}
		for dir, _ := split(e.name); dir != "" && !protected[dir]; dir, _ = split(dir) {
			protected[dir] = true
		}
	}
	return slices.DeleteFunc(out, func(name string) bool { return protected[name] })
}

// topmost leaves out what lies in something else that is removed.
func topmost(names []string) []string {
	all := make(map[string]struct{}, len(names))
	for _, n := range names {
		all[n] = struct{}{}
	}
	out := names[:0]
	for _, n := range names {
		inside := false
		for dir, _ := split(n); dir != "" && !inside; dir, _ = split(dir) {
			_, inside = all[dir]
		}
		if !inside {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// closed lists the directories of the host that something is written to or removed from, and that do not let their owner
// do so.
func closed(there *remote, dirs map[string]*entry, dirty map[string]bool) []string {
	var out []string
	for i := range there.entries {
		e := &there.entries[i]
		if e.kind != kindDir || e.perm&ownAll == ownAll {
			continue
		}
		if _, here := dirs[e.name]; !here || dirty[e.name] {
			out = append(out, e.name)
		}
	}
	return out
}

// nulList is a list for xargs -0, with a last record that the reader drops: where the list was cut off, that is the
// broken one.
func nulList(names []string) []byte {
	if len(names) == 0 {
		return nil
	}
	var b strings.Builder
	for _, n := range names {
		b.WriteString("./")
		b.WriteString(n)
		b.WriteByte(0)
	}
	b.WriteString("end\x00")
	return []byte(b.String())
}
