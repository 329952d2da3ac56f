package boltstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
)

// create makes an empty store at path. It appears there whole or not at all.
func create(path string, a about) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Put(keyAbout, a.encode()), meta.Put(keyState, state{}.encode()))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func openBolt(path string) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, boltOptions())
}

// classify gives an error of the file system its code.
func classify(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return sandboxer.Refused(sandboxer.PermissionDenied, err)
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Refused(sandboxer.NotFound, err)
	case isDiskFull(err):
		return sandboxer.Refused(sandboxer.Unavailable, err)
	}
	return sandboxer.Mark(sandboxer.Unavailable, err)
}
