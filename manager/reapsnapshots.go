package manager

import (
	"context"
	"errors"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// purgeSnapshots drops the records of snapshots that ended long ago.
func (rp *reaper) purgeSnapshots(ctx context.Context) {
	for sr, err := range rp.m.cfg.Store.Scan(ctx, store.Query{Kind: kindSnapshot, Tag: tagEnded}) {
		var r *snapshotRecord
		if err == nil {
			r, err = decodeSnapshot(sr)
		}
		if err != nil {
			rp.failed(err)
			return
		}
		if now().Sub(r.EndedAt) <= rp.m.cfg.Keep {
			continue
		}
		if !rp.o.DryRun {
			_, err := rp.m.commit(ctx, "purge", store.Mutation{Do: store.Delete, Key: sr.Key, Expect: r.rev})
			if err != nil && !errors.Is(err, sandboxer.Aborted) {
				rp.failed(err)
				return
			}
		}
		rp.report.Purged++
	}
}
