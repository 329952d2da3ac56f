package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// snapshotRecord is everything that is known of one snapshot. Only the holder of its lock changes it.
type snapshotRecord struct {
	standing
	made bool // the call that makes it has succeeded: nothing shows up later

	V       int                `json:"v"`
	Snap    sandboxer.Snapshot `json:"snap"`
	Reason  string             `json:"reason,omitempty"`
	Tries   int                `json:"tries,omitempty"`
	NextTry time.Time          `json:"next_try,omitzero"`
	Metered time.Time          `json:"metered,omitzero"` // up to when it is accounted for
	Bills   int                `json:"bills,omitempty"`  // meter records up to then
	Since   time.Time          `json:"since,omitzero"`   // a call begun no later than this, whose outcome is not known, may still make it
	// SeenBy is the version of another key than the payer's that saw it, as one does that took over within one account:
	// what that key does not show any more is gone.
	SeenBy string `json:"seen_by,omitempty"`
	// EndedAt is when nothing was left of it. What is billed is kept for Config.Keep, for one that turns up again.
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Abandoned: an operator ended it, and Reason says why; whatever may be left. Its ID stays taken.
	Abandoned bool `json:"abandoned,omitempty"`
	// Lost: no listing shows it. Should one do so later, it is on record again.
	Lost bool `json:"lost,omitempty"`
}

// view is what the host application is shown.
func (r *snapshotRecord) view() sandboxer.Snapshot {
	s := r.Snap
	s.Reason, s.Tries, s.NextTry = r.Reason, r.Tries, r.NextTry
	return s
}

// snapshotGone is the status of a record that has ended. Nobody is shown it.
const snapshotGone = "gone"

func (r *snapshotRecord) ended() bool { return !r.EndedAt.IsZero() }

// is reports whether s, which a backend lists, is the snapshot of r: an ID may be used again once its snapshot is gone.
func (r *snapshotRecord) is(s sandboxer.Snapshot) bool {
	return r.Snap.Extension == s.Extension && r.Snap.Host == s.Host && r.Snap.Payer.Tenant == s.Payer.Tenant &&
		r.Snap.Labels[sandboxer.LabelOwner] == s.Labels[sandboxer.LabelOwner] &&
		!s.CreatedAt.Before(r.Snap.CreatedAt.Add(-clockSkew)) && (!r.ended() || !s.CreatedAt.After(r.EndedAt.Add(clockSkew)))
}

func snapshotKey(id string) store.Key { return store.Key{Kind: kindSnapshot, ID: id} }

func snapshotLock(id string) string { return "snapshot/" + id }

func decodeSnapshot(sr store.Record) (*snapshotRecord, error) {
	r := &snapshotRecord{}
	if err := json.Unmarshal(sr.Body, r); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of snapshot %s does not decode: %w", sr.Key.ID, err))
	}
	if r.V > recordVersion {
		return nil, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("the record of snapshot %s is of format %d, written by a newer release: upgrade sandboxer", r.Snap.ID, r.V))
	}
	r.rev = sr.Rev
	return r, nil
}

// loadSnapshot reads the record of a snapshot that has not ended; NotFound where there is none.
func (m *Manager) loadSnapshot(ctx context.Context, id string) (*snapshotRecord, error) {
	r, err := m.recallSnapshot(ctx, id)
	if err == nil && r.ended() {
		return nil, noSnapshot(id)
	}
	return r, err
}

func noSnapshot(id string) error {
	return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("no snapshot is called %s", id))
}

// recallSnapshot is loadSnapshot for one that may have ended.
func (m *Manager) recallSnapshot(ctx context.Context, id string) (*snapshotRecord, error) {
	if err := sandboxer.ID(id).Validate(); err != nil {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("snapshot ID: %w", err))
	}
	got, err := m.cfg.Store.Get(ctx, snapshotKey(id))
	if err != nil {
		return nil, err
	}
	if got[0].Rev == 0 {
		return nil, noSnapshot(id)
	}
	return decodeSnapshot(got[0])
}

func (m *Manager) saveSnapshot(ctx context.Context, point string, r *snapshotRecord, extra ...store.Mutation) error {
	r.V = recordVersion
	body, err := json.Marshal(r)
	if err != nil {
		return sandboxer.Mark(sandboxer.Internal, err)
	}
	tags := []string{tagLive}
	if r.ended() {
		tags[0] = tagEnded
	}
	if t := r.Snap.Consumer.Tenant; t != "" {
		tags = append(tags, tenantTag(t))
	}
	if r.Snap.Host != "" {
		tags = append(tags, hostTag(r.Snap.Host))
	}
	if err := m.put(ctx, point, &r.standing, store.Mutation{Do: store.Put, Key: snapshotKey(r.Snap.ID), Tags: tags, Body: body}, extra...); err != nil {
		m.lookLater(jobSnapshot, r.Snap.ID)
		return err
	}
	if r.Snap.Status != sandboxer.SnapshotReady {
		m.forgetDoom(snapshotLock(r.Snap.ID))
	}
	m.armSnapshot(r)
	return nil
}

// armSnapshot schedules what a stored record waits for first.
func (m *Manager) armSnapshot(r *snapshotRecord) {
	if r.ended() {
		return
	}
	if !r.NextTry.IsZero() {
		m.retries.add(r.NextTry, jobSnapshot, r.Snap.ID)
		return
	}
	if r.Snap.Status != sandboxer.SnapshotReady {
		return
	}
	next := r.Snap.ExpiresAt
	if due := m.meterDue(r); !due.IsZero() && (next.IsZero() || due.Before(next)) {
		next = due
	}
	if !next.IsZero() {
		m.sched.add(next, jobSnapshot, r.Snap.ID)
	}
}

