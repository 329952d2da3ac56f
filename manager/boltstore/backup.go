package boltstore

import (
	"context"
	"io"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
)

// Backup writes the store as it is at one moment to w, while it is in use: a file that Open takes. It is a copy to go back
// to, with the same ID, so that only one of the two may ever be used: what the other created since would be taken for
// strays, and removed. A slow w keeps the space of what is deleted meanwhile in use.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	to := backupWriter{ctx: ctx, w: w}
	err := s.view(func(tx *bolt.Tx) error {
		if _, err := tx.WriteTo(&to); err != nil && to.err == nil {
			return err
		}
		return to.err // bbolt keeps only its text
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), err)
	}
	return s.wrap(err)
}

// backupWriter stops writing when its context ends, and keeps its error.
type backupWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (w *backupWriter) Write(b []byte) (n int, err error) {
	if w.ctx.Err() != nil {
		w.err = context.Cause(w.ctx)
		return 0, w.err
	}
	n, w.err = w.w.Write(b)
	return n, w.err
}
