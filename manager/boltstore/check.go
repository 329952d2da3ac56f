package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sand-boxer/sandboxer/manager/store"
)

// content is what a check found under one root page.
type content struct {
	about about
	state state
	used  bitmap // the pages in use
	// index is what is wrong with the tag index, which can be made anew from the records. Nil: nothing.
	index error
}

// errNewer: the file's format is not known here.
type errNewer struct{ have, known uint32 }

func (e errNewer) Error() string {
	return fmt.Sprintf("its format is version %d, and this program knows up to %d: upgrade the program", e.have, e.known)
}

// check reads everything under a root page: every page, every record, every index entry. It compares them with their
// checksums, their places and the totals. The records of an older format than known are left to its migration.
func check(ctx context.Context, r io.ReaderAt, size int64, m *root, known uint32) (*content, error) {
	t := newTree(ctx, r, size, m)
	c := &content{used: t.seen}
	buckets, err := t.buckets(m)
	if err != nil {
		return nil, err
	}
	meta, ok := buckets[string(bucketMeta)]
	switch {
	case !ok && buckets[string(bucketRecords)] == nil:
		return nil, fmt.Errorf("%w but a bbolt file of another program", errNoStore)
	case !ok:
		return nil, t.bad(m.page, "a bucket is missing")
	}
	if err := c.checkMeta(t, m.page, m.tx, meta); err != nil {
		return nil, err
	}
	if c.about.format > known {
		return nil, errNewer{c.about.format, known}
	}
	if c.about.format < known {
		return c, c.checkPages(t, m.page, buckets)
	}
	return c, c.checkAll(t, m.page, buckets)
}

func (c *content) checkMeta(t *tree, page, tx uint64, bucket []byte) error {
	values := make(map[string][]byte)
	err := t.bucket(page, bucket, func(_ uint64, _ uint32, key, value []byte) error {
		values[string(key)] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return err
	}
	if c.about, err = decodeAbout(values[string(keyAbout)]); err != nil {
		return t.bad(page, "%v", err)
	}
	if c.state, err = decodeState(values[string(keyState)]); err != nil {
		return t.bad(page, "%v", err)
	}
	if c.state.tx != tx {
		return t.bad(page, "it was written by commit %d and should be of commit %d: it is old", c.state.tx, tx)
	}
	return nil
}

// checkPages checks the structure of all buckets but meta.
func (c *content) checkPages(t *tree, page uint64, buckets map[string][]byte) error {
	for name, bucket := range buckets {
		if name == string(bucketMeta) {
			continue
		}
		if err := t.bucket(page, bucket, func(uint64, uint32, []byte, []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (c *content) checkAll(t *tree, page uint64, buckets map[string][]byte) error {
	if len(buckets) != 3 {
		return t.bad(page, "%d buckets instead of 3", len(buckets))
	}
	found := state{rev: c.state.rev}
	var buf []byte
	err := t.bucket(page, buckets[string(bucketRecords)], func(page uint64, flags uint32, key, value []byte) error {
		kind, id, ok := cutRecordKey(key)
		if !ok || flags != 0 {
			return t.bad(page, "%q is no record", key)
		}
		if err := verifyRecord(key, value); err != nil {
			return t.bad(page, "record %s/%s: %v", kind, id, err)
		}
		rev, _, _, err := parseRecord(value, func(tag []byte) {
			buf = indexKey(buf[:0], kind, id, tag)
			found.index += mix(crc32.Checksum(buf, castagnoli))
		})
		if err != nil {
			return t.bad(page, "record %s/%s: %v", kind, id, err)
		}
		if rev < 1 || rev > c.state.rev {
			return t.bad(page, "record %s/%s: its rev %d was never given out; the last was %d", kind, id, rev, c.state.rev)
		}
		found.addRecord(binary.BigEndian.Uint32(value), 1)
		return nil
	})
	if err != nil {
		return err
	}
	if found.records != c.state.records || found.sum != c.state.sum {
		return t.bad(page, "there are %d records with sum %016x, and there should be %d with sum %016x: some were lost or are old",
			found.records, found.sum, c.state.records, c.state.sum)
	}
	c.index = c.checkIndex(t, page, buckets[string(bucketIndex)], found.index)
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return nil
}

func (c *content) checkIndex(t *tree, page uint64, bucket []byte, want uint64) error {
	var sum uint64
	err := t.bucket(page, bucket, func(page uint64, flags uint32, key, value []byte) error {
		if flags != 0 || len(value) != 0 || bytes.Count(key, []byte{0}) != 2 {
			return t.bad(page, "%q is no index entry", key)
		}
		sum += mix(crc32.Checksum(key, castagnoli))
		return nil
	})
	if err == nil && (sum != want || want != c.state.index) {
		err = t.bad(page, "the tag index has sum %016x, and should have %016x", sum, want)
	}
	return err
}

// newTree reads the pages under m.
func newTree(ctx context.Context, r io.ReaderAt, size int64, m *root) *tree {
	return &tree{ctx: ctx, r: r, size: size, pageSize: m.pageSize, end: m.end, seen: make(bitmap, size/m.pageSize/64+1)}
}

// buckets returns the entries of the bucket of buckets.
func (t *tree) buckets(m *root) (map[string][]byte, error) {
	buckets := make(map[string][]byte)
	err := t.walk(m.page, 0, nil, nil, func(page uint64, flags uint32, key, value []byte) error {
		if flags != flagBucket {
			return t.bad(page, "an entry %q that is no bucket", key)
		}
		buckets[string(key)] = bytes.Clone(value)
		return nil
	})
	return buckets, err
}

// pagesUnder returns the pages that a root page leads to, whatever is in them.
func pagesUnder(ctx context.Context, r io.ReaderAt, size int64, m *root) (bitmap, error) {
	t := newTree(ctx, r, size, m)
	buckets, err := t.buckets(m)
	if err != nil {
		return nil, err
	}
	for _, bucket := range buckets {
		if err := t.bucket(m.page, bucket, func(uint64, uint32, []byte, []byte) error { return nil }); err != nil {
			return nil, err
		}
	}
	return t.seen, nil
}

// eachRecord calls f with all records under a root page.
func eachRecord(ctx context.Context, r io.ReaderAt, size int64, m *root, f func(*store.Record) error) error {
	t := newTree(ctx, r, size, m)
	buckets, err := t.buckets(m)
	if err != nil {
		return err
	}
	return t.bucket(m.page, buckets[string(bucketRecords)], func(page uint64, _ uint32, key, value []byte) error {
		k, err := parseRecordKey(key)
		if err != nil {
			return t.bad(page, "%v", err)
		}
		rec, err := decodeRecord(k, key, value)
		if err != nil {
			return t.bad(page, "record %s: %v", k, err)
		}
		return f(&rec)
	})
}
