package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Effect says what a failing call has done at the backend when it fails.
type Effect uint8

// The effects.
const (
	// Before: nothing happened. Whether the caller may know that is up to Fault.Err: use [sandboxer.Refused].
	Before Effect = iota
	// After: it happened, and the reply is lost. Of a listing, the first half arrives.
	After
	// AfterWithHandle: it happened, and Provision and Restore return the handle beside the error. Otherwise like After.
	AfterWithHandle
)

// Fault makes calls of the backend fail, stall or come late.
type Fault struct {
	Op sandboxer.Op // which calls; "": all
	// Extension, Host and ID narrow it; "": all.
	Extension, Host string
	ID              sandboxer.ID

	Skip  int // how many matching calls pass before it begins
	Times int // how many calls it hits; 0: every one until Heal

	Err    error // what they fail with, as it is; nil: they only come late
	Effect Effect

	// Delay is how long a call waits, before its effect or after it, as Effect says.
	Delay time.Duration
	// RetryAfter is the hint that goes with Err.
	RetryAfter time.Duration
	// Hang makes calls wait until their context ends, where Effect says; they then fail with Err, or with the context's end.
	Hang bool
	// Release makes calls wait until it is closed, or until their context ends.
	Release <-chan struct{}
	// Late, of Provision and Restore with Effect After: the sandbox appears only this long after the call. Until then nothing
	// sees it and a Teardown by name succeeds without touching it; then it is there and costs money. Find answers Unknown.
	Late time.Duration
	// Linger, of Teardown: it reports success, and the sandbox lives on for this long.
	Linger time.Duration
}

type fault struct {
	Fault
	skip, times int
}

type faults struct {
	n    atomic.Int32 // how many there are: the way past the lock when there are none
	mu   sync.Mutex
	list []*fault
}

// ops are the operations that a fault can be for.
var ops = []sandboxer.Op{
	sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpTeardown, sandboxer.OpFind, sandboxer.OpList, sandboxer.OpExec,
	sandboxer.OpCopyIn, sandboxer.OpCopyOut, sandboxer.OpDial, sandboxer.OpExpose, sandboxer.OpSnapshot, sandboxer.OpRestore,
	sandboxer.OpDeleteSnapshot, sandboxer.OpListSnapshots, sandboxer.OpExportSnapshot, sandboxer.OpImportSnapshot,
	sandboxer.OpEstimateCost, sandboxer.OpMeterActual, sandboxer.OpSnapshotCost, sandboxer.OpInspect, sandboxer.OpExtend, sandboxer.OpPause,
	sandboxer.OpResume, sandboxer.OpPreflight, sandboxer.OpSync,
}

// Fail adds a fault. Of several that match a call the one added first acts. It panics, with the closest valid one, where
// there is no such Op: a fault that can never hit would let a test pass that tests nothing.
func (b *Backend) Fail(f Fault) {
	if f.Op != "" && !slices.Contains(ops, f.Op) {
		names := make([]string, len(ops))
		for i, op := range ops {
			names[i] = string(op)
		}
		panic(fmt.Sprintf("fake: Fail: there is no operation %q%s", f.Op, sandboxer.DidYouMean(string(f.Op), names)))
	}
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	b.faults.list = append(b.faults.list, &fault{Fault: f, skip: f.Skip, times: f.Times})
	b.faults.n.Store(int32(len(b.faults.list)))
}

// Heal removes all faults. Calls that hang in one go on hanging until their context ends.
func (b *Backend) Heal() {
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	b.faults.list = nil
	b.faults.n.Store(0)
}

// match returns the fault that hits c, or nil.
func (fs *faults) match(c sandboxer.Call) *Fault {
	if fs.n.Load() == 0 {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, f := range fs.list {
		if f.Op != "" && f.Op != c.Op || f.Extension != "" && f.Extension != c.Extension ||
			f.Host != "" && f.Host != c.Host || f.ID != "" && f.ID != c.ID {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		if f.times > 0 {
			if f.times--; f.times == 0 {
				fs.list = slices.Delete(fs.list, i, i+1)
				fs.n.Store(int32(len(fs.list)))
			}
		}
		hit := f.Fault
		return &hit
	}
	return nil
}

// stall waits as the fault says and returns the error that the call fails with, if any.
func (f *Fault) stall(ctx context.Context) error {
	switch {
	case f.Hang:
		<-ctx.Done()
		if f.Err == nil {
			return ended(ctx)
		}
	case f.Release != nil:
		select {
		case <-f.Release:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	if err := wait(ctx, f.Delay); err != nil {
		return err
	}
	return f.error()
}

// error is Err with its hint; code and refusal stay those of Err.
func (f *Fault) error() error {
	if f.Err == nil || f.RetryAfter <= 0 {
		return f.Err
	}
	return &sandboxer.Error{Code: sandboxer.CodeOf(f.Err), NothingDone: sandboxer.IsRefused(f.Err), RetryAfter: f.RetryAfter, Err: f.Err}
}

// hit is what a call has to know of its fault; the zero hit is none.
type hit struct {
	late, linger time.Duration
}

// call goes around every call of an extension: journal, dead contexts, faults.
func (e *extension) call(ctx context.Context, c sandboxer.Call, effect func(hit) error) (err error) {
	c.Extension = e.id
	n := e.b.journal.begin(c)
	defer func() { e.b.journal.end(n, err) }()
	if ctx.Err() != nil && !e.b.broken(IgnoresContext) {
		return sandboxer.Refused(sandboxer.CodeOf(ended(ctx)), context.Cause(ctx))
	}
	f := e.b.faults.match(c)
	if f == nil {
		return effect(hit{})
	}
	if f.Effect == Before {
		if err := f.stall(ctx); err != nil {
			return err
		}
		return effect(hit{linger: f.Linger})
	}
	if err := effect(hit{late: f.Late, linger: f.Linger}); err != nil {
		return err
	}
	if err := f.stall(ctx); err != nil {
		return &lostReply{err: err, withHandle: f.Effect == AfterWithHandle}
	}
	return nil
}

// lostReply tells a call that its effect happened although it fails; it never leaves this package.
type lostReply struct {
	err        error
	withHandle bool
}

func (l *lostReply) Error() string { return l.err.Error() }

// isLost reports whether the effect of a failed call happened.
func isLost(err error) bool {
	var l *lostReply
	return errors.As(err, &l)
}

// seen is the error as the caller sees it.
func seen(err error) error {
	if err == nil {
		return nil
	}
	var l *lostReply
	if errors.As(err, &l) {
		return l.err
	}
	return err
}
