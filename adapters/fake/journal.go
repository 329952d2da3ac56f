package fake

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Call is one call that an extension of the backend got.
type Call struct {
	sandboxer.Call
	Name  string // of the resource or snapshot; "" for calls that concern no one of them
	At    time.Time
	Err   error // nil also while it has not returned
	Ended bool  // it has returned
}

// journalSize is how many calls are remembered.
const journalSize = 4096

type journal struct {
	counts sync.Map // sandboxer.Op → *atomic.Int64
	mu     sync.Mutex
	ring   []Call
	begun  int64 // calls so far; the n-th is in ring[n%journalSize] until its place is needed
}

// Calls returns the latest 4096 calls, oldest first.
func (b *Backend) Calls() []Call {
	j := &b.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Call, 0, len(j.ring))
	for n := max(0, j.begun-journalSize); n < j.begun; n++ {
		out = append(out, j.ring[n%journalSize])
	}
	return out
}

// Count returns how many calls of op began since New; never forgotten.
func (b *Backend) Count(op sandboxer.Op) int {
	if n, ok := b.journal.counts.Load(op); ok {
		return int(n.(*atomic.Int64).Load())
	}
	return 0
}

// begin writes a call down, and returns its number.
func (j *journal) begin(c sandboxer.Call) int64 {
	count, ok := j.counts.Load(c.Op)
	if !ok {
		count, _ = j.counts.LoadOrStore(c.Op, new(atomic.Int64))
	}
	count.(*atomic.Int64).Add(1)
	entry := Call{Call: c, At: time.Now()}
	if c.ID != "" {
		entry.Name = sandboxer.HandleRef{ID: c.ID, Attempt: c.Attempt}.Name()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.begun
	j.begun++
	if n < journalSize {
		j.ring = append(j.ring, entry)
	} else {
		j.ring[n%journalSize] = entry
	}
	return n
}

func (j *journal) end(n int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.begun-n <= journalSize {
		entry := &j.ring[n%journalSize]
		entry.Err, entry.Ended = seen(err), true
	}
}
