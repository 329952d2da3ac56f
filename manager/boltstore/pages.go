package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// The layout of a bbolt file, as of go.etcd.io/bbolt v1.5.0 (2026), version 2 of its format, unchanged since 2014. It is
// read here without bbolt because bbolt trusts the file: on a damaged page it panics, in goroutines of its own too.
const (
	pageHeader = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elemSize   = 16 // branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32; pos counts from itself
	bucketHead = 16 // root page uint64, sequence uint64; root 0: the page itself follows

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagBucket = 0x01 // of a leaf element

	maxDepth = 32
)

var native = binary.NativeEndian

// damage says what is wrong, and where.
type damage struct {
	page   uint64
	offset int64 // of the page in the file
	msg    string
}

func (d *damage) Error() string {
	return fmt.Sprintf("page %d at offset %d: %s", d.page, d.offset, d.msg)
}

// tree reads the pages of one root through r.
type tree struct {
	ctx      context.Context
	r        io.ReaderAt
	size     int64 // of the file
	pageSize int64
	end      uint64 // the first page that was never used
	seen     bitmap
	pages    int
	bufs     [maxDepth][]byte
}

type bitmap []uint64

func (b bitmap) has(i uint64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i uint64)      { b[i/64] |= 1 << (i % 64) }

func (t *tree) bad(id uint64, format string, args ...any) error {
	return &damage{page: id, offset: int64(id) * t.pageSize, msg: fmt.Sprintf(format, args...)}
}

// page reads the page id and what belongs to it, and marks it as used.
func (t *tree) page(id uint64, depth int) ([]byte, error) {
	if t.pages++; t.pages%1024 == 0 && t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	if depth >= maxDepth {
		return nil, t.bad(id, "it lies deeper than any tree is")
	}
	if id < 2 || id >= t.end {
		return nil, t.bad(id, "it is referred to, and the pages in use are 2 to %d", t.end-1)
	}
	if err := t.within(id, 0); err != nil {
		return nil, err
	}
	buf, err := t.read(id, depth, 0)
	if err != nil {
		return nil, err
	}
	if got := native.Uint64(buf); got != id {
		return nil, t.bad(id, "it calls itself page %d", got)
	}
	if flags := native.Uint16(buf[8:]); flags != flagBranch && flags != flagLeaf {
		return nil, t.bad(id, "its type %#x is neither branch nor leaf", flags)
	}
	overflow := uint64(native.Uint32(buf[12:]))
	if overflow >= t.end-id {
		return nil, t.bad(id, "it claims to span %d pages, beyond the last in use, %d", overflow+1, t.end-1)
	}
	if err := t.within(id, overflow); err != nil {
		return nil, err
	}
	for i := id; i <= id+overflow; i++ {
		if t.seen.has(i) {
			return nil, t.bad(i, "it is in use twice")
		}
		t.seen.set(i)
	}
	if overflow > 0 {
		return t.read(id, depth, overflow)
	}
	return buf, nil
}

// within checks that a page and its overflow lie in the file.
func (t *tree) within(id, overflow uint64) error {
	if pages := uint64(t.size / t.pageSize); id >= pages || overflow >= pages-id {
		return t.bad(id, "it ends behind the end of the file, which has %d bytes: the file was cut", t.size)
	}
	return nil
}

func (t *tree) read(id uint64, depth int, overflow uint64) ([]byte, error) {
	n, off := int64(overflow+1)*t.pageSize, int64(id)*t.pageSize
	if int64(cap(t.bufs[depth])) < n {
		t.bufs[depth] = make([]byte, n)
	}
	buf := t.bufs[depth][:n]
	if _, err := t.r.ReadAt(buf, off); err != nil {
		return nil, t.bad(id, "%v", err)
	}
	return buf, nil
}

// visit is called with each entry of a tree, in order. It must keep neither key nor value.
type visit func(page uint64, flags uint32, key, value []byte) error

