package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/sand-boxer/sandboxer/manager/store"
)

// A record's key in the file is kind NUL id. Its value is
//
//	crc32c of the key and all that follows, 4 bytes, big endian
//	rev, uvarint; n, varint; the number of tags, uvarint; each tag, uvarint length and bytes
//	the body, to the end
//
// An index entry's key is kind NUL tag NUL id, without a value.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumLen = 4

func recordKey(dst []byte, k store.Key) []byte {
	dst = append(dst, k.Kind...)
	dst = append(dst, 0)
	return append(dst, k.ID...)
}

// parseRecordKey is the inverse of recordKey.
func parseRecordKey(b []byte) (store.Key, error) {
	kind, id, ok := bytes.Cut(b, []byte{0})
	if !ok || len(kind) == 0 || len(id) == 0 {
		return store.Key{}, fmt.Errorf("%q is no record key", b)
	}
	return store.Key{Kind: string(kind), ID: string(id)}, nil
}

func indexKey(dst []byte, k store.Key, tag string) []byte {
	dst = slices.Grow(dst, len(k.Kind)+len(tag)+len(k.ID)+2)
	dst = append(dst, k.Kind...)
	dst = append(dst, 0)
	dst = append(dst, tag...)
	dst = append(dst, 0)
	return append(dst, k.ID...)
}

// encodeRecord returns r's value under key.
func encodeRecord(key []byte, r *store.Record) []byte {
	size := sumLen + 3*binary.MaxVarintLen64 + len(r.Body)
	for _, tag := range r.Tags {
		size += len(tag) + 2
	}
	b := make([]byte, sumLen, size)
	b = binary.AppendUvarint(b, uint64(r.Rev))
	b = binary.AppendVarint(b, r.N)
	b = binary.AppendUvarint(b, uint64(len(r.Tags)))
	for _, tag := range r.Tags {
		b = binary.AppendUvarint(b, uint64(len(tag)))
		b = append(b, tag...)
	}
	b = append(b, r.Body...)
	binary.BigEndian.PutUint32(b, recordSum(key, b))
	return b
}

// recordSum is the checksum that value, stored under key, must begin with.
func recordSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value[sumLen:])
}

// verifyRecord compares a value with its checksum.
func verifyRecord(key, value []byte) error {
	if len(value) < sumLen+3 {
		return fmt.Errorf("its %d bytes are too few", len(value))
	}
	if want, got := binary.BigEndian.Uint32(value), recordSum(key, value); want != got {
		return fmt.Errorf("its checksum is %08x and should be %08x", got, want)
	}
	return nil
}

var errShort = errors.New("it ends early")

// decodeRecord verifies value, found under key, and returns a record that shares no memory with it.
func decodeRecord(k store.Key, key, value []byte) (store.Record, error) {
	if err := verifyRecord(key, value); err != nil {
		return store.Record{}, err
	}
	r := store.Record{Key: k}
	b := value[sumLen:]
	rev, n := binary.Uvarint(b)
	if n <= 0 {
		return r, errShort
	}
	b = b[n:]
	r.Rev = int64(rev)
	if r.N, n = binary.Varint(b); n <= 0 {
		return r, errShort
	}
	b = b[n:]
	tags, n := binary.Uvarint(b)
	if n <= 0 || tags > store.MaxTags {
		return r, errShort
	}
	b = b[n:]
	if tags > 0 {
		r.Tags = make([]string, tags)
	}
	for i := range r.Tags {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return r, errShort
		}
		r.Tags[i] = string(b[n : n+int(size)])
		b = b[n+int(size):]
	}
	if len(b) > 0 {
		r.Body = bytes.Clone(b)
	}
	return r, nil
}
