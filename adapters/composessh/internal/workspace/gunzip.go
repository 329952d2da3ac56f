package workspace

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer"
)

// gunzip decompresses what is written to it, as it comes.
type gunzip struct {
	w    *io.PipeWriter
	done chan struct{}
	err  error // once done
}

// newGunzip needs its stop to be called.
func newGunzip(to io.Writer) *gunzip {
	r, w := io.Pipe()
	g := &gunzip{w: w, done: make(chan struct{})}
	go func() {
		z, err := gzip.NewReader(r)
		if err == nil {
			_, err = io.Copy(to, z)
		}
		_ = r.CloseWithError(err) // what is still written fails with it
		g.err = err
		close(g.done)
	}()
	return g
}

func (g *gunzip) Write(p []byte) (int, error) { return g.w.Write(p) }

// close says whether the stream was whole.
func (g *gunzip) close() error {
	_ = g.w.Close()
	<-g.done
	err := g.err
	if err != nil && sandboxer.CodeOf(err) == sandboxer.Unknown {
		err = sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%w: %w", errManifest, err))
	}
	return err
}

func (g *gunzip) stop() {
	_ = g.w.CloseWithError(io.ErrClosedPipe) // never fails
	<-g.done
}
