package memfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"syscall"

	"github.com/sand-boxer/sandboxer/internal/archive"
)

// SyncOptions bend Sync, for the fake's quirks; the zero value is the honest way.
type SyncOptions struct {
	KeepExtra   bool // what src has not stays
	ReadAll     bool // files that are equal are read and replaced too
	FollowLinks bool // a link in dst is taken for what it points to
}

// Sync makes the directory dst, which it makes, equal to src. Nodes that are equal stay as they are, and their files are not
// read.
func (f *FS) Sync(ctx context.Context, dst string, src fs.FS, o SyncOptions) error {
	f.mu.Lock()
	base, err := f.mkdirAll(dst, 0o755)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	s := &syncer{ctx: ctx, f: f, src: src, o: o}
	want, err := s.dir(".", base)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.merge(dst, base, want)
}

type syncer struct {
	ctx context.Context
	f   *FS
	src fs.FS
	o   SyncOptions
}

// wanted is a node as it should be.
type wanted struct {
	node
	keep bool // what is there is equal
	kids map[string]*wanted
}

// dir reads a directory of src; old is what the sandbox has in its place, or nil.
func (s *syncer) dir(at string, old *node) (*wanted, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(s.src, at)
	if err != nil {
		return nil, err
	}
	w := &wanted{kids: map[string]*wanted{}}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		kid, err := s.entry(path.Join(at, e.Name()), info, s.kid(old, e.Name()))
		if err != nil {
			return nil, err
		}
		if kid != nil {
			w.kids[e.Name()] = kid
		}
	}
	return w, nil
}

func (s *syncer) kid(n *node, name string) *node {
	if n == nil {
		return nil
	}
	s.f.mu.RLock()
	defer s.f.mu.RUnlock()
	return n.kids[name]
}

// entry reads one entry of src: a file only where the sandbox has another.
func (s *syncer) entry(at string, info fs.FileInfo, old *node) (*wanted, error) {
	mode, mtime := archive.InfoOf(info)
	w := &wanted{node: node{mode: mode.Type() | mode.Perm(), mtime: mtime}}
	var err error
	switch {
	case mode.IsDir():
		sub, err := s.dir(at, old)
		if err != nil {
			return nil, err
		}
		w.kids = sub.kids
	case mode.Type() == fs.ModeSymlink:
		w.mode = fs.ModeSymlink | 0o777
		w.target, err = fs.ReadLink(s.src, at)
	case mode.IsRegular():
		if w.keep = !s.o.ReadAll && !info.ModTime().IsZero() && s.equal(old, w, info.Size()); !w.keep {
			w.data, err = fs.ReadFile(s.src, at)
		}
	default:
		return nil, nil //nolint:nilnil // sockets and devices are left out
	}
	return w, err
}

func (s *syncer) equal(old *node, w *wanted, size int64) bool {
	if old == nil {
		return false
	}
	s.f.mu.RLock()
	defer s.f.mu.RUnlock()
	return old.mode == w.mode && old.mtime.Equal(w.mtime) && int64(len(old.data)) == size
}

// merge makes the directory n, which is at p, what it should be.
func (s *syncer) merge(p string, n *node, w *wanted) error {
	for _, name := range n.names() {
		if w.kids[name] == nil && !s.o.KeepExtra {
			delete(n.kids, name)
		}
	}
	for name, kid := range w.kids {
		at, old := p+"/"+name, n.kids[name]
		if old != nil && s.o.FollowLinks && old.mode.Type() == fs.ModeSymlink {
			if to, err := s.f.find("sync", at, true); err == nil {
				old = to
			}
		}
		switch {
		case kid.mode.IsDir():
			if old == nil || !old.mode.IsDir() {
				old = newDir(kid.mode.Perm())
				n.put(name, old)
			}
			if err := s.merge(at, old, kid); err != nil {
				return err
			}
			old.mode, old.mtime = kid.mode, kid.mtime
		case kid.keep && old == nil:
			return fail("sync", at, syscall.ESTALE)
		case kid.keep:
		case old != nil && s.o.FollowLinks && old.mode.IsRegular():
			old.mode, old.mtime, old.data = kid.mode, kid.mtime, kid.data
		default:
			fresh := kid.node
			n.put(name, &fresh)
		}
	}
	return nil
}
