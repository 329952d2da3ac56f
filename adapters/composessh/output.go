package composessh

import (
	"bytes"
	"io"
	"reflect"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/shellwrap"
)

// output is one output stream of a command: what comes before its mark is noise of the engine, what comes after the shell's
// word on the command's end is of children in the background.
type output struct {
	to       io.Writer
	lock     *sync.Mutex   // of the writer, which may be that of both streams
	ready    chan struct{} // closed when the shell waits for its line
	started  chan struct{} // closed when the command begins
	told     chan struct{} // closed when the shell has said how the command ended
	sentinel *shellwrap.Sentinel
	asks     []byte // the mark of the shell that waits
	begins   []byte // the mark of the command's first byte

	mu    sync.Mutex
	head  []byte // before the mark
	begun bool
	err   error
}

const maxNoise = 8 << 10

func newOutputs(mark string, req *sandboxer.ExecRequest) (out, errs *output) {
	make1 := func(to io.Writer) *output {
		return &output{
			to: to, lock: new(sync.Mutex), ready: make(chan struct{}), started: make(chan struct{}), told: make(chan struct{}),
			sentinel: shellwrap.NewSentinel(mark), asks: []byte("\x1e" + mark + "?"), begins: []byte("\x1e" + mark + "+"),
		}
	}
	out, errs = make1(req.Stdout), make1(req.Stderr)
	if sameWriter(req.Stdout, req.Stderr) {
		errs.lock = out.lock
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

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n := len(p)
	if !o.begun {
		o.head = append(o.head, p...)
		if bytes.Contains(o.head, o.asks) {
			o.head = nil
			close(o.ready)
			return n, nil
		}
		_, rest, ok := bytes.Cut(o.head, o.begins)
		if !ok {
			if len(o.head) > maxNoise {
				o.head = append(o.head[:0], o.head[len(o.head)-maxNoise:]...)
			}
			return n, nil
		}
		o.begun, o.head, p = true, nil, bytes.Clone(rest)
		close(o.started)
	}
	was := o.sentinel.Seen()
	text := o.sentinel.Feed(p)
	if o.to != nil && len(text) > 0 {
		o.lock.Lock()
		written, err := o.to.Write(text)
		o.lock.Unlock()
		if err == nil && written < len(text) {
			err = io.ErrShortWrite
		}
		if err != nil {
			o.err = err
			return 0, err
		}
	}
	if !was && o.sentinel.Seen() {
		close(o.told)
	}
	return n, nil
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
