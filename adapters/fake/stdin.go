package fake

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/shell"
)

var _ shell.Reader = (*input)(nil)

// input is a command's standard input. A reader that might block is read by a goroutine of its own, from the first time
// that the command asks for input: it ends when the reader does, and no command waits for it.
type input struct {
	ctx   context.Context
	r     io.Reader
	quick bool
	once  sync.Once
	begun chan struct{} // closed where there is a goroutine
	done  chan struct{}
	pipe  *shell.Pipe
}

func newInput(ctx context.Context, r io.Reader) *input {
	in := &input{ctx: ctx, r: r}
	switch r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		in.quick = true
	default:
		in.begun, in.done, in.pipe = make(chan struct{}), make(chan struct{}), shell.NewPipe()
	}
	return in
}

// ReadContext reads what the caller gives.
func (in *input) ReadContext(ctx context.Context, b []byte) (int, error) {
	if in.quick {
		return in.r.Read(b)
	}
	in.once.Do(func() {
		close(in.begun)
		go in.pump()
	})
	return in.pipe.ReadContext(ctx, b)
}

func (in *input) pump() {
	defer close(in.done)
	defer in.pipe.CloseWrite()
	buf := make([]byte, 32<<10)
	for {
		n, err := in.r.Read(buf)
		if n > 0 {
			if _, werr := in.pipe.WriteContext(in.ctx, buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close ends the reading. wait is for the quirk that waits for the caller's reader.
func (in *input) close(wait bool) {
	if in.quick {
		return
	}
	in.pipe.CloseRead()
	select {
	case <-in.begun:
		if wait {
			<-in.done
		}
	default:
	}
}
