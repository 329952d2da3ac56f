package boltstore

import (
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

// begin begins a transaction. Where bbolt panics at that, because the root pages are gone, it keeps its locks, and whoever
// asked it for more would wait for ever.
func (s *Store) begin(writable bool) (tx *bolt.Tx, err error) {
	s.beginning.Lock()
	defer s.beginning.Unlock()
	if err := s.failed(); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			s.stuck.Store(true)
			err = s.stop(damaged("its root pages: %v", p))
		}
	}()
	return s.db.Begin(writable)
}

// view runs f in a reading transaction. What f reads lies in mapped memory and must be copied.
func (s *Store) view(f func(tx *bolt.Tx) error) (err error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return errClosed()
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer func() {
		if s.stuck.Load() {
			return
		}
		if rerr := tx.Rollback(); err == nil {
			err = rerr
		}
	}()
	defer recoverTo(&err)
	return f(tx)
}

// update runs f in a writing transaction and, if f says so, commits it. An error that IsRefused changed nothing.
func (s *Store) update(f func(tx *bolt.Tx) (bool, error)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := s.begin(true)
	if err != nil {
		return s.stop(err)
	}
	id := uint64(tx.ID())
	defer func() {
		if p := recover(); p != nil {
			if !rolledBack(tx) {
				s.stuck.Store(true)
			}
			err = s.notCommitted(id, damaged("while it was written: %v", p))
		}
	}()
	dirty, err := f(tx)
	if err != nil || !dirty {
		if rerr := tx.Rollback(); rerr != nil {
			return s.stop(rerr)
		}
		if err != nil {
			return sandboxer.Refused(sandboxer.CodeOf(err), err)
		}
		return nil
	}
	s.ahead(tx)
	if err := tx.Commit(); err != nil {
		return s.notCommitted(id, err)
	}
	if s.db.NoSync {
		if err := s.db.Sync(); err != nil {
			return s.unknown(fmt.Errorf("syncing it: %w", err))
		}
	}
	return nil
}

// rolledBack ends a transaction that panicked, so that it keeps no lock, and reports whether that could be done.
func rolledBack(tx *bolt.Tx) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return tx != nil && tx.Rollback() == nil
}

// notCommitted tells what became of the transaction id, which bbolt could not commit. Its root page comes last: as long as
// that is not written, nothing is.
func (s *Store) notCommitted(id uint64, err error) error {
	written, rerr := s.rootWritten(id)
	switch {
	case rerr != nil || written:
		return s.unknown(errors.Join(err, rerr))
	case isDiskFull(err):
		return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("the disk is full, nothing was changed; make room and try again: %w", err))
	}
	return s.stop(err)
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
	return native.Uint64(b[48:]) >= id, nil
}

// stop makes the store refuse everything from now on. What is returned says so, and that nothing was changed this time.
func (s *Store) stop(err error) error {
	if s.failed() == nil {
		stopped := sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf(
			"it stopped, because after this nobody can know what the disk holds; look after the disk, then open it again: %w", err))
		s.failure.CompareAndSwap(nil, &stopped)
	}
	return s.failed()
}

// unknown stops the store after a commit that may or may not be there.
func (s *Store) unknown(err error) error {
	_ = s.stop(err)
	return sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("the commit may or may not be there; open the store again and look: %w", err))
}

// failed returns why the store stopped, if it did.
func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}
