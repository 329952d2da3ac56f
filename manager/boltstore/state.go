package boltstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer/manager/store"
)

// The buckets of a store, and the keys of the first.
var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	bucketIndex   = []byte("tags")

	keyAbout = []byte("about")
	keyState = []byte("state")
)

// about never changes but by a migration: format, 4 bytes; the store's ID; crc32c.
type about struct {
	format uint32
	id     string
}

func newAbout(format uint32) about {
	return about{format: format, id: strings.ToLower(rand.Text()[:16])}
}

func (a about) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, a.format)
	b = append(b, a.id...)
	return appendSum(b)
}

func decodeAbout(b []byte) (about, error) {
	b, err := cutSum(b, 5)
	if err != nil {
		return about{}, fmt.Errorf("the description of the store: %w", err)
	}
	return about{format: binary.BigEndian.Uint32(b), id: string(b[4:])}, nil
}

// state is written with every commit. Its sums let a check find a record or an index entry that went missing as a whole.
type state struct {
	rev     int64  // the last one given out
	records uint64 // how many there are
	sum     uint64 // of all records
	index   uint64 // of all index entries

	// tx is the transaction that wrote this. Pages of an older one, where a newer one should have written, can be in
	// perfect order: only this tells.
	tx uint64
	// boot is the run of the operating system that the commit was made in, 0 where it is not known: within one, nothing
	// that was written can get lost.
	boot   uint64
	sealed bool // nothing but this was committed since the store was opened, or it was closed behind this
}

const stateLen = 6*8 + 1

func (s state) encode() []byte {
	b := make([]byte, 0, stateLen+sumLen)
	for _, v := range [...]uint64{uint64(s.rev), s.records, s.sum, s.index, s.tx, s.boot} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	if s.sealed {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return appendSum(b)
}

func decodeState(b []byte) (state, error) {
	b, err := cutSum(b, stateLen)
	if err != nil {
		return state{}, fmt.Errorf("the state of the store: %w", err)
	}
	var v [6]uint64
	for i := range v {
		v[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return state{rev: int64(v[0]), records: v[1], sum: v[2], index: v[3], tx: v[4], boot: v[5], sealed: b[6*8] == 1}, nil
}

func appendSum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func cutSum(b []byte, atLeast int) ([]byte, error) {
	if len(b) < atLeast+sumLen {
		return nil, errors.New("missing or cut short")
	}
	b, sum := b[:len(b)-sumLen], binary.BigEndian.Uint32(b[len(b)-sumLen:])
	if got := crc32.Checksum(b, castagnoli); got != sum {
		return nil, fmt.Errorf("its checksum is %08x and should be %08x", got, sum)
	}
	return b, nil
}

// mix spreads a checksum over 64 bits, so that a sum of many says more than each alone.
func mix(sum uint32) uint64 {
	x := uint64(sum) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// addRecord counts a record's checksum in; sign is 1, or -1 to take it out.
func (s *state) addRecord(sum uint32, sign int) {
	if sign > 0 {
		s.records++
		s.sum += mix(sum)
		return
	}
	s.records--
	s.sum -= mix(sum)
}

// addTags counts the index entries of a record in or out.
func (s *state) addTags(r *store.Record, sign int) {
	var buf []byte
	for _, tag := range r.Tags {
		buf = indexKey(buf[:0], r.Key.Kind, r.Key.ID, tag)
		v := mix(crc32.Checksum(buf, castagnoli))
		if sign > 0 {
			s.index += v
		} else {
			s.index -= v
		}
	}
}

// put writes s in tx.
func (s state) put(tx *bolt.Tx) error {
	s.tx = uint64(tx.ID())
	return tx.Bucket(bucketMeta).Put(keyState, s.encode())
}

func readMeta(tx *bolt.Tx) (about, state, error) {
	b := tx.Bucket(bucketMeta)
	if b == nil || tx.Bucket(bucketRecords) == nil || tx.Bucket(bucketIndex) == nil {
		return about{}, state{}, errors.New("a bucket is missing")
	}
	a, err := decodeAbout(b.Get(keyAbout))
	if err != nil {
		return a, state{}, err
	}
	s, err := decodeState(b.Get(keyState))
	return a, s, err
}
