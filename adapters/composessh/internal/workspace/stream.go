package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
)

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
