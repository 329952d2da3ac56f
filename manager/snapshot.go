package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Snapshot keeps what is in the sandbox, which runs on. SnapshotRequest.ID is an idempotency key as a sandbox's is: the
// snapshot of that ID is returned if it was taken of this sandbox, and AlreadyExists if not. On an error nothing is left,
// or its removal goes on in the background.
func (s *Sandbox) Snapshot(ctx context.Context, req sandboxer.SnapshotRequest) (snap sandboxer.Snapshot, err error) {
	err = s.exclusively(ctx, "snapshot", func(ctx context.Context, r *record) error {
		on, err := s.m.subject(r, sandboxer.StateReady, sandboxer.StatePaused)
		if err != nil {
			return err
		}
		x, err := as[sandboxer.Snapshotter](on.x, sandboxer.CapSnapshot)
		if err != nil {
			return err
		}
		if err := checkSnapshotRequest(&req); err != nil {
			return err
		}
		_, release, err := s.m.acquire(ctx, snapshotLock(req.ID))
		if err != nil {
			return err
		}
		defer release()
		old, err := s.m.recallSnapshot(ctx, req.ID)
		var over standing
		switch {
		case err == nil && (old.Abandoned || old.Lost): // the extension could return it as the new one
			return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s has ended, and something of it may still exist: choose another ID (%s)", req.ID, old.Reason))
		case err == nil && old.ended():
			over = old.standing
		case err == nil && old.Snap.Source != r.ID:
			return sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the snapshot ID %s belongs to a snapshot of %s", req.ID, old.Snap.Source))
		case err == nil && old.Snap.Status == sandboxer.SnapshotReady:
			snap = old.Snap
			return nil
		case err == nil:
			wait := max(time.Second, time.Until(s.m.settled(old)))
			return &sandboxer.Error{Code: sandboxer.Aborted, NothingDone: true, RetryAfter: wait, Err: fmt.Errorf("snapshot %s is %s", req.ID, old.Snap.Status)}
		case !errors.Is(err, sandboxer.NotFound):
			return err
		}
		snap, err = s.m.takeSnapshot(ctx, on, x, req, over)
		return err
	})
	return snap, err
}

func checkSnapshotRequest(req *sandboxer.SnapshotRequest) error {
	if req.ID == "" {
		req.ID = mintSnapshotID()
	}
	if err := sandboxer.ID(req.ID).Validate(); err != nil {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("SnapshotRequest.ID: %w", err))
	}
	if len(req.Name) > 256 {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("SnapshotRequest.Name has %d bytes; at most 256 are kept", len(req.Name)))
	}
	if !req.ExpiresAt.IsZero() && req.ExpiresAt.Before(now()) {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("SnapshotRequest.ExpiresAt has passed: %s", req.ExpiresAt.Format(time.RFC3339)))
	}
	return sandboxer.ValidateLabels(req.Labels)
}

func mintSnapshotID() string { return "snap-" + string(sandboxer.NewID()[len("sbx-"):]) }

