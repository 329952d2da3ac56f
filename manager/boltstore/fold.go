package boltstore

import (
	"bytes"
	"encoding/binary"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// apply commits the batch in one transaction and sets each commit's own result. An error is that of all.
func (s *Store) apply(f *fold, batch []*commit) error {
	next := s.state
	next.sealed = false
	err := s.update(func(tx *bolt.Tx) (bool, error) {
		f.begin(tx, next)
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
	f.end(err == nil)
	if err == nil {
		s.state = next
	}
	return err
}

// fold gathers what a batch does to each record, so that it is written once, however many commits of the batch do it. It
// belongs to the committing goroutine, and what it is made of serves one batch after the other.
type fold struct {
	records *bolt.Bucket
	index   *bolt.Bucket
	reader  *bolt.Cursor // of records; all is read before anything is written
	state   state
	seen    map[store.Key]*pending
	dirty   []*pending

	lookup func(store.Key) (store.Record, error) // current
	all    []*pending                            // for one batch after the other
	used   int                                   // of all
	values arena                                 // what the transaction writes, until it has ended
	key    []byte
}

// pending is a record as the transaction found it and as the batch leaves it.
type pending struct {
	key    []byte       // in the file
	before store.Record // its Body lies in mapped memory: nothing reads it once the transaction's pages are allocated
	now    store.Record
	sum    uint32 // before's
	dirty  bool
}

func newFold() *fold {
	f := &fold{seen: map[store.Key]*pending{}}
	f.lookup = f.current
	return f
}

func (f *fold) begin(tx *bolt.Tx, st state) {
	f.records, f.index, f.state = tx.Bucket(bucketRecords), tx.Bucket(bucketIndex), st
	f.reader = f.records.Cursor()
}

// maxKept is how many pending records are kept for the next batch.
const maxKept = 256

// end lets go of everything that was the batch's. What the transaction wrote may be written over where it ended well; where
// it did not, nobody knows who still reads it.
func (f *fold) end(well bool) {
	f.records, f.index, f.reader = nil, nil, nil
	clear(f.seen)
	clear(f.dirty)
	f.dirty = f.dirty[:0]
	for _, p := range f.all[:f.used] {
		*p = pending{key: p.key[:0]}
	}
	f.used = 0
	if len(f.all) > maxKept {
		clear(f.all[maxKept:])
		f.all = f.all[:maxKept]
	}
	if well {
		f.values.reset()
	} else {
		f.values = arena{}
	}
}

func (f *fold) newPending(k store.Key) *pending {
	if f.used == len(f.all) {
		f.all = append(f.all, &pending{})
	}
	p := f.all[f.used]
	f.used++
	p.key, p.before = recordKey(p.key, k), store.Record{Key: k}
	return p
}

func (f *fold) commit(ms []store.Mutation) (int64, error) {
	changes, err := store.Evaluate(f.state.rev+1, ms, f.lookup)
	if err != nil {
		return 0, err
	}
	if len(changes) > 0 {
		f.state.rev++
	}
	for i := range changes {
		after := &changes[i].After
		p := f.seen[after.Key]
		p.now = *after
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
	p := f.newPending(k)
	if key, value := f.reader.Seek(p.key); bytes.Equal(key, p.key) && value != nil {
		var err error
		if p.before, err = viewRecord(k, p.key, value); err != nil {
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
	f.records.FillPercent, f.index.FillPercent = fill, fill
	for _, p := range f.dirty {
		if p.before.Rev != 0 {
			f.state.addRecord(p.sum, -1)
		}
		var err error
		if p.now.Rev != 0 {
			value := encodeRecord(f.values.take(valueSize(&p.now)), p.key, &p.now)
			f.state.addRecord(binary.BigEndian.Uint32(value), 1)
			err = f.records.Put(p.key, value)
		} else if p.before.Rev != 0 {
			err = f.records.Delete(p.key)
		}
		if err == nil && !slices.Equal(p.before.Tags, p.now.Tags) {
			err = f.reindex(p)
		}
		if err != nil {
			return err
		}
	}
	return f.state.put(f.records.Tx())
}

func (f *fold) reindex(p *pending) error {
	f.state.addTags(&p.before, -1)
	f.state.addTags(&p.now, 1)
	for _, tag := range p.before.Tags {
		if !slices.Contains(p.now.Tags, tag) {
			if err := f.index.Delete(f.indexKey(p, tag)); err != nil {
				return err
			}
		}
	}
	for _, tag := range p.now.Tags {
		if !slices.Contains(p.before.Tags, tag) {
			if err := f.index.Put(f.indexKey(p, tag), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexKey is good until it is called again.
func (f *fold) indexKey(p *pending, tag string) []byte {
	f.key = indexKey(f.key[:0], p.now.Key.Kind, p.now.Key.ID, tag)
	return f.key
}

// arena hands out memory that is all given back at once.
type arena struct {
	chunk []byte
}

const (
	minChunk = 8 << 10
	maxChunk = 256 << 10
)

// take returns an empty slice that size bytes can be appended to.
func (a *arena) take(size int) []byte {
	if cap(a.chunk)-len(a.chunk) < size {
		a.chunk = make([]byte, 0, max(size, minChunk, min(2*cap(a.chunk), maxChunk)))
	}
	at := len(a.chunk)
	a.chunk = a.chunk[:at+size]
	return a.chunk[at : at : at+size]
}

// reset keeps the last chunk, unless it is unusually large.
func (a *arena) reset() {
	if cap(a.chunk) > maxChunk {
		a.chunk = nil
	}
	a.chunk = a.chunk[:0]
}
