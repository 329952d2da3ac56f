package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
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

// cutRecordKey returns the parts of b.
func cutRecordKey(b []byte) (kind, id []byte, ok bool) {
	kind, id, ok = bytes.Cut(b, []byte{0})
	return kind, id, ok && len(kind) > 0 && len(id) > 0
}

// parseRecordKey is the inverse of recordKey.
func parseRecordKey(b []byte) (store.Key, error) {
	kind, id, ok := cutRecordKey(b)
	if !ok {
		return store.Key{}, fmt.Errorf("%q is no record key", b)
	}
	return store.Key{Kind: string(kind), ID: string(id)}, nil
}

func indexKey[B string | []byte](dst []byte, kind, id, tag B) []byte {
	dst = slices.Grow(dst, len(kind)+len(tag)+len(id)+2)
	dst = append(dst, kind...)
	dst = append(dst, 0)
	dst = append(dst, tag...)
	dst = append(dst, 0)
	return append(dst, id...)
}

// valueSize is how many bytes r's value has at most.
func valueSize(r *store.Record) int {
	size := sumLen + 3*binary.MaxVarintLen64 + len(r.Body)
	for _, tag := range r.Tags {
		size += len(tag) + 2
	}
	return size
}

// encodeRecord returns r's value under key, in the memory of dst, which is empty.
func encodeRecord(dst, key []byte, r *store.Record) []byte {
	b := append(dst, 0, 0, 0, 0) // the checksum
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

// parseRecord takes a value apart that was verified, and calls tag with each tag. The body is a part of value.
func parseRecord(value []byte, tag func([]byte)) (rev, n int64, body []byte, err error) {
	b := value[sumLen:]
	urev, size := binary.Uvarint(b)
	if size <= 0 || urev > math.MaxInt64 {
		return 0, 0, nil, errShort
	}
	b = b[size:]
	if n, size = binary.Varint(b); size <= 0 {
		return 0, 0, nil, errShort
	}
	b = b[size:]
	tags, size := binary.Uvarint(b)
	if size <= 0 || tags > store.MaxTags {
		return 0, 0, nil, errShort
	}
	b = b[size:]
	for range tags {
		length, size := binary.Uvarint(b)
		if size <= 0 || length > uint64(len(b)-size) {
			return 0, 0, nil, errShort
		}
		tag(b[size : size+int(length)])
		b = b[size+int(length):]
	}
	return int64(urev), n, b, nil
}

// decodeRecord verifies value, found under key, and returns a record that shares no memory with it.
func decodeRecord(k store.Key, key, value []byte) (store.Record, error) {
	r, err := viewRecord(k, key, value)
	r.Body = bytes.Clone(r.Body)
	return r, err
}

// viewRecord is decodeRecord, but for the Body, which is a part of value.
func viewRecord(k store.Key, key, value []byte) (store.Record, error) {
	if err := verifyRecord(key, value); err != nil {
		return store.Record{}, err
	}
	r := store.Record{Key: k}
	rev, n, body, err := parseRecord(value, func(tag []byte) { r.Tags = append(r.Tags, string(tag)) })
	if err != nil {
		return store.Record{}, err
	}
	r.Rev, r.N = rev, n
	if len(body) > 0 {
		r.Body = body
	}
	return r, nil
}
