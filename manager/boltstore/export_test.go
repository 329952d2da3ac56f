package boltstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"

	bolt "go.etcd.io/bbolt"
)

// Format is the version that this code writes.
const Format = format

// OpenIn opens a store as if in another run of the operating system.
func OpenIn(ctx context.Context, path string, boot uint64, l *slog.Logger) (*Store, error) {
	return open(ctx, path, options{logger: l, boot: boot, format: format, migrations: migrations})
}

// OpenAs opens a store as a program would that writes another format.
func OpenAs(ctx context.Context, path string, version uint32, steps map[uint32]func(*bolt.Tx) error, l *slog.Logger) (*Store, error) {
	m := make(map[uint32]migration)
	for v, step := range steps {
		m[v] = step
	}
	return open(ctx, path, options{logger: l, boot: bootID(), format: version, migrations: m})
}

// RewriteBodies is a migration that changes every body.
func RewriteBodies(f func([]byte) []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		meta, records := tx.Bucket(bucketMeta), tx.Bucket(bucketRecords)
		st, err := decodeState(meta.Get(keyState))
		if err != nil {
			return err
		}
		changed := make(map[string][]byte)
		err = records.ForEach(func(key, value []byte) error {
			k, err := parseRecordKey(key)
			if err != nil {
				return err
			}
			r, err := decodeRecord(k, key, value)
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			st.addRecord(binary.BigEndian.Uint32(value), -1)
			r.Body = f(r.Body)
			value = encodeRecord(nil, key, &r)
			st.addRecord(binary.BigEndian.Uint32(value), 1)
			changed[string(key)] = value
			return nil
		})
		for key, value := range changed {
			if err == nil {
				err = records.Put([]byte(key), value)
			}
		}
		if err != nil {
			return err
		}
		return meta.Put(keyState, st.encode())
	}
}
