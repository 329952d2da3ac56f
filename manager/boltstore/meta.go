package boltstore

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// A root page ("meta") begins a bbolt file twice; commits take turns at writing them, and the higher transaction counts.
// Behind the page header: magic, version, page size, flags, uint32 each; root page, its sequence, freelist, end of the pages
// in use, transaction, checksum, uint64 each. It lies within one disk sector, so that it is written whole or not at all.
const (
	metaLen     = 64
	metaSummed  = 56
	metaMagic   = 0xED0CDAED
	metaVersion = 2
)

// root is one of the two root pages.
type root struct {
	slot     int
	raw      [metaLen]byte
	valid    bool
	repaired bool // it was one bit away from being valid, and is valid now
	pageSize int64
	page     uint64 // of the bucket of buckets
	end      uint64
	tx       uint64
}

var errNoStore = errors.New("it is no store file")

// readRoots reads both root pages.
func readRoots(r io.ReaderAt, size int64) (roots [2]root, err error) {
	first, err := readRoot(r, 0, 0)
	if err != nil {
		return roots, err
	}
	if first.valid {
		roots[0] = first
		roots[1], err = readRoot(r, 1, first.pageSize)
		return roots, err
	}
	// Where the second one lies depends on the page size, which only a valid root page tells.
	for ps := int64(pageSizeMin); ps <= pageSizeMax && ps < size; ps *= 2 {
		second, err := readRoot(r, 1, ps)
		if err != nil {
			return roots, err
		}
		if second.valid && second.pageSize == ps {
			return [2]root{first, second}, nil
		}
	}
	if native.Uint32(first.raw[:]) == metaMagic {
		return roots, &damage{page: 0, msg: "both root pages are damaged"}
	}
	return roots, errNoStore
}

const (
	pageSizeMin = 1 << 10
	pageSizeMax = 1 << 24
)

func readRoot(r io.ReaderAt, slot int, offset int64) (root, error) {
	m := root{slot: slot}
	n, err := r.ReadAt(m.raw[:], offset+pageHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("root page %d at offset %d: %w", slot, offset, err)
	}
	if n < metaLen {
		return m, nil // the file was cut
	}
	if m.parse(); m.valid {
		return m, nil
	}
	for bit := range metaLen * 8 {
		fixed := m
		fixed.raw[bit/8] ^= 1 << (bit % 8)
		if fixed.parse(); fixed.valid {
			fixed.repaired = true
			return fixed, nil
		}
	}
	return m, nil
}

func (m *root) parse() {
	b := m.raw[:]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSummed])
	m.pageSize = int64(native.Uint32(b[8:]))
	m.page, m.end, m.tx = native.Uint64(b[16:]), native.Uint64(b[40:]), native.Uint64(b[48:])
	m.valid = native.Uint32(b) == metaMagic && native.Uint32(b[4:]) == metaVersion && native.Uint64(b[56:]) == h.Sum64() &&
		m.pageSize >= pageSizeMin && m.pageSize <= pageSizeMax && m.pageSize&(m.pageSize-1) == 0 && m.end >= 4
}

// write puts m back where it belongs.
func (m *root) write(w io.WriterAt) error {
	page := make([]byte, m.pageSize)
	native.PutUint64(page, uint64(m.slot))
	native.PutUint16(page[8:], 0x04)
	copy(page[pageHeader:], m.raw[:])
	_, err := w.WriteAt(page, int64(m.slot)*m.pageSize)
	return err
}

// newer returns the slot of the root page that counts. Where only one is valid it may be the older: then the last commit
// would be lost, and nothing in the file could tell.
func newer(roots [2]root) (slot int, err error) {
	a, b := &roots[0], &roots[1]
	if a.valid && b.valid {
		if a.pageSize != b.pageSize {
			return 0, &damage{page: 1, offset: a.pageSize, msg: "the root pages disagree about the size of a page"}
		}
		if b.tx > a.tx {
			return 1, nil
		}
		return 0, nil
	}
	bad := b
	size := a.pageSize
	if b.valid {
		bad, size = a, b.pageSize
	}
	return 0, &damage{page: uint64(bad.slot), offset: int64(bad.slot) * size,
		msg: "this root page is damaged beyond repair, and it may be that of the last commit"}
}

// setTx changes the transaction that m claims to be of.
func (m *root) setTx(tx uint64) {
	native.PutUint64(m.raw[48:], tx)
	h := fnv.New64a()
	_, _ = h.Write(m.raw[:metaSummed])
	native.PutUint64(m.raw[metaSummed:], h.Sum64())
	m.tx = tx
}
