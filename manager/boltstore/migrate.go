package boltstore

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// format is the version of the file's layout that this code writes. Whoever changes the layout raises it, adds the
// migration from the version before, and keeps a file of that version in testdata for ever.
const format = 1

// migration brings a file from one version to the next. Its record sums and its state must fit the new version when it is
// done. All migrations of a file and the new version number are one transaction.
type migration func(tx *bolt.Tx) error

// migrations, by the version that they begin with.
var migrations = map[uint32]migration{}

func (e *examiner) migrate(from uint32) error {
	db, err := openBolt(e.path, e.handOver(), true)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for v := from; v < e.format; v++ {
			step, ok := e.migrations[v]
			if !ok {
				return damaged("format version %d was never released", v)
			}
			if err := step(tx); err != nil {
				return fmt.Errorf("bringing it from version %d to %d: %w", v, v+1, err)
			}
		}
		a, st, err := readMeta(tx)
		if err != nil {
			return err
		}
		a.format = e.format
		return errors.Join(st.put(tx), tx.Bucket(bucketMeta).Put(keyAbout, a.encode()))
	})
	if err == nil {
		e.log.Info("store: brought up to date", "path", e.path, "from", from, "to", e.format)
	}
	return errors.Join(err, db.Close())
}
