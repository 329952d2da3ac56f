package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sand-boxer/sandboxer"
)

// LinkPolicy says what becomes of symbolic links that lead out of the root.
type LinkPolicy int

const (
	// KeepLinks creates every link as it is: for a sandbox, where a link is data and leads wherever the sandbox sees.
	KeepLinks LinkPolicy = iota
	// LeaveOut creates no link that may lead out of the root, and no device, socket or named pipe; everything else is
	// extracted, and what was left out is an InvalidArgument at the end. For the caller's own disk.
	LeaveOut
)

// The limits of an extraction that sets none of its own.
const (
	DefaultMaxEntries = 10_000_000
	DefaultMaxBytes   = 1 << 40
)

// ExtractOptions adjust an extraction. The zero value suits a sandbox.
type ExtractOptions struct {
	Links      LinkPolicy
	MaxEntries int64 // Defaults to DefaultMaxEntries
	MaxBytes   int64 // of contents. Defaults to DefaultMaxBytes
	SetID      bool  // keep set-user-ID and set-group-ID bits
	RootEntry  bool  // an entry for the root itself sets its mode and time; otherwise it is ignored
	// Stage, where set, is the stage under which progress is reported through the context, in bytes.
	Stage string
}

// A stream whose holes make it expand more than this, and more than maxFreeHole bytes, is an attack on the disk.
const (
	maxExpansion = 1000
	maxFreeHole  = 64 << 20
)

// Extract writes a tar stream below root. Files that exist are replaced, never written into: what a file of the same name is
// linked to elsewhere stays as it is. An entry below a symbolic link is refused, wherever the link came from. The mode and
// time of directories are set at the end, so that a read-only one can be filled.
//
// It stops at the first entry that is refused or fails, with an [*EntryError] that names it: InvalidArgument for a hostile or
// unsupported entry, ResourceExhausted for a limit or a full disk, Unavailable for a stream that ends early. What was
// extracted until then stays. It ends with ctx also while r blocks; then one Read of r may still be under way.
func Extract(ctx context.Context, r io.Reader, root *os.Root, o ExtractOptions) (Summary, error) {
	if o.MaxEntries <= 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	src := newReader(ctx, r)
	defer src.stop()
	x := &extractor{ctx: ctx, o: o, src: src, tr: tar.NewReader(src), tree: newTree(ctx, root)}
	err := x.all()
	// Also after an error: directories must not stay as open as they were made for filling them.
	err = errors.Join(err, x.tree.finish())
	if err == nil {
		err = x.leftOut()
	}
	if err == nil && o.Stage != "" {
		sandboxer.Report(ctx, sandboxer.Progress{Stage: o.Stage, Done: x.sum.Bytes, Unit: "bytes"})
	}
	return x.sum, err
}

type extractor struct {
	ctx   context.Context
	o     ExtractOptions
	src   *reader
	tr    *tar.Reader
	tree  *tree
	sum   Summary
	left  []string // what LeaveOut left out, and why
	last  int64    // bytes at the last progress report
	links []string // created, to be looked at again
	buf   []byte
}

func (x *extractor) all() error {
	for {
		if err := x.ctx.Err(); err != nil {
			return classify(err)
		}
		h, err := x.tr.Next()
		switch {
		case errors.Is(err, io.EOF) && x.src.sawEOF:
			return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the tar stream ends after %d entries without an end mark: it was cut off", x.sum.Entries))
		case errors.Is(err, io.EOF):
			return x.drain()
		case errors.Is(err, tar.ErrHeader):
			return sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("after %d entries: not a tar stream: %w", x.sum.Entries, err))
		case err != nil:
			return classify(fmt.Errorf("reading the tar stream after %d entries: %w", x.sum.Entries, err))
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // says nothing about a file
		}
		if x.sum.Entries++; x.sum.Entries > x.o.MaxEntries {
			return &EntryError{h.Name, sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("the stream has more than %d entries", x.o.MaxEntries))}
		}
		if err := x.entry(h); err != nil {
			var named *EntryError
			if errors.As(err, &named) {
				return err
			}
			return entryError(h.Name, err)
		}
	}
}

func (x *extractor) entry(h *tar.Header) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return refuse(h.Name, "takes the place of the directory that is extracted into")
		}
		if x.o.RootEntry {
			x.tree.plan(".", fileMode(h.Mode, x.o.SetID), h.ModTime)
		}
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return x.file(name, h)
	case tar.TypeDir:
		return x.tree.mkdir(name, fileMode(h.Mode, x.o.SetID), h.ModTime)
	case tar.TypeSymlink:
		return x.symlink(name, h.Linkname, h)
	case tar.TypeLink:
		return x.hardLink(name, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if x.o.Links == LeaveOut {
			x.leave(h.Name, "is a device or a named pipe")
			return nil
		}
		return refuse(h.Name, "is a device or a named pipe; only files, directories and links are extracted")
	default:
		return refuse(h.Name, "has the type %q; only files, directories and links are extracted", h.Typeflag)
	}
}

