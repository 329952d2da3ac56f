package composessh

import (
	"bytes"
	"io"
	"reflect"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/shellwrap"
)

// output is one output stream of a command: what comes before its mark is noise of the engine, what comes after the shell's
// word on the command's end is of children in the background.
type output struct {
	to       io.Writer
	turns    *turns        // at the writer, which may be that of both streams
	ready    chan struct{} // closed when the shell waits for its line
	started  chan struct{} // closed when the command begins
	told     chan struct{} // closed when the shell has said how the command ended
	sentinel *shellwrap.Sentinel
	asks     []byte // the mark of the shell that waits; nil without a terminal
	begins   []byte // the mark of the command's first byte

	mu    sync.Mutex // not held while the caller's writer is written to, which may take any time
	head  []byte     // before the mark
	asked bool
	begun bool
	err   error
}

const maxNoise = 8 << 10

func newOutputs(mark string, req *sandboxer.ExecRequest) (out, errs *output) {
	make1 := func(to io.Writer) *output {
		return &output{
			to: to, turns: newTurns(), ready: make(chan struct{}), started: make(chan struct{}), told: make(chan struct{}),
			sentinel: shellwrap.NewSentinel(mark), begins: []byte("\x1e" + mark + "+"),
		}
	}
	out, errs = make1(req.Stdout), make1(req.Stderr)
	if sameWriter(req.Stdout, req.Stderr) {
		errs.turns = out.turns
	}
	if req.TTY != nil {
		out.asks = []byte("\x1e" + mark + "?")
	}
	return out, errs
}

func sameWriter(a, b io.Writer) bool {
	if a == nil || b == nil {
		return false
	}
	x, y := reflect.TypeOf(a), reflect.TypeOf(b)
	return x == y && x.Comparable() && a == b
}

// Write is called by one goroutine at a time. Marks are printed by whatever the image calls sh, which may print them at any time
// and again.
func (o *output) Write(p []byte) (int, error) {
	text, tells, err := o.take(p)
	if err != nil {
		return 0, err
	}
	if o.to != nil && len(text) > 0 {
		if err := o.turns.write(o.to, text); err != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.err = err
			return 0, err
		}
	}
	if tells {
		close(o.told)
	}
	return len(p), nil
}

// take returns what of p the command wrote, and whether the word on its end has come with it.
func (o *output) take(p []byte) (text []byte, tells bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil, false, o.err
	}
	if !o.begun {
		o.head = append(o.head, p...)
		if o.asks != nil && !o.asked && bytes.Contains(o.head, o.asks) {
			o.head, o.asked = nil, true
			close(o.ready)
			return nil, false, nil
		}
		_, rest, ok := bytes.Cut(o.head, o.begins)
		if !ok {
			if len(o.head) > maxNoise {
				o.head = append(o.head[:0], o.head[len(o.head)-maxNoise:]...)
			}
			return nil, false, nil
		}
		o.begun, o.head, p = true, nil, bytes.Clone(rest)
		close(o.started)
	}
	was := o.sentinel.Seen()
	text = o.sentinel.Feed(p)
	return text, !was && o.sentinel.Seen(), nil
}

// turns lets one Write at a time go to what is the caller's, and none once the call has returned.
type turns struct {
	turn chan struct{} // full while somebody writes
	over chan struct{}
}

// lastWrite is how long the end of a call waits for a Write that has begun. One that blocks for longer holds nobody but itself.
const lastWrite = time.Second

func newTurns() *turns { return &turns{turn: make(chan struct{}, 1), over: make(chan struct{})} }

// write writes all of text, or drops it when the call has returned.
func (t *turns) write(to io.Writer, text []byte) error {
	select {
	case t.turn <- struct{}{}:
	case <-t.over:
		return nil
	}
	defer func() { <-t.turn }()
	select {
	case <-t.over:
		return nil
	default:
	}
	n, err := to.Write(text)
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return err
}

// end lets no Write begin any more, and waits for the one under way.
func (t *turns) end() {
	close(t.over)
	limit := time.NewTimer(lastWrite)
	defer limit.Stop()
	select {
	case t.turn <- struct{}{}:
		<-t.turn
	case <-limit.C:
	}
}

// endOutputs ends a call: neither writer is touched any more.
func endOutputs(out, errs *output) {
	out.turns.end()
	if errs.turns != out.turns {
		errs.turns.end()
	}
}

func (o *output) isTold() bool {
	select {
	case <-o.told:
		return true
	default:
		return false
	}
}

func (o *output) isBegun() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begun
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// noise is what came instead of the command's output.
func (o *output) noise() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.head)
}
