package saasstub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// content is what a snapshot holds, as it is digested.
type content struct {
	Template string            `json:"template,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Snapshot keeps the metadata of a sandbox.
func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	if req.ID == "" {
		return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the snapshot has no ID"))
	}
	var out sandboxer.Snapshot
	err := e.use(ctx, t, func(_ place, s *sandbox, now time.Time) error {
		p := place{e.id, req.ID}
		if old := e.service.snapshots[p]; old != nil {
			if old.key != s.key || !ours(old.Labels, req.Labels) {
				return sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the snapshot %s exists at %s and belongs to somebody else; it is left alone", req.ID, e.id))
			}
			out = old.Snapshot
			return nil
		}
		text, err := json.Marshal(content(s.inputs)) // maps encode in order: equal metadata has equal digests
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		note, err := json.Marshal(state{e.service.next()})
		if err != nil {
			return err
		}
		snap := &snapshot{key: s.key, inputs: inputs{s.inputs.Template, maps.Clone(s.inputs.Metadata)}, Snapshot: sandboxer.Snapshot{
			ID: req.ID, Name: req.Name, Extension: e.id, Source: s.ref.ID, Status: sandboxer.SnapshotReady, Consumer: t.Consumer,
			Labels: maps.Clone(req.Labels), Kind: "metadata", SizeBytes: int64(len(text)), Digest: "sha256:" + hex.EncodeToString(sum[:]),
			CreatedAt: now.UTC(), ExpiresAt: req.ExpiresAt, State: note,
		}}
		e.service.snapshots[p] = snap
		out = snap.Snapshot
		return nil
	})
	out.Labels = maps.Clone(out.Labels)
	return out, err
}

// Restore makes a sandbox with the metadata of a snapshot; inputs of the request win over it.
func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	return e.create(ctx, req, &s)
}

// stored finds a snapshot; the service is locked.
func (e *extension) stored(s sandboxer.Snapshot, key string) (*snapshot, error) {
	found := e.service.snapshots[place{e.id, s.ID}]
	switch {
	case found == nil, !ours(found.Labels, s.Labels):
		return nil, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("the snapshot %s does not exist at %s", s.ID, e.id))
	case found.key != key: // nothing has been made yet
		return nil, sandboxer.Refused(sandboxer.Unauthenticated, e.notVisible("the snapshot "+s.ID))
	}
	return found, nil
}

// DeleteSnapshot removes a snapshot, by ID.
func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	key, err := e.enter(ctx, t.Secret)
	if err != nil {
		return err
	}
	p := place{e.id, t.Snapshot.ID}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	s := e.service.snapshots[p]
	switch {
	case s == nil, !ours(s.Labels, t.Snapshot.Labels):
		return nil
	case s.key != key:
		return e.notVisible("the snapshot " + p.name)
	}
	delete(e.service.snapshots, p)
	return nil
}

// ListSnapshots yields the snapshots that carry an owner's label, by ID.
func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		key, err := e.enter(ctx, q.Secret)
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
			return
		}
		for _, s := range e.listSnapshots(key, q.Labels) {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func (e *extension) listSnapshots(key string, labels map[string]string) []sandboxer.Snapshot {
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	var out []sandboxer.Snapshot
	for p, s := range e.service.snapshots {
		if p.extension == e.id && s.key == key && s.Labels[sandboxer.LabelOwner] != "" && contains(s.Labels, labels) {
			snap := s.Snapshot
			snap.Labels = maps.Clone(snap.Labels)
			out = append(out, snap)
		}
	}
	slices.SortFunc(out, func(a, b sandboxer.Snapshot) int { return strings.Compare(a.ID, b.ID) })
	return out
}
