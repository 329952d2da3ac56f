package memfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"
)

// TarOptions bend Extract and Archive, for the fake's quirks; the zero value is the honest way.
type TarOptions struct {
	DropModes   bool // every file 0644, every directory 0755
	DropTimes   bool // modification times become now
	DropEmpty   bool // empty directories are left out
	FollowLinks bool // what a link points to instead of the link
	TextOnly    bool // files end at their first NUL byte
}

// maxFile bounds what one archived file may bring into memory.
const maxFile = 128 << 20

// Extract unpacks a tar stream into the directory dst, which it makes. Links inside dst are followed as long as they stay
// inside; nothing is written through one that leaves it.
func (f *FS) Extract(ctx context.Context, dst string, r io.Reader, o TarOptions) error {
	f.mu.Lock()
	_, err := f.mkdirAll(dst, 0o755)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	tr := tar.NewReader(&ctxReader{ctx, r})
	times := map[string]time.Time{} // directories get theirs last: what is put into them changes it
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the tar stream: %w", err)
		}
		if o.DropTimes {
			h.ModTime = time.Now()
		}
		if err := f.extract(ctx, dst, tr, h, times, o); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	base, err := f.find("extract", dst, true)
	if err != nil {
		return err
	}
	for name, t := range times {
		if s, err := f.walkIn(base, "extract", name, true, true); err == nil && s.node != nil {
			s.node.mtime = t
		}
	}
	return nil
}

// ctxReader fails when its context has ended, also in the middle of a file.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (f *FS) extract(ctx context.Context, dst string, r io.Reader, h *tar.Header, times map[string]time.Time, o TarOptions) error {
	name := path.Clean(h.Name)
	if strings.HasPrefix(h.Name, "/") || name == ".." || strings.HasPrefix(name, "../") {
		return fail("extract", h.Name, ErrEscapes)
	}
	perm := fs.FileMode(h.Mode).Perm()
	var n *node
	switch h.Typeflag {
	case tar.TypeDir:
		if o.DropModes {
			perm = 0o755
		}
		n = newDir(perm)
	case tar.TypeReg:
		data, err := readAll(ctx, r)
		if err != nil {
			return fmt.Errorf("reading %s from the tar stream: %w", h.Name, err)
		}
		if o.DropModes {
			perm = 0o644
		}
		if o.TextOnly {
			data, _, _ = cutNUL(data)
		}
		n = &node{mode: perm, mtime: h.ModTime, data: data}
	case tar.TypeSymlink:
		n = &node{mode: fs.ModeSymlink | 0o777, mtime: h.ModTime, target: h.Linkname}
	case tar.TypeLink:
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fail("extract", h.Name, fmt.Errorf("tar entries of type %q are not taken: only files, directories and links", h.Typeflag))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	base, err := f.find("extract", dst, true)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		s, err := f.walkIn(base, "extract", h.Linkname, false, true)
		if err != nil {
			return err
		}
		if s.node == nil || !s.node.mode.IsRegular() {
			return fail("extract", h.Linkname, fs.ErrNotExist)
		}
		n = s.node.clone()
	}
	return f.place(dst, base, name, n, h, times, o)
}

// readAll reads a file of at most maxFile bytes, and ends with ctx between two reads.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	var data bytes.Buffer
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, err := io.CopyN(&data, r, 64<<10)
		switch {
		case errors.Is(err, io.EOF):
			return data.Bytes(), nil
		case err != nil:
			return nil, err
		case data.Len() > maxFile:
			return nil, syscall.EFBIG
		}
	}
}

// place puts n at name below base. A directory joins one that exists; anything else replaces what is there, a link itself
// and never what it points to, unless the follow-links quirk is on.
func (f *FS) place(dst string, base *node, name string, n *node, h *tar.Header, times map[string]time.Time, o TarOptions) error {
	dir := base
	if parent := path.Dir(name); parent != "." {
		at := ""
		for part := range strings.SplitSeq(parent, "/") {
			at = path.Join(at, part)
			s, err := f.walkIn(base, "extract", at, true, true)
			if o.FollowLinks {
				s, err = f.walk("extract", path.Join("/", dst, at), true)
			}
			if err != nil {
				return err
			}
			if s.node == nil {
				s.node = newDir(0o755)
				s.dir.put(s.name, s.node)
			}
			if !s.node.mode.IsDir() {
				return fail("extract", h.Name, syscall.ENOTDIR)
			}
			dir = s.node
		}
	}
	if n.mode.IsDir() {
		times[name] = h.ModTime
	}
	if name == "." {
		if n.mode.IsDir() {
			base.mode = n.mode
		}
		return nil
	}
	old := dir.kids[path.Base(name)]
	switch {
	case old == nil:
	case old.mode.IsDir() && n.mode.IsDir():
		old.mode = n.mode
		return nil
	case old.mode.IsDir():
		return fail("extract", h.Name, syscall.EISDIR)
	}
	dir.put(path.Base(name), n)
	return nil
}

func cutNUL(b []byte) ([]byte, []byte, bool) {
	for i, c := range b {
		if c == 0 {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}

// Archive writes the tree at src as tar, by name; a file or link is one entry with its base name. Two archives of equal
// trees are equal bytes.
func (f *FS) Archive(ctx context.Context, src string, w io.Writer, o TarOptions) error {
	f.mu.RLock()
	n, err := f.find("archive", src, o.FollowLinks)
	if err == nil {
		n = n.clone()
	}
	f.mu.RUnlock()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	a := archiver{ctx: ctx, f: f, src: src, w: tw, o: o}
	if n.mode.IsDir() {
		err = a.kids("", n)
	} else {
		err = a.entry(path.Base(Clean(src)), n)
	}
	if err != nil {
		return err
	}
	return tw.Close()
}

type archiver struct {
	ctx context.Context
	f   *FS
	src string
	w   *tar.Writer
	o   TarOptions
}

func (a *archiver) kids(prefix string, n *node) error {
	for _, name := range n.names() {
		if err := a.entry(prefix+name, n.kids[name]); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) entry(name string, n *node) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(n.mode.Perm()), ModTime: n.mtime, Format: tar.FormatPAX}
	data := n.data
	if a.o.DropTimes {
		h.ModTime = time.Now()
	}
	switch {
	case n.mode.IsDir():
		if a.o.DropModes {
			h.Mode = 0o755
		}
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if len(n.kids) == 0 && a.o.DropEmpty {
			return nil
		}
	case n.mode&fs.ModeSymlink != 0 && a.o.FollowLinks:
		a.f.mu.RLock()
		to, err := a.f.find("archive", Join(path.Dir(Join(a.src, name)), n.target), true)
		a.f.mu.RUnlock()
		if err != nil || !to.mode.IsRegular() {
			return nil
		}
		h.Typeflag, data = tar.TypeReg, to.data
	case n.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.target
	default:
		h.Typeflag = tar.TypeReg
		if a.o.DropModes {
			h.Mode = 0o644
		}
		if a.o.TextOnly {
			data, _, _ = cutNUL(data)
		}
	}
	if h.Typeflag == tar.TypeReg {
		h.Size = int64(len(data))
	}
	if err := a.w.WriteHeader(h); err != nil {
		return fmt.Errorf("archiving %s: %w", name, err)
	}
	if h.Typeflag == tar.TypeReg {
		if _, err := a.w.Write(data); err != nil {
			return fmt.Errorf("archiving %s: %w", name, err)
		}
	}
	if n.mode.IsDir() {
		return a.kids(name+"/", n)
	}
	return nil
}
