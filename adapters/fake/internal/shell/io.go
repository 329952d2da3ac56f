package shell

import (
	"context"
	"errors"
	"io"
	"syscall"
)

// Reader is what commands read from: a wait ends with the command.
type Reader interface {
	ReadContext(ctx context.Context, b []byte) (int, error)
}

// Writer is what commands write to: a wait ends with the command.
type Writer interface {
	WriteContext(ctx context.Context, b []byte) (int, error)
}

// bound gives an end of a stream the context of one process.
type bound struct {
	p *proc
	r Reader
	w Writer
}

func (b bound) Read(buf []byte) (int, error) {
	if b.p.ctx.Err() != nil {
		return 0, context.Cause(b.p.ctx)
	}
	return b.r.ReadContext(b.p.ctx, buf)
}

// Write ends its process where nobody reads any more, as SIGPIPE does.
func (b bound) Write(buf []byte) (int, error) {
	if b.p.ctx.Err() != nil {
		return 0, context.Cause(b.p.ctx)
	}
	n, err := b.w.WriteContext(b.p.ctx, buf)
	if errors.Is(err, syscall.EPIPE) {
		b.p.kill("SIGPIPE")
	}
	return n, err
}

// plain makes a stream of a reader or writer that does not block.
type plain struct {
	io.Reader
	io.Writer
}

func (p plain) ReadContext(_ context.Context, b []byte) (int, error)  { return p.Read(b) }
func (p plain) WriteContext(_ context.Context, b []byte) (int, error) { return p.Write(b) }

// empty is /dev/null.
type empty struct{}

func (empty) ReadContext(context.Context, []byte) (int, error)      { return 0, io.EOF }
func (empty) WriteContext(_ context.Context, b []byte) (int, error) { return len(b), nil }

// zeros is /dev/zero.
type zeros struct{}

func (zeros) ReadContext(_ context.Context, b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// full is /dev/full.
type full struct{}

func (full) WriteContext(context.Context, []byte) (int, error) { return 0, syscall.ENOSPC }

// Pipe is a stream in memory with a bounded amount under way.
type Pipe struct {
	chunks   chan []byte
	noReader chan struct{}
	noWriter chan struct{}
	turn     chan struct{} // of one reader at a time
	rest     []byte
}

// NewPipe returns an open pipe.
func NewPipe() *Pipe {
	return &Pipe{chunks: make(chan []byte, 2), noReader: make(chan struct{}), noWriter: make(chan struct{}), turn: make(chan struct{}, 1)}
}

// chunkSize bounds what one Write puts under way at once.
const chunkSize = 32 << 10

// ReadContext reads what was written; io.EOF when the writing end is closed and everything read.
func (p *Pipe) ReadContext(ctx context.Context, b []byte) (int, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-p.turn }()
	for len(p.rest) == 0 {
		select {
		case p.rest = <-p.chunks:
		case <-p.noReader:
			return 0, io.ErrClosedPipe
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-p.noWriter:
			select {
			case p.rest = <-p.chunks:
			default:
				return 0, io.EOF
			}
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// WriteContext writes; EPIPE when the reading end is closed.
func (p *Pipe) WriteContext(ctx context.Context, b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		n := min(len(b), chunkSize)
		select { // first: a closed end wins over room
		case <-p.noReader:
			return done, syscall.EPIPE
		default:
		}
		select {
		case p.chunks <- append([]byte(nil), b[:n]...):
		case <-p.noReader:
			return done, syscall.EPIPE
		case <-p.noWriter:
			return done, syscall.EPIPE
		case <-ctx.Done():
			return done, context.Cause(ctx)
		}
		done += n
		b = b[n:]
	}
	return done, nil
}

// CloseRead ends the reading side, once.
func (p *Pipe) CloseRead() { close(p.noReader) }

// CloseWrite ends the writing side, once.
func (p *Pipe) CloseWrite() { close(p.noWriter) }
