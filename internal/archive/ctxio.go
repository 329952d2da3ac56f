package archive

import (
	"context"
	"errors"
	"io"
	"sync"
)

const chunkSize = 256 << 10

// reader reads ahead in a goroutine of its own, so that a source that blocks cannot keep a call beyond its context. The
// goroutine ends with the source's current Read at the latest: one Read of it may outlive the call, never two.
type reader struct {
	ctx    context.Context
	chunks chan chunk
	free   chan []byte
	quit   chan struct{}
	once   sync.Once
	rest   []byte
	buf    []byte
	err    error
	sawEOF bool  // somebody read beyond the last byte
	total  int64 // bytes handed out
}

type chunk struct {
	data []byte
	err  error
}

func newReader(ctx context.Context, src io.Reader) *reader {
	r := &reader{ctx: ctx, chunks: make(chan chunk, 2), free: make(chan []byte, 4), quit: make(chan struct{})}
	go r.fill(src)
	return r
}

func (r *reader) fill(src io.Reader) {
	defer close(r.chunks)
	for empty := 0; ; {
		var buf []byte
		select {
		case buf = <-r.free:
		default:
			buf = make([]byte, chunkSize)
		}
		n, err := src.Read(buf)
		if n == 0 && err == nil {
			if empty++; empty < 100 {
				continue
			}
			err = io.ErrNoProgress
		}
		if n > 0 {
			empty = 0
		}
		select {
		case r.chunks <- chunk{buf[:n], err}:
		case <-r.quit:
			return
		}
		if err != nil {
			return
		}
		select {
		case <-r.quit:
			return
		default:
		}
	}
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			r.sawEOF = r.sawEOF || errors.Is(r.err, io.EOF)
			return 0, r.err
		}
		if r.buf != nil {
			select {
			case r.free <- r.buf[:cap(r.buf)]:
			default:
			}
			r.buf = nil
		}
		if err := r.ctx.Err(); err != nil {
			r.err = err
			return 0, err
		}
		select {
		case c := <-r.chunks:
			r.rest, r.buf, r.err = c.data, c.data, c.err
		case <-r.ctx.Done():
			r.err = r.ctx.Err()
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.total += int64(n)
	return n, nil
}

func (r *reader) stop() { r.once.Do(func() { close(r.quit) }) }

// writer hands its bytes to a goroutine, so that a destination that blocks cannot keep a call beyond its context. After the
// context has ended one Write of the destination may outlive the call, with bytes that are not reused.
type writer struct {
	ctx  context.Context
	in   chan []byte
	out  chan error
	quit chan struct{} // in is never closed: somebody may still be writing
	err  error
	once sync.Once
}

func newWriter(ctx context.Context, dst io.Writer) *writer {
	w := &writer{ctx: ctx, in: make(chan []byte), out: make(chan error, 1), quit: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-w.in:
				n, err := dst.Write(b)
				if err == nil && n < len(b) {
					err = io.ErrShortWrite
				}
				w.out <- err
			case <-w.quit:
				return
			}
		}
	}()
	return w
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return 0, w.err
	}
	select {
	case <-w.quit:
		w.err = io.ErrClosedPipe
		return 0, w.err
	default:
	}
	select {
	case w.in <- p: // the goroutine is idle: it answered the write before
	case <-w.quit:
		w.err = io.ErrClosedPipe
		return 0, w.err
	}
	select {
	case w.err = <-w.out:
	case <-w.ctx.Done():
		select {
		case w.err = <-w.out:
		default:
			w.err = w.ctx.Err()
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// NewReader reads r until ctx ends, also while r blocks. Close ends its goroutine and not r; a Read of r that is under way
// then is the last one, and its bytes are lost.
func NewReader(ctx context.Context, r io.Reader) io.ReadCloser { return closer{newReader(ctx, r)} }

type closer struct{ *reader }

func (c closer) Close() error { c.stop(); return nil }

// NewWriter writes to w until ctx ends, also while w blocks. Close ends its goroutine and not w; a Write beside or after it
// is an error. What has been written must not be changed after an error, since a Write of w may still be under way.
func NewWriter(ctx context.Context, w io.Writer) io.WriteCloser { return stopper{newWriter(ctx, w)} }

type stopper struct{ *writer }

func (s stopper) Close() error { s.stop(); return nil }

func (w *writer) stop() { w.once.Do(func() { close(w.quit) }) }
