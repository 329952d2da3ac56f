package memfs

import (
	"io"
	"io/fs"
	"path"
	"syscall"
	"time"
)

// Info describes one entry.
type Info struct {
	Name   string
	Mode   fs.FileMode
	Size   int64
	MTime  time.Time
	Target string // of a symbolic link
}

func (n *node) info(name string) Info {
	i := Info{Name: name, Mode: n.mode, MTime: n.mtime, Target: n.target, Size: int64(len(n.data))}
	if n.mode&fs.ModeSymlink != 0 {
		i.Size = int64(len(n.target))
	}
	return i
}

// Stat describes what p leads to.
func (f *FS) Stat(p string) (Info, error) { return f.stat("stat", p, true) }

// Lstat describes p itself, a link as a link.
func (f *FS) Lstat(p string) (Info, error) { return f.stat("lstat", p, false) }

func (f *FS) stat(op, p string, follow bool) (Info, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.find(op, p, follow)
	if err != nil {
		return Info{}, err
	}
	return n.info(path.Base(p)), nil
}

// ReadDir lists a directory, by name.
func (f *FS) ReadDir(p string) ([]Info, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.find("open", p, true)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, fail("readdir", p, syscall.ENOTDIR)
	}
	var out []Info
	for _, name := range n.names() {
		out = append(out, n.kids[name].info(name))
	}
	return out, nil
}

// ReadFile returns the bytes of a file; they must not be written to.
func (f *FS) ReadFile(p string) ([]byte, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.find("open", p, true)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return nil, fail("read", p, syscall.EISDIR)
	}
	return n.data, nil
}

// WriteFile writes a file, with the directories that it needs.
func (f *FS) WriteFile(p string, data []byte, perm fs.FileMode) error {
	if err := f.MkdirAll(path.Dir(Clean(p)), 0o755); err != nil {
		return err
	}
	w, err := f.OpenWriter(p, false, perm)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// OpenReader reads a file from its beginning; what is appended meanwhile is read too.
func (f *FS) OpenReader(p string) (io.Reader, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.find("open", p, true)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return nil, fail("read", p, syscall.EISDIR)
	}
	return &reader{f: f, n: n}, nil
}

type reader struct {
	f   *FS
	n   *node
	off int
}

func (r *reader) Read(b []byte) (int, error) {
	r.f.mu.RLock()
	data := r.n.data
	r.f.mu.RUnlock()
	if r.off >= len(data) {
		return 0, io.EOF
	}
	n := copy(b, data[r.off:])
	r.off += n
	return n, nil
}

// OpenWriter writes at the end of a file, which is created and, unless appending, emptied.
func (f *FS) OpenWriter(p string, appending bool, perm fs.FileMode) (io.Writer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.walk("open", p, true)
	if err != nil {
		return nil, err
	}
	n := s.node
	switch {
	case n == nil:
		n = &node{mode: perm.Perm()}
		s.dir.put(s.name, n)
	case n.mode.IsDir():
		return nil, fail("open", p, syscall.EISDIR)
	}
	if !appending {
		n.data = nil
	}
	n.mtime = time.Now()
	return &writer{f: f, n: n}, nil
}

type writer struct {
	f *FS
	n *node
}

func (w *writer) Write(b []byte) (int, error) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.n.data = append(w.n.data, b...)
	w.n.mtime = time.Now()
	return len(b), nil
}

// Mkdir makes one directory.
func (f *FS) Mkdir(p string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.walk("mkdir", p, false)
	if err != nil {
		return err
	}
	if s.node != nil {
		return fail("mkdir", p, fs.ErrExist)
	}
	s.dir.put(s.name, newDir(perm.Perm()))
	return nil
}

// MkdirAll makes a directory and those above it; one that exists is kept.
func (f *FS) MkdirAll(p string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.mkdirAll(p, perm)
	return err
}

func (f *FS) mkdirAll(p string, perm fs.FileMode) (*node, error) {
	parts := split(p)
	at := "/"
	for _, part := range parts {
		at += part + "/"
		s, err := f.walk("mkdir", at, true)
		if err != nil {
			return nil, err
		}
		switch {
		case s.node == nil:
			s.dir.put(s.name, newDir(perm.Perm()))
		case !s.node.mode.IsDir():
			return nil, fail("mkdir", p, syscall.ENOTDIR)
		}
	}
	return f.find("mkdir", p, true)
}

// Symlink makes a link at p.
func (f *FS) Symlink(target, p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.walk("symlink", p, false)
	if err != nil {
		return err
	}
	if s.node != nil {
		return fail("symlink", p, fs.ErrExist)
	}
	s.dir.put(s.name, &node{mode: fs.ModeSymlink | 0o777, mtime: time.Now(), target: target})
	return nil
}

// Remove removes one entry, and a directory only with all; what a link points to stays.
func (f *FS) Remove(p string, all bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.walk("remove", p, false)
	if err != nil {
		return err
	}
	switch {
	case s.node == nil:
		return fail("remove", p, fs.ErrNotExist)
	case s.name == ".":
		return fail("remove", p, syscall.EBUSY)
	case s.node.mode.IsDir() && !all:
		if len(s.node.kids) > 0 {
			return fail("remove", p, syscall.ENOTEMPTY)
		}
	}
	delete(s.dir.kids, s.name)
	s.dir.mtime = time.Now()
	return nil
}

// Rename moves an entry; a file or link in the way is replaced, a directory is moved into.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	src, err := f.find("rename", from, false)
	if err != nil {
		return err
	}
	s, err := f.walk("rename", from, false)
	if err != nil {
		return err
	}
	d, err := f.walk("rename", to, true)
	if err != nil {
		return err
	}
	if d.node != nil && d.node.mode.IsDir() {
		d = spot{dir: d.node, name: s.name}
	}
	if within(src, d.dir) {
		return fail("rename", from, syscall.EINVAL)
	}
	delete(s.dir.kids, s.name)
	d.dir.put(d.name, src)
	return nil
}

func within(tree, n *node) bool {
	if tree == n {
		return true
	}
	for _, kid := range tree.kids {
		if within(kid, n) {
			return true
		}
	}
	return false
}

// Chmod sets the permission bits of what p leads to.
func (f *FS) Chmod(p string, perm fs.FileMode) error {
	return f.change("chmod", p, func(n *node) { n.mode = n.mode.Type() | perm.Perm() })
}

// Chtimes sets the modification time of what p leads to.
func (f *FS) Chtimes(p string, t time.Time) error {
	return f.change("chtimes", p, func(n *node) { n.mtime = t })
}

func (f *FS) change(op, p string, with func(*node)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(op, p, true)
	if err != nil {
		return err
	}
	with(n)
	return nil
}