// walk visits the entries of the tree under page id, whose keys are at least lo and, but for nil, below hi.
func (t *tree) walk(id uint64, depth int, lo, hi []byte, f visit) error {
	buf, err := t.page(id, depth)
	if err != nil {
		return err
	}
	if native.Uint16(buf[8:]) == flagLeaf {
		return t.leaf(id, buf, lo, hi, f)
	}
	count := int(native.Uint16(buf[10:]))
	if count == 0 {
		return t.bad(id, "a branch without children")
	}
	prev := lo
	key, child, err := t.branchElem(id, buf, 0, count)
	for i := 0; i < count; i++ {
		if err != nil {
			return err
		}
		if err := t.inOrder(id, i, key, prev, hi); err != nil {
			return err
		}
		next, nextChild, upper := []byte(nil), uint64(0), hi
		if i+1 < count {
			if next, nextChild, err = t.branchElem(id, buf, i+1, count); err != nil {
				return err
			}
			upper = next
		}
		if err := t.walk(child, depth+1, key, upper, f); err != nil {
			return err
		}
		prev, key, child = key, next, nextChild
	}
	return nil
}

func (t *tree) branchElem(id uint64, buf []byte, i, count int) (key []byte, child uint64, err error) {
	at := pageHeader + i*elemSize
	if at+elemSize > len(buf) {
		return nil, 0, t.bad(id, "its %d entries do not fit into it", count)
	}
	pos, ksize := uint64(native.Uint32(buf[at:])), uint64(native.Uint32(buf[at+4:]))
	from, to := uint64(at)+pos, uint64(at)+pos+ksize
	if ksize == 0 || from < uint64(pageHeader+count*elemSize) || to > uint64(len(buf)) {
		return nil, 0, t.bad(id, "the key of entry %d lies outside of it", i)
	}
	return buf[from:to], native.Uint64(buf[at+8:]), nil
}

// leaf visits the entries of a leaf page, which may also be the inline page of a small bucket.
func (t *tree) leaf(id uint64, buf, lo, hi []byte, f visit) error {
	count := int(native.Uint16(buf[10:]))
	if pageHeader+count*elemSize > len(buf) {
		return t.bad(id, "its %d entries do not fit into it", count)
	}
	prev := lo
	for i := range count {
		at := pageHeader + i*elemSize
		flags, pos := native.Uint32(buf[at:]), uint64(native.Uint32(buf[at+4:]))
		ksize, vsize := uint64(native.Uint32(buf[at+8:])), uint64(native.Uint32(buf[at+12:]))
		from := uint64(at) + pos
		mid, to := from+ksize, from+ksize+vsize
		if ksize == 0 || from < uint64(pageHeader+count*elemSize) || to > uint64(len(buf)) {
			return t.bad(id, "entry %d lies outside of it", i)
		}
		key := buf[from:mid]
		if err := t.inOrder(id, i, key, prev, hi); err != nil {
			return err
		}
		if err := f(id, flags, key, buf[mid:to:to]); err != nil {
			return err
		}
		prev = key
	}
	return nil
}

// inOrder checks the i-th key of a page against the one before it, or for the first the page's lower bound.
func (t *tree) inOrder(id uint64, i int, key, prev, hi []byte) error {
	if c := bytes.Compare(prev, key); c > 0 || c == 0 && i > 0 {
		return t.bad(id, "entry %d is out of order", i)
	}
	if hi != nil && bytes.Compare(key, hi) >= 0 {
		return t.bad(id, "entry %d belongs to a later page", i)
	}
	return nil
}

// bucket visits the entries of the bucket that value, found in page id, describes.
func (t *tree) bucket(id uint64, value []byte, f visit) error {
	if len(value) < bucketHead {
		return t.bad(id, "a bucket's entry is too short")
	}
	if root := native.Uint64(value); root != 0 {
		return t.walk(root, 1, nil, nil, f)
	}
	inline := value[bucketHead:]
	if len(inline) < pageHeader || native.Uint16(inline[8:]) != flagLeaf {
		return t.bad(id, "a bucket's inline page is no leaf")
	}
	return t.leaf(id, inline, nil, nil, f)
}