// settled is when a call whose outcome is not known has made its snapshot, or never will; zero where there is none.
func (m *Manager) settled(r *snapshotRecord) time.Time {
	if r.Since.IsZero() {
		return time.Time{}
	}
	return r.Since.Add(m.cfg.ReapGrace)
}

// endSnapshot ends the record of a snapshot of which nothing is left, together with its last meter record.
func (m *Manager) endSnapshot(ctx context.Context, r *snapshotRecord, bill ...store.Mutation) error {
	if r.Bills == 0 && !r.Abandoned && !r.Lost {
		return m.forget(ctx, r) // nobody will ask what it cost
	}
	r.Snap.Status, r.EndedAt, r.NextTry = snapshotGone, now(), time.Time{}
	return m.saveSnapshot(ctx, "snapshot-gone", r, bill...)
}

// forget drops the record of a snapshot that was never made, or of which nothing is to be remembered.
func (m *Manager) forget(ctx context.Context, r *snapshotRecord) error {
	_, err := m.commit(ctx, "snapshot-gone", store.Mutation{Do: store.Delete, Key: snapshotKey(r.Snap.ID), Expect: r.rev})
	if err != nil {
		m.lookLater(jobSnapshot, r.Snap.ID)
		return err
	}
	m.forgetDoom(snapshotLock(r.Snap.ID))
	return nil
}

// Snapshots yields the recorded snapshots that f matches, those being made or deleted among them, in the order of their
// IDs. Of those whose deletion fails Reason says why, Tries how often, and NextTry when the next try comes. Profile and States of f are not looked at; IDs are those of the sandboxes that they were taken of.
func (m *Manager) Snapshots(ctx context.Context, f Filter) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		q := store.Query{Kind: kindSnapshot, Tag: tagLive}
		switch {
		case f.Host != "":
			q.Tag = hostTag(f.Host)
		case f.Tenant != "":
			q.Tag = tenantTag(f.Tenant)
		}
		for sr, err := range m.cfg.Store.Scan(ctx, q) {
			var r *snapshotRecord
			if err == nil {
				r, err = decodeSnapshot(sr)
			}
			if err != nil {
				yield(sandboxer.Snapshot{}, wrap("list snapshots", nil, err))
				return
			}
			if !r.ended() && f.matchesSnapshot(r.Snap) && !yield(r.view(), nil) {
				return
			}
		}
	}
}

// restoring finds the snapshot that q is to be restored from, and keeps it from being deleted until release is called.
func (m *Manager) restoring(ctx context.Context, q asked) (r *snapshotRecord, release func(), err error) {
	if q.FromSnapshot == "" {
		return nil, func() {}, nil
	}
	release, free := m.pin(q.FromSnapshot)
	if !free {
		return nil, func() {}, beingDeleted(q.FromSnapshot)
	}
	r, err = m.loadSnapshot(ctx, q.FromSnapshot)
	if err == nil && r.Snap.Consumer.Tenant != q.Consumer.Tenant {
		err = sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("tenant %q has no snapshot called %s", q.Consumer.Tenant, q.FromSnapshot))
	}
	if err == nil && r.Snap.Status != sandboxer.SnapshotReady {
		err = sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is %s", r.Snap.ID, r.Snap.Status))
	}
	if err != nil {
		release()
		return nil, func() {}, err
	}
	return r, release, nil
}

func beingDeleted(id string) error {
	return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is being deleted", id))
}

// pin counts a snapshot as in use, unless it is being deleted, which the store may not know yet.
func (m *Manager) pin(id string) (release func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, doomed := m.doomed[snapshotLock(id)]; doomed || m.inUse[id] < 0 {
		return nil, false
	}
	m.inUse[id]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.inUse[id]--; m.inUse[id] == 0 {
			delete(m.inUse, id)
		}
	}, true
}

// claim keeps a snapshot from being used while it is deleted, unless it is in use: -1 stands for the deletion. Its lock is held.
func (m *Manager) claim(id string) (release func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inUse[id] != 0 {
		return nil, false
	}
	m.inUse[id] = -1
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.inUse, id)
	}, true
}

// snapshotSubject finds what a call about a stored snapshot needs.
func (m *Manager) snapshotSubject(r *snapshotRecord) (*extension, sandboxer.SnapshotTarget, *keyWatch, error) {
	x, err := m.extension(r.Snap.Extension)
	if err != nil {
		return nil, sandboxer.SnapshotTarget{}, nil, err
	}
	h, err := m.host(r.Snap.Host)
	if err != nil {
		return nil, sandboxer.SnapshotTarget{}, nil, err
	}
	keys := m.watchKey(r.Snap.Extension, r.Snap.Payer)
	return x, sandboxer.SnapshotTarget{Snapshot: own.Snapshot(r.Snap), Host: own.Host(h), Consumer: own.Consumer(r.Snap.Consumer), Secret: keys.secret}, keys, nil
}

func snapshotCall(op sandboxer.Op, s sandboxer.Snapshot) sandboxer.Call {
	return sandboxer.Call{Op: op, Extension: s.Extension, Host: s.Host, ID: s.Source, Consumer: s.Consumer}
}

func wrapSnapshot(op string, s sandboxer.Snapshot, err error) error {
	if err == nil {
		return nil
	}
	e := wrap(op, nil, err)
	var se *sandboxer.Error
	if errors.As(e, &se) {
		se.ID, se.Extension, se.Host = s.Source, s.Extension, s.Host
	}
	return e
}
