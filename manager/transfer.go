package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/sand-boxer/sandboxer"
)

// TransferSnapshot makes a copy of a snapshot on another host, under an ID of its own, so that it can be restored there.
// The digest is verified before the copy is visible. FailedPrecondition for an extension without hosts.
func (m *Manager) TransferSnapshot(ctx context.Context, id, toHost string) (sandboxer.Snapshot, error) {
	none := sandboxer.Snapshot{}
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return none, wrap("transfer snapshot", nil, err)
	}
	defer done()
	unpin, free := m.pin(id)
	if !free {
		return none, wrap("transfer snapshot", nil, beingDeleted(id))
	}
	defer unpin()
	from, err := m.loadSnapshot(ctx, id)
	if err != nil {
		return none, wrap("transfer snapshot", nil, err)
	}
	snap, err := m.transfer(ctx, from, toHost)
	return snap, wrapSnapshot("transfer snapshot", from.Snap, err)
}

func (m *Manager) transfer(ctx context.Context, from *snapshotRecord, toHost string) (sandboxer.Snapshot, error) {
	none := sandboxer.Snapshot{}
	if from.Snap.Status != sandboxer.SnapshotReady {
		return none, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is %s", from.Snap.ID, from.Snap.Status))
	}
	x, source, _, err := m.snapshotSubject(from)
	if err != nil {
		return none, err
	}
	mover, err := as[sandboxer.SnapshotTransferer](x, sandboxer.CapSnapshotTransfer)
	if err != nil {
		return none, err
	}
	if !x.hosted {
		return none, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("%s keeps its snapshots on no host", x.id))
	}
	if toHost == "" {
		return none, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("TransferSnapshot: name the host that the snapshot goes to"))
	}
	if _, err := m.places(ctx, x, sandboxer.Profile{}, toHost); err != nil {
		return none, err
	}
	to := &snapshotRecord{Snap: from.Snap}
	to.Snap.ID, to.Snap.Host, to.Snap.Status, to.Snap.CreatedAt = mintSnapshotID(), toHost, sandboxer.SnapshotImporting, now()
	to.Snap.State, to.Snap.Labels = nil, maps.Clone(from.Snap.Labels)
	ctx, release, err := m.acquire(ctx, snapshotLock(to.Snap.ID))
	if err != nil {
		return none, err
	}
	defer release()
	if err := m.saveSnapshot(ctx, "import-intent", to); err != nil {
		return none, err
	}
	_, dest, _, err := m.snapshotSubject(to)
	if err != nil {
		return none, m.dropSnapshot(ctx, to, err)
	}
	got, err := m.move(ctx, x, source, dest)
	if errors.Is(err, sandboxer.Unsupported) && sandboxer.IsRefused(err) {
		got, err = m.relay(ctx, mover, source, dest)
	}
	if err == nil && got.Digest != from.Snap.Digest {
		err = sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the copy of %s on %s has the digest %q instead of %q", from.Snap.ID, toHost, got.Digest, from.Snap.Digest))
	}
	if err == nil {
		err = m.keepSnapshot(ctx, to, got)
	}
	if err != nil {
		return none, m.dropSnapshot(ctx, to, sandboxer.Mark(sandboxer.CodeOf(err), err)) // one side's refusal is not the other's
	}
	return to.Snap, nil
}

// move lets the hosts send the snapshot to each other, where the extension knows how.
func (m *Manager) move(ctx context.Context, x *extension, from, to sandboxer.SnapshotTarget) (got sandboxer.Snapshot, err error) {
	mover, ok := sandboxer.As[sandboxer.SnapshotMover](x.ext)
	if !ok {
		return got, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("%s moves no snapshots by itself", x.id))
	}
	err = m.call(ctx, snapshotCall(sandboxer.OpImportSnapshot, to.Snapshot), func(ctx context.Context) (err error) {
		got, err = mover.MoveSnapshot(ctx, from, to)
		return err
	})
	return got, err
}

// relay passes the snapshot through this process.
func (m *Manager) relay(ctx context.Context, mover sandboxer.SnapshotTransferer, from, to sandboxer.SnapshotTarget) (got sandboxer.Snapshot, err error) {
	err = pipe(ctx,
		func(ctx context.Context, w io.Writer) error {
			return m.call(ctx, snapshotCall(sandboxer.OpExportSnapshot, from.Snapshot), func(ctx context.Context) error { return mover.ExportSnapshot(ctx, from, w) })
		},
		func(ctx context.Context, r io.Reader) error {
			return m.call(ctx, snapshotCall(sandboxer.OpImportSnapshot, to.Snapshot), func(ctx context.Context) (err error) {
				got, err = mover.ImportSnapshot(ctx, to, r)
				return err
			})
		})
	return got, err
}
