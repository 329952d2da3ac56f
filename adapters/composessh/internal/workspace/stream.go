package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
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

// stream is the tar stream of what a plan sends, behind a prefix. Small files are read ahead in parallel. Read and Close
// may be called at the same time.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	root   tree
	own    owner
	total  atomic.Int64 // contents; 0 until it is known
	done   int64        // so far
	queue  chan *batch
	free   chan []byte
	wg     sync.WaitGroup

	mu   sync.Mutex // held while reading
	rest []byte     // of what is to be read next
	cur  *batch
	file file  // a large one
	left int64 // of it
	pad  int64 // behind it
	end  bool
	err  error
}

// newStream sends what is marked in the lists, of which a directory's comes after the one that it is in.
func newStream(ctx context.Context, root tree, own owner, lists func(s *stream, yield func(*list) bool)) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{ctx: ctx, cancel: cancel, root: root, own: own, queue: make(chan *batch, ahead), free: make(chan []byte, ahead+readers)}
	work := make(chan *batch, ahead)
	s.wg.Go(func() {
		defer close(work)
		defer close(s.queue)
		for b := range batches(func(yield func(*list) bool) { lists(s, yield) }) {
			select {
			case s.queue <- b:
			case <-ctx.Done():
				return
			}
			if !b.large {
				work <- b // read also after the end, so this never waits for long
			}
		}
	})
	for range readers {
		s.wg.Go(func() {
			for b := range work {
				if b.err = ctx.Err(); b.err == nil {
					select {
					case b.data = <-s.free:
					default:
					}
					if b.data == nil {
						b.data = make([]byte, 0, batchSize+batchSize/2)
					}
					b.data, b.err = s.load(b, b.data[:0])
				}
				close(b.ready)
			}
		})
	}
	return s
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

// Read gives out the stream.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.rest) == 0 {
		if s.err == nil {
			s.err = s.ctx.Err()
		}
		if s.err != nil {
			return 0, s.err
		}
		if s.left > 0 {
			n, err := s.file.Read(p[:min(int64(len(p)), s.left)])
			if n > 0 {
				s.left -= int64(n)
				s.count(int64(n))
				return n, nil
			}
			s.err = s.shrank(err)
			continue
		}
		s.err = s.next()
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) shrank(err error) error {
	path := join(s.cur.parts[0].dir, s.cur.parts[0].entries[0].name)
	if err == nil || errors.Is(err, io.EOF) {
		err = sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("became %d bytes shorter while it was read; stop what writes to it and try again", s.left))
	}
	return classify(fmt.Errorf("%q: %w", clip(path), err))
}

// next makes rest the next piece.
func (s *stream) next() error {
	if s.file != nil {
		_ = s.file.Close() // read only
		s.file = nil
		if s.pad > 0 {
			s.rest, s.pad = zeros[:s.pad], 0
			return nil
		}
	}
	if s.cur != nil && s.cur.data != nil {
		select {
		case s.free <- s.cur.data:
		default:
		}
	}
	var ok bool
	select {
	case s.cur, ok = <-s.queue:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	switch {
	case ok && s.cur.large:
		return s.begin(s.cur)
	case ok:
		select {
		case <-s.cur.ready:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		s.rest = s.cur.data
		s.count(s.cur.size)
		return s.cur.err
	case s.end:
		return io.EOF
	case s.ctx.Err() != nil: // the queue ended early
		return s.ctx.Err()
	}
	s.end = true
	s.rest = zeros[:trailer]
	return nil
}

// begin opens a large file.
func (s *stream) begin(b *batch) error {
	p := &b.parts[0]
	e := p.entries[0]
	path := join(p.dir, e.name)
	fail := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return classify(fmt.Errorf("%q: %w", clip(path), err))
	}
	dir, err := s.open(p.dir)
	if err != nil {
		return fail(err)
	}
	f, now, err := dir.open(e.name)
	_ = dir.Close() // read only
	if err != nil {
		return fail(err)
	}
	s.file, s.left, s.pad = f, now.size, padding(now.size)
	s.rest = appendHeader(nil, path, &now, now.size, s.own)
	return nil
}

func (s *stream) count(n int64) {
	s.done += n
	p := sandboxer.Progress{Stage: stageUpload, Done: s.done, Total: s.total.Load(), Unit: "bytes"}
	if p.Total > 0 {
		p.Done = min(p.Done, p.Total)
	}
	sandboxer.Report(s.ctx, p)
}

// Close ends the stream and everything that reads for it.
func (s *stream) Close() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close() // read only
		s.file, s.left = nil, 0
	}
	if s.err == nil {
		s.err = context.Canceled
	}
	s.rest = nil
	s.wg.Wait()
	return nil
}

// failure is why the stream ended, where the reason is here.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || errors.Is(s.err, io.EOF) || errors.Is(s.err, context.Canceled) || errors.Is(s.err, context.DeadlineExceeded) {
		return nil
	}
	return s.err
}

var errReplaced = sandboxer.Mark(sandboxer.Aborted, errors.New("was replaced by something else while it was read; stop what writes to it and try again"))
