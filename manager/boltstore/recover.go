package boltstore

import (
	"context"
	"errors"
	"log/slog"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// examiner brings a store file into a state that bbolt can be trusted with, or says why it cannot.
type examiner struct {
	path       string
	log        *slog.Logger
	boot       uint64
	format     uint32
	migrations map[uint32]migration

	file *os.File // the one at path while it is locked, or nil
}

// A file is examined again after each repair. Each kind is needed once at most.
const maxRounds = 5

// run leaves the file locked, or returns an error.
func (e *examiner) run(ctx context.Context) error {
	for range maxRounds {
		if err := e.hold(ctx); err != nil {
			return err
		}
		repair, err := e.round(ctx)
		if err == nil && repair != nil {
			err = repair()
		}
		if err != nil {
			return explain(ctx, err)
		}
		if repair == nil {
			return nil
		}
	}
	return damaged("its repair did not help")
}

// explain gives what an examination found its code, and says what to do.
func explain(ctx context.Context, err error) error {
	var d *damage
	var newer errNewer
	switch {
	case ctx.Err() != nil:
		return sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), err)
	case errors.As(err, &d):
		return damaged("%w", err)
	case errors.As(err, &newer), errors.Is(err, errNoStore):
		return sandboxer.Refused(sandboxer.FailedPrecondition, err)
	case sandboxer.CodeOf(err) != sandboxer.Unknown:
		return err
	}
	return classify(err)
}

// round examines the file and does, or returns to be done, at most one repair, after which the file has to be examined again.
func (e *examiner) round(ctx context.Context) (repair func() error, err error) {
	f := e.file
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	readAhead(f, size)
	roots, err := readRoots(f, size)
	if err != nil {
		return nil, err
	}
	for i := range roots {
		if roots[i].repaired {
			e.log.Warn("store: a flipped bit in a root page was repaired", "path", e.path, "page", i)
			return done, errors.Join(roots[i].write(f), f.Sync())
		}
	}
	slot, err := newer(roots)
	if err != nil {
		return nil, err
	}
	last, before := &roots[slot], &roots[1-slot]
	c, err := check(ctx, f, size, last, e.format)
	var d *damage
	switch {
	case errors.As(err, &d):
		return done, e.undo(ctx, f, size, last, before, d)
	case err != nil:
		return nil, err
	case c.about.format < e.format:
		return func() error { return e.migrate(c.about.format) }, nil
	case c.index != nil:
		e.log.Warn("store: the tag index was damaged and is made anew", "path", e.path, "damage", c.index)
		return func() error { return e.rewrite(ctx, last, c) }, nil
	case !c.state.sealed && (c.state.boot == e.boot || e.boot == 0):
		return nil, e.resync(ctx, f, size, last, before, c)
	}
	return nil, nil
}

// done is a repair that was done already.
func done() error { return nil }

// undo goes back to the commit before the last, if the last may be one that the system took down with it before it was
// synced, and so before anybody was told that it is done. Damage to what it wrote that came later looks the same.
func (e *examiner) undo(ctx context.Context, f *os.File, size int64, last, before *root, d *damage) error {
	c, err := check(ctx, f, size, before, e.format)
	if err != nil || c.index != nil || c.about.format != e.format || c.state.boot == 0 || e.boot == 0 || c.state.boot == e.boot {
		return d
	}
	e.log.Warn("store: the last commit is not whole and is undone: it was under way when the system went down, or the file was damaged since, and then a commit that had returned is lost",
		"path", e.path, "rev", c.state.rev, "damage", d)
	older := *before
	older.slot = last.slot
	older.setTx(before.tx - 1)
	return errors.Join(older.write(f), f.Sync())
}

// resync writes again what the last commit wrote. The process that made it ended without closing the store, perhaps because
// the disk failed to sync: then what can be read may be in the system's memory only, and it takes it for written.
func (e *examiner) resync(ctx context.Context, f *os.File, size int64, last, before *root, c *content) error {
	old, err := pagesUnder(ctx, f, size, before)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		old = make(bitmap, len(c.used)) // all pages count as new
	}
	buf := make([]byte, last.pageSize)
	for id := uint64(2); id < min(last.end, uint64(size/last.pageSize)); id++ {
		if !c.used.has(id) || old.has(id) {
			continue
		}
		off := int64(id) * last.pageSize
		if _, err := f.ReadAt(buf, off); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf, off); err != nil {
			return err
		}
	}
	return errors.Join(last.write(f), f.Sync())
}

// rewrite copies all records into a new file, with a new index, and puts it in the place of the old one.
func (e *examiner) rewrite(ctx context.Context, m *root, c *content) error {
	defer e.release()
	return build(e.path, c.about, func(db *bolt.DB) (err error) {
		info, err := e.file.Stat()
		if err != nil {
			return err
		}
		cp := copier{db: db, state: state{boot: e.boot, sealed: true}}
		if err := eachRecord(ctx, e.file, info.Size(), m, cp.add); err != nil {
			return err
		}
		cp.state.rev = c.state.rev
		if !renamesOpen {
			e.release()
		}
		return cp.flush()
	})
}

// copier writes records in transactions of a bearable size.
type copier struct {
	db    *bolt.DB
	state state
	batch []*pending
}

func (c *copier) add(r *store.Record) error {
	c.batch = append(c.batch, &pending{key: recordKey(nil, r.Key), before: store.Record{Key: r.Key}, now: *r})
	if len(c.batch) < maxFold {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	err := c.db.Update(func(tx *bolt.Tx) error {
		w := newFold()
		w.begin(tx, c.state)
		w.dirty = c.batch
		err := w.flush()
		c.state = w.state
		return err
	})
	c.batch = c.batch[:0]
	return err
}