func (x *extractor) file(name string, h *tar.Header) error {
	if h.Size < 0 || h.Size > x.o.MaxBytes-x.sum.Bytes {
		return &EntryError{h.Name, sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("has %d bytes, with which the stream holds more than %d", h.Size, x.o.MaxBytes))}
	}
	f, err := x.tree.create(name)
	if err != nil {
		return err
	}
	err = x.contents(f, h)
	if err == nil {
		err = f.Chmod(fileMode(h.Mode, x.o.SetID))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return x.tree.setTime(name, h.ModTime)
}

func (x *extractor) contents(f *os.File, h *tar.Header) error {
	if x.buf == nil {
		x.buf = make([]byte, chunkSize)
	}
	for {
		n, err := x.tr.Read(x.buf)
		if n > 0 {
			if _, err := f.Write(x.buf[:n]); err != nil {
				return err
			}
			x.sum.Bytes += int64(n)
			if x.sum.Bytes > maxFreeHole && x.sum.Bytes/maxExpansion > x.src.total {
				return sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("expands to more than %d times the stream", maxExpansion))
			}
			if x.o.Stage != "" && x.sum.Bytes-x.last >= 1<<20 {
				x.last = x.sum.Bytes
				sandboxer.Report(x.ctx, sandboxer.Progress{Stage: x.o.Stage, Done: x.sum.Bytes, Unit: "bytes"})
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the tar stream was cut off within its %d bytes", h.Size))
		case err != nil:
			return err
		}
	}
}

func (x *extractor) symlink(name, target string, h *tar.Header) error {
	if x.o.Links == LeaveOut && linkLeaves(name, target) {
		x.leave(h.Name, fmt.Sprintf("is a link that leaves the tree, to %q", clip(target)))
		return nil
	}
	if err := x.tree.symlink(name, target); err != nil {
		return err
	}
	if x.o.Links == LeaveOut {
		x.links = append(x.links, name)
	}
	return x.tree.setTime(name, h.ModTime)
}

// hardLink makes a second name for a file below the root. One for a symbolic link is a link of its own, because the same
// target means another place there.
func (x *extractor) hardLink(name string, h *tar.Header) error {
	from, err := entryName(h.Linkname)
	if err != nil {
		return refuse(h.Name, "is a hard link to what no entry can be called: %w", err)
	}
	if from == name {
		return nil
	}
	info, err := x.tree.lstat(from)
	if err != nil {
		return entryError(h.Name, fmt.Errorf("is a hard link to %q: %w", clip(from), err))
	}
	switch {
	case info.Mode().IsRegular():
		return x.tree.link(from, name)
	case info.Mode().Type() == os.ModeSymlink:
		target, err := x.tree.readlink(from)
		if err != nil {
			return err
		}
		return x.symlink(name, target, &tar.Header{Name: h.Name, ModTime: info.ModTime()})
	}
	return refuse(h.Name, "is a hard link to %q, which is no file", clip(from))
}

// leave notes what was left out. Messages stay short however much it is.
func (x *extractor) leave(name, why string) {
	x.left = append(x.left, fmt.Sprintf("%q %s", clip(name), why))
}

// leftOut looks again at the links that were created: what was there before may lead them out. Then it says what is missing.
func (x *extractor) leftOut() error {
	for _, name := range x.links {
		if err := x.ctx.Err(); err != nil {
			return classify(err)
		}
		leaves, err := x.tree.leaves(name)
		if err != nil {
			return entryError(name, err)
		}
		if leaves {
			x.leave(name, "is a link that leaves the tree, through another link that was there before")
		}
	}
	if len(x.left) == 0 {
		return nil
	}
	shown, more := x.left, ""
	if len(shown) > 10 {
		shown, more = shown[:10], fmt.Sprintf(" and %d more", len(x.left)-10)
	}
	return sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("everything was extracted but these: %q%s", shown, more))
}

// drain reads the padding behind the end mark, so that whoever writes it is not left with a broken pipe.
func (x *extractor) drain() error {
	const most = 1 << 20
	_, err := io.CopyN(io.Discard, x.src, most)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return classify(fmt.Errorf("reading the end of the tar stream: %w", err))
}
