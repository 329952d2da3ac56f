package boltstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// One transaction takes at most this many commits and, but for a single one, bytes.
const (
	maxFold      = 1024
	maxFoldBytes = 8 << 20
)

// commit is a commit on its way.
type commit struct {
	ms   []store.Mutation
	size int
	rev  int64
	err  error
	done chan struct{}
}

var commits = sync.Pool{New: func() any { return &commit{done: make(chan struct{}, 1)} }}

// Commit implements [store.Store]. It waits for its turn and for the disk, whatever ctx does.
func (s *Store) Commit(ctx context.Context, ms ...store.Mutation) (int64, error) {
	if err := store.Validate(ms); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	c := commits.Get().(*commit)
	c.ms, c.size = ms, 0
	for i := range ms {
		c.size += len(ms[i].Body)
	}
	if err := s.queue.push(c); err != nil {
		return 0, s.wrap(err)
	}
	<-c.done
	rev, err := c.rev, c.err
	*c = commit{done: c.done}
	commits.Put(c)
	if err != nil {
		return 0, s.wrap(err)
	}
	return rev, nil
}

// wrap says which store an error comes from, unless it is about a key.
func (s *Store) wrap(err error) error {
	var keyed *store.Error
	if errors.As(err, &keyed) {
		return err
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}

// queue holds the commits that wait for the committing goroutine.
type queue struct {
	mu      sync.Mutex
	waiting []*commit
	closed  bool
	wake    chan struct{} // holds one
}

func (q *queue) push(c *commit) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed()
	}
	q.waiting = append(q.waiting, c)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// pop moves the commits of the next transaction to into, and reports whether more will ever come.
func (q *queue) pop(into []*commit) ([]*commit, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.waiting) && n < maxFold {
		size += q.waiting[n].size
		if n > 0 && size > maxFoldBytes {
			break
		}
		n++
	}
	into = append(into, q.waiting[:n]...)
	q.waiting = slices.Delete(q.waiting, 0, n)
	return into, !q.closed || len(q.waiting) > 0
}

// gather lets callers that are about to commit do so first, as long as each look finds more of them. It never sleeps: with
// one caller it costs nothing that could be measured, and with many it halves the number of syncs.
func (q *queue) gather() {
	for n := -1; ; {
		q.mu.Lock()
		now := len(q.waiting)
		q.mu.Unlock()
		if now == n || now >= maxFold {
			return
		}
		n = now
		for range 16 {
			runtime.Gosched()
		}
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
}

// run is the committing goroutine: the only one that writes.
func (s *Store) run() {
	defer close(s.stopped)
	var batch []*commit
	f := newFold()
	for more := true; more; {
		<-s.queue.wake
		for {
			s.queue.gather()
			if batch, more = s.queue.pop(batch[:0]); len(batch) == 0 {
				break
			}
			err := s.failed()
			if err == nil {
				err = s.apply(f, batch)
			}
			for _, c := range batch {
				if err != nil {
					c.rev, c.err = 0, err
				}
				c.done <- struct{}{}
			}
		}
	}
}
