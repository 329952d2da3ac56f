package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
)

// recoverTo turns a panic into an error: bbolt panics where a page is not what it should be, and the system raises a fault
// where the mapped file cannot be read. The caller has called debug.SetPanicOnFault where it reads mapped memory.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = errors.Join(*err, damaged("while it was in use: %v", p))
	}
}

// view runs f in a reading transaction. What f reads lies in mapped memory and must be copied.
func (s *Store) view(f func(tx *bolt.Tx) error) (err error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return errClosed()
	}
	if err := s.failed(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverTo(&err)
	return s.db.View(f)
}

// update runs f in a writing transaction and, if f says so, commits it. An error that IsRefused changed nothing; after any
// other the store has failed.
func (s *Store) update(f func(tx *bolt.Tx) (bool, error)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s.stuck = true
			err = s.fail(sandboxer.Unknown, damaged("while it was written: %v", p))
		}
	}()
	tx, err := s.db.Begin(true)
	if err != nil {
		return s.fail(sandboxer.Unavailable, err)
	}
	id := uint64(tx.ID())
	dirty, err := f(tx)
	if err != nil || !dirty {
		if rerr := tx.Rollback(); rerr != nil {
			return s.fail(sandboxer.Unavailable, rerr)
		}
		if err != nil {
			return sandboxer.Refused(sandboxer.CodeOf(err), err)
		}
		return nil
	}
	if err := tx.Commit(); err != nil {
		return s.notCommitted(id, err)
	}
	if s.db.NoSync {
		if err := s.db.Sync(); err != nil {
			return s.fail(sandboxer.Unknown, fmt.Errorf("syncing it: %w", err))
		}
	}
	return nil
}

// notCommitted tells what became of the transaction id, which bbolt could not commit. Its root page comes last: as long as
// that is not written, nothing is.
func (s *Store) notCommitted(id uint64, err error) error {
	written, rerr := s.rootWritten(id)
	switch {
	case rerr != nil || written:
		return s.fail(sandboxer.Unknown, errors.Join(err, rerr))
	case isDiskFull(err):
		return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("the disk is full, nothing was changed; make room and try again: %w", err))
	}
	failed := s.fail(sandboxer.Unavailable, err)
	return sandboxer.Refused(sandboxer.CodeOf(failed), failed)
}

// rootWritten reports whether the root page of transaction id can be seen in the file.
func (s *Store) rootWritten(id uint64) (bool, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, metaLen)
	if _, err := f.ReadAt(b, int64(id%2)*int64(s.db.Info().PageSize)+pageHeader); err != nil {
		return false, err
	}
	return binary.NativeEndian.Uint64(b[48:]) >= id, nil
}

// fail makes the store refuse everything from now on and returns the error of the call that found out.
func (s *Store) fail(code sandboxer.Code, err error) error {
	later := sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf(
		"it stopped when the disk failed, because nobody can know what the disk holds now; look after the disk, then open it again: %w", err))
	s.failure.CompareAndSwap(nil, &later)
	if code == sandboxer.Unknown {
		return sandboxer.Mark(code, fmt.Errorf("the commit may or may not be there; open the store again and look: %w", err))
	}
	return sandboxer.Mark(code, err)
}

func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}
