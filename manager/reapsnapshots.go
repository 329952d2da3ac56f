package manager

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// storedSnapshots calls f with every record of a snapshot that carries tag, until it fails.
func (rp *reaper) storedSnapshots(ctx context.Context, tag string, f func(*snapshotRecord) error) error {
	for sr, err := range rp.m.cfg.Store.Scan(ctx, store.Query{Kind: kindSnapshot, Tag: tag}) {
		if err != nil {
			return err
		}
		r, err := decodeSnapshot(sr)
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// snapshotPayers names who pays for what is stored.
func (rp *reaper) snapshotPayers(ctx context.Context, f func(extension string, p sandboxer.Payer)) error {
	return rp.storedSnapshots(ctx, tagLive, func(r *snapshotRecord) error {
		f(r.Snap.Extension, r.Snap.Payer)
		return nil
	})
}

// lostSnapshots ends the records of snapshots that a whole listing of a, and a second one behind it, do not show. For a
// snapshot there is no other look. Records are read between the two: what one had in it by then, the second must show.
func (rp *reaper) lostSnapshots(ctx context.Context, a account, snapper sandboxer.Snapshotter, listed []sandboxer.Snapshot) error {
	seen := map[string]bool{}
	for _, s := range listed {
		seen[s.ID] = true
	}
	tag := tagLive
	switch {
	case a.host.ID != "":
		tag = hostTag(a.host.ID)
	case a.payer.Tenant != "":
		tag = tenantTag(a.payer.Tenant)
	}
	missing := map[sandboxer.Payer][]string{}
	err := rp.storedSnapshots(ctx, tag, func(r *snapshotRecord) error {
		s := r.Snap
		if s.Status == sandboxer.SnapshotReady && s.Extension == a.x.id && s.Host == a.host.ID && s.Payer.Tenant == a.payer.Tenant &&
			!seen[s.ID] && rp.old(s.CreatedAt) {
			missing[s.Payer] = append(missing[s.Payer], s.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for payer, ids := range missing {
		again, foreign, err := rp.listAgain(ctx, a, snapper, payer)
		if err != nil {
			rp.incomplete(a, "second listing of snapshots", err)
			return nil
		}
		for _, id := range ids {
			if foreign || again[id] {
				continue // what another key does not see may be there
			}
			if err := rp.lostSnapshot(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// listAgain lists what is stored at a under a key of payer, and reports whether another key was used.
func (rp *reaper) listAgain(ctx context.Context, a account, snapper sandboxer.Snapshotter, payer sandboxer.Payer) (seen map[string]bool, foreign bool, err error) {
	keys := rp.m.watchKey(a.x.id, payer)
	q := rp.query(a, rp.m.owner)
	q.Secret = keys.secret
	seen = map[string]bool{}
	err = rp.m.call(ctx, sandboxer.Call{Op: sandboxer.OpListSnapshots, Extension: a.x.id, Host: a.host.ID}, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		for s, err := range snapper.ListSnapshots(ctx, q) {
			if err != nil {
				return err
			}
			seen[s.ID] = true
		}
		return nil
	})
	return seen, keys.usedForeignKey(), err
}

func (rp *reaper) lostSnapshot(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, rp.m.cfg.TeardownTimeout)
	defer cancel()
	ctx, release, err := rp.m.acquire(ctx, snapshotLock(id))
	if err != nil {
		return err
	}
	defer release()
	r, err := rp.m.loadSnapshot(ctx, id)
	if errors.Is(err, sandboxer.NotFound) || (err == nil && r.Snap.Status != sandboxer.SnapshotReady) {
		return nil // it was deleted meanwhile
	}
	if err != nil {
		return err
	}
	if !rp.o.DryRun {
		r.Reason, r.Lost = lost.sentence, true
		bill, err := rp.m.billSnapshot(ctx, r, true, true) // when it was lost nobody knows
		if err != nil {
			return err
		}
		if err := rp.m.endSnapshot(ctx, r, bill...); err != nil {
			return err
		}
		rp.m.cfg.Logger.WarnContext(ctx, "a stored snapshot is lost", "snapshot", id, "consumer", r.Snap.Consumer.ID, "extension", r.Snap.Extension, "host", r.Snap.Host)
	}
	found := Reaped{ID: id, Name: id, Extension: r.Snap.Extension, Host: r.Snap.Host, Reason: lost.sentence}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	if !slices.Contains(rp.report.Lost, found) { // a dry run sees it with each key of its tenant
		rp.report.Lost = append(rp.report.Lost, found)
	}
	return nil
}

// foundAgain puts a lost snapshot on record again that a listing shows after all: it is somebody's. Its lock is held.
func (rp *reaper) foundAgain(ctx context.Context, r *snapshotRecord) error {
	if rp.o.DryRun {
		return nil
	}
	r.Snap.Status, r.EndedAt, r.Lost, r.Reason = sandboxer.SnapshotReady, time.Time{}, false, ""
	return rp.m.saveSnapshot(ctx, "snapshot-ready", r)
}

// purgeSnapshots drops the records of snapshots that ended long ago.
func (rp *reaper) purgeSnapshots(ctx context.Context) {
	err := rp.storedSnapshots(ctx, tagEnded, func(r *snapshotRecord) error {
		if now().Sub(r.EndedAt) <= rp.m.cfg.Keep {
			return nil
		}
		if !rp.o.DryRun {
			_, err := rp.m.commit(ctx, "purge", store.Mutation{Do: store.Delete, Key: snapshotKey(r.Snap.ID), Expect: r.rev})
			if err != nil && !errors.Is(err, sandboxer.Aborted) {
				return err
			}
		}
		rp.report.Purged++
		return nil
	})
	if err != nil {
		rp.failed(err)
	}
}
