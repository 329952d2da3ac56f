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
	ring   []*Call
	next   int
}

// Calls returns the latest 4096 calls, oldest first.
func (b *Backend) Calls() []Call {
	j := &b.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Call, 0, len(j.ring))
	for i := range j.ring {
		out = append(out, *j.ring[(j.next+i)%len(j.ring)])
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

func (j *journal) begin(c sandboxer.Call) *Call {
	n, ok := j.counts.Load(c.Op)
	if !ok {
		n, _ = j.counts.LoadOrStore(c.Op, new(atomic.Int64))
	}
	n.(*atomic.Int64).Add(1)
	entry := &Call{Call: c, At: time.Now()}
	if c.ID != "" {
		entry.Name = sandboxer.HandleRef{ID: c.ID, Attempt: c.Attempt}.Name()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.ring) < journalSize {
		j.ring = append(j.ring, entry)
		return entry
	}
	j.ring[j.next] = entry
	j.next = (j.next + 1) % journalSize
	return entry
}

func (j *journal) end(entry *Call, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	entry.Err, entry.Ended = seen(err), true
}