// takeSnapshot stores the intent over what stands there, takes the snapshot and stores the result.
func (m *Manager) takeSnapshot(ctx context.Context, on *subject, x sandboxer.Snapshotter, req sandboxer.SnapshotRequest, over standing) (sandboxer.Snapshot, error) {
	labels := maps.Clone(req.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[sandboxer.LabelID] = string(on.r.ID)
	m.stamp(labels, on.r.Asked.Consumer)
	req.Labels = maps.Clone(labels) // the extension's own
	r := &snapshotRecord{standing: over, Snap: sandboxer.Snapshot{
		ID: req.ID, Name: req.Name, Extension: on.a.Extension, Host: on.a.Host, Source: on.r.ID,
		Status: sandboxer.SnapshotCreating, Consumer: on.r.Asked.Consumer, Payer: on.a.Payer, Labels: labels,
		CreatedAt: now(), ExpiresAt: req.ExpiresAt,
	}}
	if err := m.saveSnapshot(ctx, "snapshot-intent", r); err != nil {
		return sandboxer.Snapshot{}, sandboxer.Refused(codeOr(err, sandboxer.Unavailable), fmt.Errorf("no snapshot was taken, because the intent could not be stored: %w", err))
	}
	var got sandboxer.Snapshot
	err := m.call(ctx, callOf(sandboxer.OpSnapshot, on.r, on.a), func(ctx context.Context) (err error) {
		got, err = x.Snapshot(ctx, on.target, req)
		return err
	})
	switch {
	case err == nil:
		err = m.keepSnapshot(ctx, r, got)
	case got.ID != "":
		err = sandboxer.Mark(sandboxer.CodeOf(err), err) // a snapshot beside it: no refusal, whoever calls it one
	}
	if err != nil {
		return sandboxer.Snapshot{}, m.dropSnapshot(ctx, r, err)
	}
	return r.Snap, nil
}

// keepSnapshot stores what an adapter made.
func (m *Manager) keepSnapshot(ctx context.Context, r *snapshotRecord, got sandboxer.Snapshot) error {
	r.made = true
	if got.ID != r.Snap.ID {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s returned a snapshot called %q instead of %q", r.Snap.Extension, got.ID, r.Snap.ID))
	}
	if size := len(got.State) + len(got.Kind) + len(got.Digest); size > maxState {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s returned a snapshot whose state has %d bytes; at most %d are kept", r.Snap.Extension, size, maxState))
	}
	before := r.Snap
	r.Snap.Status, r.Snap.Kind, r.Snap.SizeBytes = sandboxer.SnapshotReady, got.Kind, got.SizeBytes
	r.Snap.Digest, r.Snap.State = got.Digest, got.State
	if !got.ExpiresAt.IsZero() && (r.Snap.ExpiresAt.IsZero() || got.ExpiresAt.Before(r.Snap.ExpiresAt)) {
		r.Snap.ExpiresAt = got.ExpiresAt.UTC() // the backend keeps it no longer
	}
	if err := m.saveSnapshot(ctx, "snapshot-ready", r); err != nil {
		r.Snap = before
		// No refusal, whatever the store says: the snapshot is there.
		return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("the snapshot was taken, but that could not be stored: %w", err))
	}
	return nil
}

// dropSnapshot makes sure that nothing is left of a snapshot that was not finished.
func (m *Manager) dropSnapshot(ctx context.Context, r *snapshotRecord, cause error) error {
	ctx, cancel := m.detach(ctx)
	defer cancel()
	var err error
	if sandboxer.IsRefused(cause) {
		err = m.forget(ctx, r)
	} else {
		err = m.removeSnapshot(ctx, r)
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("something may be left of snapshot %s; its removal is tried again: %w", r.Snap.ID, err))
	}
	return cause
}

// removeSnapshot deletes a snapshot at its backend, then ends its record. On an error the record stays, and another try is
// scheduled. What was not finished may show up after its deletion: that is no error, but its record stays, and it is deleted again
// until it has had the time.
// Such an error is no refusal, whoever refused: what goes on in the background is not nothing.
func (m *Manager) removeSnapshot(ctx context.Context, r *snapshotRecord) error {
	_, again := m.doomOf(snapshotLock(r.Snap.ID))
	if again = again || r.Snap.Status == sandboxer.SnapshotDeleting; r.Snap.Status != sandboxer.SnapshotDeleting {
		if r.Snap.Status != sandboxer.SnapshotReady && !r.made {
			r.Since = now() // no later than this was the backend asked for it
		}
		r.Snap.Status = sandboxer.SnapshotDeleting
		if err := m.saveSnapshot(ctx, "snapshot-deleting", r); err != nil {
			if sandboxer.CodeOf(err) == sandboxer.Aborted && len(r.doubts) == 0 {
				return err
			}
			// What stands in the store is looked at again; deleting can only stop spending.
			m.rememberDoom(snapshotLock(r.Snap.ID), doom{})
			m.cfg.Logger.ErrorContext(ctx, "the store does not take that a snapshot is deleted", "snapshot", r.Snap.ID, "consumer", r.Snap.Consumer.ID, "error", err)
		}
	}
	err := m.deleteAtBackend(ctx, r)
	until := m.settled(r)
	early := err == nil && now().Before(until)
	var bill []store.Mutation
	if err == nil && !early {
		var billErr error
		bill, billErr = m.billSnapshot(ctx, r, true, again) // an earlier try may have succeeded, and its reply be lost
		switch {
		case ctx.Err() != nil:
			err = billErr
		case billErr != nil:
			m.cfg.Logger.ErrorContext(ctx, "a snapshot is gone, and what it cost cannot be recorded", "snapshot", r.Snap.ID, "consumer", r.Snap.Consumer.ID, "error", billErr)
		}
	}
	if err == nil && !early {
		if err := m.endSnapshot(ctx, r, bill...); err != nil {
			return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("nothing is left of it, but that could not be stored, and is tried again: %w", err))
		}
		return nil
	}
	r.Tries++
	r.NextTry = now().Add(max(retryBase+jittered(retryBase<<min(r.Tries, 20), retryMost), putOff(err)))
	r.Reason = clip(fmt.Sprintf("deletion failed %d times, and is tried again: %v", r.Tries, err), maxReason)
	if early {
		r.Reason = "nothing of it is there, but the reply to the call that makes it was lost: should it show up until " + until.Format(time.RFC3339) + ", it is deleted"
		if r.NextTry.After(until) {
			r.NextTry = until
		}
		return m.saveSnapshot(ctx, "snapshot-orphan", r)
	}
	return sandboxer.Mark(sandboxer.CodeOf(err), errors.Join(err, m.saveSnapshot(ctx, "snapshot-orphan", r)))
}

