package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// PackOptions adjust packing. The zero value copies a tree.
type PackOptions struct {
	// RootEntry begins the stream with an entry "./" for the directory itself, so that its mode and time travel as well.
	RootEntry bool
	// Stage, where set, is the stage under which progress is reported through the context, in bytes.
	Stage string
}

// PackFS writes the tree at name of fsys ("." for all of it) as tar, with names relative to it; a file becomes one entry with
// its base name. It ends with an error that names the file at the first one that cannot be read, or with ctx, also while w
// blocks. A file that vanishes during the call is left out, as if it had gone before.
//
// Symbolic links in it need an [fs.ReadLinkFS]; name itself is followed. Where a file system keeps no times (embed.FS, fstest.MapFS), times are the Unix
// epoch, and modes that nobody could have meant become 0644 and 0755.
func PackFS(ctx context.Context, w io.Writer, fsys fs.FS, name string, o PackOptions) (Summary, error) {
	if !fs.ValidPath(name) {
		return Summary{}, refuse(name, "is not a path that io/fs takes")
	}
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return Summary{}, entryError(name, err)
	}
	if info.IsDir() {
		return pack(ctx, w, &fsDir{fsys: fsys, at: name}, "", o)
	}
	return pack(ctx, w, &fsDir{fsys: fsys, at: path.Dir(name), follow: true}, path.Base(name), o)
}

// PackRoot is PackFS for the tree at name ("." for all of it) below an open directory. It takes names of any bytes, never
// leaves root whatever changes meanwhile, and reads small files ahead in parallel. A name that is or goes through a symbolic
// link is followed within root.
func PackRoot(ctx context.Context, w io.Writer, root *os.Root, name string, o PackOptions) (Summary, error) {
	info, err := root.Stat(name)
	if err != nil {
		return Summary{}, entryError(name, err)
	}
	if !info.IsDir() {
		return pack(ctx, w, oneFile{&rootDir{root: root}, name}, filepath.Base(name), o)
	}
	sub, err := root.OpenRoot(name)
	if err != nil {
		return Summary{}, entryError(name, err)
	}
	d := ownRoot(sub)
	defer d.release()
	return pack(ctx, w, d, "", o)
}

// oneFile is a directory of the one file that was asked for. Where that is a link, what it leads to is meant, under the
// link's name; so it is always opened through the root.
type oneFile struct {
	*rootDir
	at string
}

func (f oneFile) lstat(string) (fs.FileInfo, error) { return f.root.Stat(f.at) }
func (f oneFile) open(string) (fs.File, error)      { return f.rootDir.open(f.at) }

// packer writes what the walker found, in its order.
type packer struct {
	ctx  context.Context
	tw   *tar.Writer
	sum  Summary
	o    PackOptions
	buf  []byte
	last int64 // bytes at the last progress report
}

func pack(ctx context.Context, w io.Writer, d dir, single string, o PackOptions) (Summary, error) {
	cw := newWriter(ctx, w)
	defer cw.stop()
	bw := bufio.NewWriterSize(cw, chunkSize)
	p := &packer{ctx: ctx, tw: tar.NewWriter(bw), o: o}
	err := p.all(d, single)
	if err == nil {
		err = p.tw.Close()
	}
	if err == nil {
		err = bw.Flush()
	}
	if err == nil {
		p.report(true)
	}
	return p.sum, classify(err)
}

