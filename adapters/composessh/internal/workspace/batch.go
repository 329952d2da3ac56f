package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
)

const (
	readers   = 4         // batches that are read at the same time
	ahead     = 8         // batches that are ready before they are needed; with batchSize this bounds the memory
	batchSize = 512 << 10 // of contents
	batchMost = 256       // entries
	largeFile = 256 << 10 // larger ones are read when it is their turn
)

// batch is a piece of the tar stream: entries of some directories, or one large file.
type batch struct {
	parts []part
	size  int64 // of contents
	large bool

	ready chan struct{} // closed when data or err is there; nil for a large file
	data  []byte
	err   error
}

// part is some entries of one directory.
type part struct {
	dir     string
	entries []*entry
}

// batches cuts what is to be sent into pieces, directories before what is in them.
func batches(lists iter.Seq[*list]) iter.Seq[*batch] {
	return func(yield func(*batch) bool) {
		b, n := &batch{}, 0 // entries
		flush := func() bool {
			whole := b
			b, n = &batch{}, 0
			if len(whole.parts) == 0 {
				return true
			}
			whole.ready = make(chan struct{})
			return yield(whole)
		}
		for l := range lists {
			var p *part // of b, for this directory
			for i := range l.entries {
				e := &l.entries[i]
				if !e.send {
					continue
				}
				if e.size > largeFile {
					if !flush() || !yield(&batch{parts: []part{{l.path, []*entry{e}}}, size: e.size, large: true}) {
						return
					}
					p = nil
					continue
				}
				if p == nil {
					b.parts = append(b.parts, part{dir: l.path})
					p = &b.parts[len(b.parts)-1]
				}
				p.entries = append(p.entries, e)
				b.size += e.size
				if n++; b.size >= batchSize || n >= batchMost {
					if !flush() {
						return
					}
					p = nil
				}
			}
		}
		flush()
	}
}

// load makes the piece of the stream.
func (s *stream) load(b *batch, data []byte) ([]byte, error) {
	for i := range b.parts {
		var err error
		if data, err = s.loadPart(&b.parts[i], data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// loadPart leaves out a file that went meanwhile, as if it had gone before.
func (s *stream) loadPart(p *part, data []byte) ([]byte, error) {
	var dir folder // opened when a file needs it
	defer func() {
		if dir != nil {
			_ = dir.Close() // read only
		}
	}()
	for _, e := range p.entries {
		path := join(p.dir, e.name)
		if e.kind != kindFile {
			data = appendHeader(data, path, e, 0, s.own)
			continue
		}
		var err error
		if dir == nil {
			dir, err = s.open(p.dir)
		}
		if err == nil {
			data, err = appendFile(data, dir, path, e.name, s.own)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, classify(fmt.Errorf("%q: %w", clip(path), err))
		}
	}
	return data, nil
}

func (s *stream) open(dir string) (folder, error) {
	if dir == "" {
		return s.root.folder()
	}
	root, err := s.root.sub(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // read only
	return root.folder()
}

// appendFile appends a small file. One that grows meanwhile is cut off, one that shrinks is as short as it became; either
// has another time by then, and goes again next time.
func appendFile(data []byte, dir folder, path, name string, own owner) ([]byte, error) {
	f, e, err := dir.open(name)
	if err != nil {
		return data, err
	}
	defer func() { _ = f.Close() }() // read only
	size := min(e.size, 2*largeFile)
	start := len(data)
	data = appendHeader(data, path, &e, size, own)
	body := len(data)
	data = slices.Grow(data, int(size+block))[:body+int(size)]
	n, err := io.ReadFull(f, data[body:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err == nil && int64(n) < size { // the headers say otherwise
		kept := bytes.Clone(data[body : body+n])
		data = append(appendHeader(data[:start], path, &e, int64(n), own), kept...)
	}
	return pad(data, int64(n)), err
}