// deleteAtBackend calls the extension and believes it only where it cannot list.
func (m *Manager) deleteAtBackend(ctx context.Context, r *snapshotRecord) error {
	x, target, keys, err := m.snapshotSubject(r)
	if err != nil {
		return err
	}
	snapper, err := as[sandboxer.Snapshotter](x, sandboxer.CapSnapshot)
	if err != nil {
		return err
	}
	seen := false
	if keys.first != "" && r.Snap.Payer.Key != "" {
		// The listing comes before the key is judged: one that its backend refuses is fetched again in the middle of a call.
		there, err := m.listsSnapshot(ctx, snapper, r, keys)
		if key, foreign := keys.foreignKey(); err == nil && there && foreign {
			seen, r.SeenBy = true, key
		}
	}
	err = m.call(ctx, snapshotCall(sandboxer.OpDeleteSnapshot, r.Snap), func(ctx context.Context) error { return snapper.DeleteSnapshot(ctx, target) })
	if err != nil {
		return err
	}
	if err := m.verifyDeleted(ctx, x, snapper, r, keys); err != nil {
		return err
	}
	if key, foreign := keys.foreignKey(); foreign && (key != r.SeenBy || (key == "" && !seen)) {
		return sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("the key in use now is not %q that it belongs to, so that it may still exist", r.Snap.Payer.Key))
	}
	return nil
}

// verifyDeleted looks whether a deleted snapshot is still listed.
func (m *Manager) verifyDeleted(ctx context.Context, x *extension, snapper sandboxer.Snapshotter, r *snapshotRecord, keys *keyWatch) error {
	for tries := 0; ; tries++ {
		there, err := m.listsSnapshot(ctx, snapper, r, keys)
		switch late := errors.Is(err, sandboxer.DeadlineExceeded); {
		case err == nil && !there, errors.Is(err, sandboxer.Unsupported):
			return nil
		case err != nil && (late || tries >= verifyTries): // no refusal, whatever the listing's is
			return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("it was deleted, but whether it is gone cannot be seen: %w", err))
		case tries >= verifyTries:
			return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s says that it was deleted, and still lists it", x.id))
		}
		if err := sleep(ctx, jittered(50*time.Millisecond<<tries, time.Second)); err != nil {
			return err
		}
	}
}

// listsSnapshot reports whether a listing shows a snapshot.
func (m *Manager) listsSnapshot(ctx context.Context, snapper sandboxer.Snapshotter, r *snapshotRecord, keys *keyWatch) (there bool, err error) {
	h, err := m.host(r.Snap.Host)
	if err != nil {
		return false, err
	}
	owner := r.Snap.Labels[sandboxer.LabelOwner] // of a former store, perhaps
	if owner == "" {
		owner = m.owner
	}
	q := sandboxer.ListQuery{Host: own.Host(h), Consumer: own.Consumer(r.Snap.Consumer), Secret: keys.secret, Labels: map[string]string{sandboxer.LabelOwner: owner}}
	list := func(ctx context.Context) error {
		for s, err := range snapper.ListSnapshots(ctx, q) {
			if err != nil {
				return err
			}
			by := s.Labels[sandboxer.LabelOwner]
			if there = s.ID == r.Snap.ID && (by == owner || by == ""); there {
				break
			}
		}
		return nil
	}
	err = m.call(ctx, snapshotCall(sandboxer.OpListSnapshots, r.Snap), func(ctx context.Context) error {
		return within(ctx, string(sandboxer.OpListSnapshots), m.cfg.TeardownTimeout, "TeardownTimeout", list)
	})
	return there, err
}

