package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// build makes a store at path that fill has filled. It appears there whole or not at all, in the place of what was there.
func build(path string, a about, fill func(*bolt.DB) error) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // what an earlier try left
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	o := boltOptions()
	o.InitialMmapSize = 0
	db, err := bolt.Open(tmp, 0o600, o)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRecords, bucketIndex} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyAbout, a.encode())
	})
	if err == nil {
		err = fill(db)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("putting the new file in place: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// create makes an empty store at path.
func (e *examiner) create(a about) error {
	return build(e.path, a, func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error {
			return state{boot: e.boot, sealed: true}.put(tx)
		})
	})
}
