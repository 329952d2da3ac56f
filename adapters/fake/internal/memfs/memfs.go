// Package memfs is the file system of a fake sandbox: directories, files and symbolic links in memory, with modes and
// nanosecond times, and tar in and out. It knows no users: whoever has the tree may do everything.
package memfs

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxLinks bounds how many symbolic links one look-up follows, as Linux does.
const maxLinks = 40

// FS is one tree. Safe for concurrent use. All paths are absolute and slash-separated.
type FS struct {
	mu   sync.RWMutex
	root *node
}

// node is a file, a directory or a link. data is only ever replaced or appended to, so that a copy of the slice stays true.
type node struct {
	mode   fs.FileMode // type and permission bits
	mtime  time.Time
	data   []byte
	target string
	kids   map[string]*node
}

// New returns a tree with an empty root.
func New() *FS { return &FS{root: newDir(0o755)} }

func newDir(perm fs.FileMode) *node {
	return &node{mode: fs.ModeDir | perm, mtime: time.Now()}
}

func (n *node) clone() *node {
	c := *n
	c.data = n.data[:len(n.data):len(n.data)]
	if n.kids != nil {
		c.kids = make(map[string]*node, len(n.kids))
		for name, kid := range n.kids {
			c.kids[name] = kid.clone()
		}
	}
	return &c
}

func (n *node) put(name string, kid *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = kid
	n.mtime = time.Now()
}

func (n *node) names() []string {
	names := make([]string, 0, len(n.kids))
	for name := range n.kids {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Clone returns an independent copy. File contents are shared until one side writes.
func (f *FS) Clone() *FS {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return &FS{root: f.root.clone()}
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// spot is where a path leads: the directory that holds its last element, that element's name, and the node where it exists.
type spot struct {
	dir  *node
	name string
	node *node
}

// walk finds p. follow says whether a link at the very end is followed; a link to nothing is then a spot without a node.
func (f *FS) walk(op, p string, follow bool) (spot, error) {
	return f.walkIn(f.root, op, p, follow, false)
}

// walkIn is walk below base. With jail, what leaves base (an absolute link, one ".." too many) is refused; without, ".." at
// the top stays there, as at the root of a file system.
func (f *FS) walkIn(base *node, op, p string, follow, jail bool) (spot, error) {
	stack := []*node{base}
	rest := split(p)
	links := 0
	for i := 0; ; i++ {
		if len(rest) == 0 {
			return spot{dir: top(stack), name: ".", node: top(stack)}, nil
		}
		name := rest[0]
		rest = rest[1:]
		here := top(stack)
		if !here.mode.IsDir() {
			return spot{}, fail(op, p, syscall.ENOTDIR)
		}
		if name == ".." {
			switch {
			case len(stack) > 1:
				stack = stack[:len(stack)-1]
			case jail:
				return spot{}, fail(op, p, ErrEscapes)
			}
			continue
		}
		next, ok := here.kids[name]
		last := len(rest) == 0
		if !ok {
			if last {
				return spot{dir: here, name: name}, nil
			}
			return spot{}, fail(op, p, fs.ErrNotExist)
		}
		if next.mode&fs.ModeSymlink != 0 && (!last || follow) {
			if links++; links > maxLinks {
				return spot{}, fail(op, p, syscall.ELOOP)
			}
			if strings.HasPrefix(next.target, "/") {
				if jail {
					return spot{}, fail(op, p, ErrEscapes)
				}
				stack = stack[:1]
			}
			rest = append(split(next.target), rest...)
			continue
		}
		if last {
			return spot{dir: here, name: name, node: next}, nil
		}
		stack = append(stack, next)
	}
}

// ErrEscapes is a path that leads out of the tree it is bound to.
var ErrEscapes = errors.New("leads out of the tree")

func top(stack []*node) *node { return stack[len(stack)-1] }

func split(p string) []string {
	parts := strings.Split(p, "/")
	out := parts[:0]
	for _, s := range parts {
		if s != "" && s != "." {
			out = append(out, s)
		}
	}
	return out
}

// find is walk to something that exists.
func (f *FS) find(op, p string, follow bool) (*node, error) {
	s, err := f.walk(op, p, follow)
	if err != nil {
		return nil, err
	}
	if s.node == nil {
		return nil, fail(op, p, fs.ErrNotExist)
	}
	return s.node, nil
}

// Join makes p absolute: relative to dir unless it is absolute already.
func Join(dir, p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	return dir + "/" + p // not cleaned: ".." behind a link means the link's target
}

// Clean is path.Clean of an absolute path.
func Clean(p string) string { return path.Clean("/" + p) }