func (p *packer) all(d dir, single string) error {
	wk := startWalk(p.ctx, d, single, p.o.RootEntry)
	defer wk.stop()
	for it := range wk.ordered {
		err := p.item(it)
		it.done()
		if err != nil {
			return err
		}
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return wk.err
}

func (p *packer) item(it *item) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if it.ready != nil {
		select {
		case <-it.ready:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	switch mode := it.info.Mode(); {
	case mode.IsRegular():
		return p.file(it)
	case mode.IsDir():
		return p.header(it.name+"/", it.info, tar.TypeDir, "")
	case mode.Type() == fs.ModeSymlink:
		return p.header(it.name, it.info, tar.TypeSymlink, it.link)
	default:
		p.sum.Skipped = append(p.sum.Skipped, it.name)
		return nil
	}
}

func (p *packer) file(it *item) error {
	if it.ready != nil && !it.grown { // read ahead
		if it.gone {
			return nil
		}
		if it.err != nil {
			return entryError(it.name, it.err)
		}
		if err := p.sized(it.name, it.info, int64(len(it.data))); err != nil {
			return err
		}
		if _, err := p.tw.Write(it.data); err != nil {
			return err
		}
		p.count(int64(len(it.data)))
		return nil
	}
	f, info, err := openRegular(it.d, it.base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return entryError(it.name, err)
	}
	defer func() { _ = f.Close() }() // read only
	if err := p.sized(it.name, info, info.Size()); err != nil {
		return err
	}
	if p.buf == nil {
		p.buf = make([]byte, chunkSize)
	}
	for left := info.Size(); left > 0; {
		n, err := f.Read(p.buf[:min(left, int64(len(p.buf)))])
		if n > 0 {
			if _, err := p.tw.Write(p.buf[:n]); err != nil {
				return err
			}
			left -= int64(n)
			p.count(int64(n))
		}
		if err == nil || (errors.Is(err, io.EOF) && left == 0) {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("became %d bytes shorter while it was read; stop what writes to it and try again", left))
		}
		return entryError(it.name, err)
	}
	return nil
}

func (p *packer) sized(name string, info fs.FileInfo, size int64) error {
	return p.write(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: tarMode(info.Mode()), ModTime: modTime(info)})
}

func (p *packer) header(name string, info fs.FileInfo, kind byte, link string) error {
	return p.write(&tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: tarMode(info.Mode()), ModTime: modTime(info)})
}

func (p *packer) write(h *tar.Header) error {
	h.Format = tar.FormatPAX
	if err := p.tw.WriteHeader(h); err != nil {
		return entryError(h.Name, err)
	}
	p.sum.Entries++
	return nil
}

func (p *packer) count(n int64) {
	p.sum.Bytes += n
	p.report(false)
}

// report tells the caller how far it is, at most once a mebibyte.
func (p *packer) report(end bool) {
	if p.o.Stage != "" && (end || p.sum.Bytes-p.last >= 1<<20) {
		p.last = p.sum.Bytes
		sandboxer.Report(p.ctx, sandboxer.Progress{Stage: p.o.Stage, Done: p.sum.Bytes, Unit: "bytes"})
	}
}

// InfoOf repairs what a file system says of a file, as PackFS does: its mode and time are those of its entry.
func InfoOf(info fs.FileInfo) (mode fs.FileMode, mtime time.Time) {
	return knownInfo(info).Mode(), modTime(info)
}

// modTime is the Unix epoch where a file system keeps no times.
func modTime(info fs.FileInfo) time.Time {
	if t := info.ModTime(); !t.IsZero() {
		return t
	}
	return time.Unix(0, 0)
}

// The bits of a tar mode above the permissions, as in POSIX pax.
const (
	tarSetUID = 0o4000
	tarSetGID = 0o2000
	tarSticky = 0o1000
)

func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= tarSetUID
	}
	if m&fs.ModeSetgid != 0 {
		mode |= tarSetGID
	}
	if m&fs.ModeSticky != 0 {
		mode |= tarSticky
	}
	return mode
}

func fileMode(tarMode int64, setID bool) fs.FileMode {
	mode := fs.FileMode(tarMode) & fs.ModePerm
	if tarMode&tarSticky != 0 {
		mode |= fs.ModeSticky
	}
	if setID && tarMode&tarSetUID != 0 {
		mode |= fs.ModeSetuid
	}
	if setID && tarMode&tarSetGID != 0 {
		mode |= fs.ModeSetgid
	}
	return mode
}
