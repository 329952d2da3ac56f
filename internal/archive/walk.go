package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

const (
	readAhead  = 8         // files read in parallel; more brought nothing (11,478 files, tmpfs, 2026-11)
	smallFile  = 256 << 10 // larger ones are streamed when it is their turn
	queued     = 64        // entries found ahead of the writer; with smallFile this bounds the memory to 16 MiB
	maxDepth   = 1000      // each level holds a file descriptor; no deeper name is extracted either
	changeTurn = 3         // how often a file that keeps changing its kind is looked at
)

// item is one entry on its way to the writer.
type item struct {
	name string // in the stream
	info fs.FileInfo
	link string // of a symbolic link

	d    dir // retained, for files only
	base string

	ready chan struct{} // closed when a file that is read ahead has been read; nil for everything else
	data  []byte
	gone  bool
	grown bool // beyond what is read ahead: streamed after all
	err   error
}

// done lets go of what the item holds.
func (it *item) done() {
	if it.d != nil {
		it.d.release()
		it.d = nil
	}
}

// walk finds entries in a goroutine of its own, parents first and names in order of their bytes.
type walk struct {
	ctx     context.Context
	cancel  context.CancelFunc
	ordered chan *item // closed at the end
	small   chan *item // also in ordered
	err     error      // why it ended early; read after ordered is closed
	wg      sync.WaitGroup
}

func startWalk(ctx context.Context, d dir, single string, rootEntry bool) *walk {
	ctx, cancel := context.WithCancel(ctx)
	w := &walk{ctx: ctx, cancel: cancel, ordered: make(chan *item, queued), small: make(chan *item, queued)}
	for range readAhead {
		w.wg.Go(w.read)
	}
	w.wg.Go(func() {
		defer close(w.ordered)
		defer close(w.small)
		if single != "" {
			w.err = w.entry(d, single, single, 0)
			return
		}
		if rootEntry {
			info, err := d.lstat(".")
			if err != nil {
				w.err = entryError(".", err)
				return
			}
			if w.err = w.emit(&item{name: ".", info: info}); w.err != nil {
				return
			}
		}
		w.err = w.tree(d, "", 0)
	})
	return w
}

// stop ends the goroutines and releases what they held.
func (w *walk) stop() {
	w.cancel()
	for it := range w.ordered {
		if it.ready != nil {
			<-it.ready
		}
		it.done()
	}
	w.wg.Wait()
}

func (w *walk) emit(it *item) error {
	select {
	case w.ordered <- it:
		return nil
	case <-w.ctx.Done():
		it.done()
		return w.ctx.Err()
	}
}

func (w *walk) tree(d dir, prefix string, depth int) error {
	if depth > maxDepth {
		return refuse(prefix, "lies more than %d directories deep", maxDepth)
	}
	names, err := d.names()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since it was found
		}
		return entryError(prefix, err)
	}
	for _, base := range names {
		if err := w.entry(d, base, prefix+base, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(d dir, base, name string, depth int) error {
	it := &item{name: name, base: base}
	var err error
	if it.info, err = d.lstat(base); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return entryError(name, err)
	}
	switch mode := it.info.Mode(); {
	case mode.IsRegular():
		it.d = d
		d.retain()
		if it.info.Size() <= smallFile {
			it.ready = make(chan struct{})
		}
		prefetch := it.ready != nil
		if err := w.emit(it); err != nil || !prefetch {
			return err
		}
		w.small <- it // has room whenever ordered had: the readers never stop before it is closed
		return nil
	case mode.Type() == fs.ModeSymlink:
		if it.link, err = d.readlink(base); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return entryError(name, err)
		}
		return w.emit(it)
	case mode.IsDir():
		sub, err := d.sub(base)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return entryError(name, err)
		}
		defer sub.release()
		if err := w.emit(it); err != nil {
			return err
		}
		return w.tree(sub, name+"/", depth+1)
	default:
		return w.emit(it)
	}
}

// read fetches small files.
func (w *walk) read() {
	for it := range w.small {
		if w.ctx.Err() == nil {
			it.load()
		} else {
			it.err = w.ctx.Err()
		}
		close(it.ready)
	}
}

func (it *item) load() {
	f, info, err := openRegular(it.d, it.base)
	if err != nil {
		it.gone, it.err = errors.Is(err, fs.ErrNotExist), err
		return
	}
	defer func() { _ = f.Close() }() // read only
	if info.Size() > smallFile {
		it.grown = true
		return
	}
	// A file that grows meanwhile is kept as long as it was when it was opened; one that shrinks, as short as it became.
	it.data = make([]byte, info.Size())
	n, err := io.ReadFull(f, it.data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		it.err = err
	}
	it.data, it.info = it.data[:n], info
}

// openRegular opens a file that was a regular one a moment ago. One that has become something else since is Aborted, after a
// few looks, since programs replace files by renaming others over them.
func openRegular(d dir, base string) (fs.File, fs.FileInfo, error) {
	for range changeTurn {
		if info, err := d.lstat(base); err != nil {
			return nil, nil, err
		} else if !info.Mode().IsRegular() {
			break
		}
		f, err := d.open(base)
		if err != nil {
			return nil, nil, err
		}
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			return f, info, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("was replaced by something else while it was read; stop what writes to it and try again"))
}
