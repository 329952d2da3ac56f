package boltstore

import (
	"bytes"
	"context"
	"iter"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	out := make([]store.Record, len(keys))
	err := s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketRecords)
		var key []byte
		for i, k := range keys {
			out[i].Key = k
			if k.Validate() != nil {
				continue // nothing can be stored under it
			}
			key = recordKey(key[:0], k)
			value := b.Get(key)
			if value == nil {
				continue
			}
			var err error
			if out[i], err = decodeRecord(k, key, value); err != nil {
				return damagedRecord(k, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.wrap(err)
	}
	return out, nil
}

// A scan reads this many records, or somewhat more than this many bytes, at a time.
const (
	scanPage      = 128
	scanPageBytes = 256 << 10
)

// Scan implements [store.Store]. It reads a page at a time; no transaction is open while the caller works.
func (s *Store) Scan(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := q.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		for {
			page, more, err := s.page(ctx, q)
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !more {
				return
			}
			q.After = page[len(page)-1].Key.ID
			if q.Limit > 0 {
				q.Limit -= len(page)
			}
		}
	}
}

// page returns the first records of q and whether there may be more.
func (s *Store) page(ctx context.Context, q store.Query) (page []store.Record, more bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	err = s.view(func(tx *bolt.Tx) error {
		page, more = nil, false
		size := 0
		return entries(tx, q, func(k store.Key, key, value []byte) (bool, error) {
			if len(page) == scanPage || size > scanPageBytes {
				more = true
				return false, nil
			}
			r, err := decodeRecord(k, key, value)
			if err != nil {
				return false, damagedRecord(k, err)
			}
			if q.Tag != "" && !slices.Contains(r.Tags, q.Tag) {
				return false, damaged("the tag index has %q for %s, which has it not", q.Tag, k)
			}
			page = append(page, r)
			size += len(value)
			return len(page) != q.Limit, nil
		})
	})
	if err != nil {
		return nil, false, s.wrap(err)
	}
	return page, more, nil
}

// entries calls f with the key and the value of each record that q is about, but for its Limit, until f returns false.
func entries(tx *bolt.Tx, q store.Query, f func(k store.Key, key, value []byte) (bool, error)) error {
	records := tx.Bucket(bucketRecords)
	cursor, prefix := records.Cursor(), append([]byte(q.Kind), 0)
	if q.Tag != "" {
		cursor, prefix = tx.Bucket(bucketIndex).Cursor(), append(append(prefix, q.Tag...), 0)
	}
	idAt := len(prefix)
	prefix = append(prefix, q.Prefix...)
	start := append(bytes.Clone(prefix[:idAt]), max(q.Prefix, q.After)...)
	var buf []byte
	for key, value := cursor.Seek(start); bytes.HasPrefix(key, prefix); key, value = cursor.Next() {
		k := store.Key{Kind: q.Kind, ID: string(key[idAt:])}
		if k.ID == q.After {
			continue
		}
		if q.Tag != "" {
			buf = recordKey(buf[:0], k)
			if key, value = buf, records.Get(buf); value == nil {
				return damaged("the tag index has %q for %s, which is not there", q.Tag, k)
			}
		}
		if more, err := f(k, key, value); err != nil || !more {
			return err
		}
	}
	return nil
}