// DeleteSnapshot deletes a snapshot; when it returns nil no listing shows it any more, where its extension can list.
// FailedPrecondition while it is being restored or sent; NotFound where there is none.
// After an error that is no refusal (see [sandboxer.IsRefused]) its removal is tried again in the background until it succeeds;
// so is that of one that a lost reply may make yet, for Config.ReapGrace.
func (m *Manager) DeleteSnapshot(ctx context.Context, id string) error {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return wrap("delete snapshot", nil, err)
	}
	defer done()
	ctx, release, err := m.acquire(ctx, snapshotLock(id))
	if err != nil {
		return wrap("delete snapshot", nil, err)
	}
	defer release()
	r, err := m.loadSnapshot(ctx, id)
	if err != nil {
		return wrap("delete snapshot", nil, sandboxer.Refused(sandboxer.CodeOf(err), err)) // nothing is remembered of the wish
	}
	unclaim, free := m.claim(id)
	if !free {
		return wrapSnapshot("delete snapshot", r.Snap, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is being restored or sent; try again when that is over", id)))
	}
	defer unclaim()
	return wrapSnapshot("delete snapshot", r.Snap, m.removeSnapshot(ctx, r))
}

// AbandonSnapshot ends the record of a snapshot that cannot be deleted, on an operator's word, as [Manager.Abandon] does that of
// a sandbox. Only for one that is being deleted; FailedPrecondition otherwise. What may still exist is not looked after any
// more; the record is kept for Config.Keep with the reason, and no other snapshot may take its ID meanwhile. What it has cost
// until then is in its last meter record, as an estimate; what it costs from then on is in none, unless the reaper finds and
// deletes it later.
func (m *Manager) AbandonSnapshot(ctx context.Context, id, reason string) error {
	const op = "abandon snapshot"
	if reason == "" {
		return wrap(op, nil, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("say why: the record keeps it")))
	}
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return wrap(op, nil, err)
	}
	defer done()
	ctx, release, err := m.acquire(ctx, snapshotLock(id))
	if err != nil {
		return wrap(op, nil, err)
	}
	defer release()
	r, err := m.loadSnapshot(ctx, id)
	if err != nil {
		return wrap(op, nil, err)
	}
	if r.Snap.Status != sandboxer.SnapshotDeleting {
		return wrapSnapshot(op, r.Snap, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the snapshot is %s; only one whose deletion fails can be abandoned: call DeleteSnapshot first", r.Snap.Status)))
	}
	r.Reason, r.Abandoned = clip(fmt.Sprintf("abandoned after %d failed deletions (%s): %s", r.Tries, r.Reason, reason), maxReason), true
	bill, err := m.billSnapshot(ctx, r, true, true)
	if err != nil {
		return wrapSnapshot(op, r.Snap, err)
	}
	return wrapSnapshot(op, r.Snap, m.endSnapshot(ctx, r, bill...))
}

// snapshotDue handles a snapshot whose time is over or whose removal is to be tried again.
func (m *Manager) snapshotDue(id string) {
	ctx, release, err := m.acquire(m.ctx, snapshotLock(id))
	if err != nil {
		return
	}
	defer release()
	r, err := m.loadSnapshot(ctx, id)
	if err != nil {
		if errors.Is(err, sandboxer.NotFound) {
			m.forgetDoom(snapshotLock(id))
		}
		m.unreadable(jobSnapshot, id, err)
		return
	}
	_, doomed := m.doomOf(snapshotLock(id))
	expired := doomed || !r.Snap.ExpiresAt.IsZero() && !now().Before(r.Snap.ExpiresAt)
	retry := r.Snap.Status != sandboxer.SnapshotReady && !now().Before(r.NextTry) // nobody else works on it
	if !retry && (r.Snap.Status != sandboxer.SnapshotReady || !expired) {
		if due := m.meterDue(r); !due.IsZero() && !now().Before(due) {
			if err := m.meterSnapshot(ctx, r); err != nil {
				m.cfg.Logger.Warn("a stored snapshot could not be accounted for; it is tried again", "snapshot", id, "consumer", r.Snap.Consumer.ID, "error", err)
			}
		}
		return
	}
	unclaim, free := m.claim(id)
	if !free {
		m.sched.add(now().Add(retryBase), jobSnapshot, id)
		return
	}
	defer unclaim()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TeardownTimeout)
	defer cancel()
	if err := m.removeSnapshot(ctx, r); err != nil {
		m.lookLater(jobSnapshot, id) // where the next try is on record, that comes first or finds nothing to do
		m.cfg.Logger.Warn("a snapshot could not be deleted; it is tried again", "snapshot", id, "consumer", r.Snap.Consumer.ID, "tries", r.Tries, "next", r.NextTry, "error", err)
	}
}
