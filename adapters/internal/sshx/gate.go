package sshx

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// lastWrite is how long the end of a call waits for a Write that it has begun. A writer that blocks for longer does not
// hold the call; it is the only one that may still be busy after it.
const lastWrite = time.Second

var errShut = errors.New("the call has returned")

// gate stands between a call and what its caller gave it: once it is shut, no Write and no Read begins any more.
type gate struct {
	under *atomic.Int64 // counts Writes under way beyond this gate; may be nil

	mu   sync.Mutex
	shut bool
	busy int           // Writes under way
	idle chan struct{} // closed by the last of them; nil while nobody waits
}

// write writes all of data, or drops it when the gate is shut.
func (g *gate) write(to io.Writer, data []byte) error {
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return nil
	}
	g.busy++
	g.mu.Unlock()
	defer g.wrote()
	if g.under != nil {
		g.under.Add(1)
		defer g.under.Add(-1)
	}
	n, err := to.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

func (g *gate) wrote() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy--; g.busy == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// drop shuts the gate, and waits for nothing.
func (g *gate) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// close shuts the gate, and waits for what is under way.
func (g *gate) close() {
	g.mu.Lock()
	g.shut = true
	if g.busy == 0 {
		g.mu.Unlock()
		return
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	wait(idle, lastWrite)
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

func (g *gate) writing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy > 0
}

// reader is a command's input, until the gate is shut.
func (g *gate) reader(r io.Reader) io.Reader { return gated{g, r} }

type gated struct {
	g *gate
	r io.Reader
}

func (r gated) Read(p []byte) (int, error) {
	if r.g.isShut() {
		return 0, errShut // no end, which a command could take for that of all its input
	}
	return r.r.Read(p)
}
