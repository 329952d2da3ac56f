package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"

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
	for more := true; more; {
		<-s.queue.wake
		for {
			s.queue.gather()
			if batch, more = s.queue.pop(batch[:0]); len(batch) == 0 {
				break
			}
			err := s.failed()
			if err == nil {
				err = s.apply(batch)
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

// apply commits the batch in one transaction and sets each commit's own result. An error is that of all.
func (s *Store) apply(batch []*commit) error {
	next := s.state
	next.sealed = false
	err := s.update(func(tx *bolt.Tx) (bool, error) {
		f := fold{tx: tx, records: tx.Bucket(bucketRecords), state: next, seen: make(map[store.Key]*pending)}
		for _, c := range batch {
			c.rev, c.err = f.commit(c.ms)
		}
		if len(f.dirty) == 0 {
			return false, nil
		}
		err := f.flush()
		next = f.state
		return true, err
	})
	if err == nil {
		s.state = next
	}
	return err
}

// fold gathers what a batch does to each record, so that it is written once, however many commits of the batch do it.
type fold struct {
	tx      *bolt.Tx
	records *bolt.Bucket
	state   state
	seen    map[store.Key]*pending
	dirty   []*pending
}

// pending is a record as the transaction found it and as the batch leaves it.
type pending struct {
	key    []byte // in the file
	now    store.Record
	before store.Record
	sum    uint32 // before's
	dirty  bool
}

func newPending(k store.Key) *pending {
	return &pending{key: recordKey(make([]byte, 0, len(k.Kind)+1+len(k.ID)), k), before: store.Record{Key: k}}
}

func (f *fold) commit(ms []store.Mutation) (int64, error) {
	changes, err := store.Evaluate(f.state.rev+1, ms, f.current)
	if err != nil {
		return 0, err
	}
	if len(changes) > 0 {
		f.state.rev++
	}
	for i := range changes {
		after := changes[i].After
		p := f.seen[after.Key]
		p.now = after
		if !p.dirty {
			p.dirty = true
			f.dirty = append(f.dirty, p)
		}
	}
	return f.state.rev, nil
}

func (f *fold) current(k store.Key) (store.Record, error) {
	if p := f.seen[k]; p != nil {
		return p.now, nil
	}
	p := newPending(k)
	if value := f.records.Get(p.key); value != nil {
		var err error
		if p.before, err = decodeRecord(k, p.key, value); err != nil {
			return store.Record{}, sandboxer.Refused(sandboxer.Internal, damagedRecord(k, err))
		}
		p.sum = binary.BigEndian.Uint32(value)
	}
	p.now = p.before
	f.seen[k] = p
	return p.now, nil
}

// fill is how full pages are left when they are split: IDs sort by time, so that most are behind all others.
const fill = 0.85

// flush writes what changed, in the order of the keys.
func (f *fold) flush() error {
	slices.SortFunc(f.dirty, func(a, b *pending) int { return bytes.Compare(a.key, b.key) })
	index := f.tx.Bucket(bucketIndex)
	f.records.FillPercent, index.FillPercent = fill, fill
	for _, p := range f.dirty {
		if p.before.Rev != 0 {
			f.state.addRecord(p.sum, -1)
		}
		var err error
		if p.now.Rev != 0 {
			value := encodeRecord(p.key, &p.now)
			f.state.addRecord(binary.BigEndian.Uint32(value), 1)
			err = f.records.Put(p.key, value)
		} else if p.before.Rev != 0 {
			err = f.records.Delete(p.key)
		}
		if err == nil && !slices.Equal(p.before.Tags, p.now.Tags) {
			err = f.reindex(index, p)
		}
		if err != nil {
			return err
		}
	}
	return f.state.put(f.tx)
}

func (f *fold) reindex(index *bolt.Bucket, p *pending) error {
	f.state.addTags(&p.before, -1)
	f.state.addTags(&p.now, 1)
	for _, tag := range p.before.Tags {
		if !slices.Contains(p.now.Tags, tag) {
			if err := index.Delete(indexKey(nil, p.now.Key.Kind, p.now.Key.ID, tag)); err != nil {
				return err
			}
		}
	}
	for _, tag := range p.now.Tags {
		if !slices.Contains(p.before.Tags, tag) {
			if err := index.Put(indexKey(nil, p.now.Key.Kind, p.now.Key.ID, tag), nil); err != nil {
				return err
			}
		}
	}
	return nil
}
