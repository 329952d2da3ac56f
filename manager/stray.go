package manager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// stray removes a resource that no record wants. It gets a record of its own first: a removal that fails, or a crash in
// the middle of it, is then tried again and accounted for like any other. It reports whether that is under way already.
func (rp *reaper) stray(ctx context.Context, a account, in sandboxer.Instance, why string) (removing bool, err error) {
	m, ref := rp.m, in.Handle.Ref()
	_, release, err := m.acquire(ctx, string(ref.ID))
	if err != nil {
		return false, err
	}
	defer release()
	if again, err := rp.unwanted(ctx, in); err != nil || again == "" {
		return true, err // somebody wants it now
	}
	id := strayID(a, in)
	_, done, err := m.acquire(ctx, string(id))
	if err != nil {
		return false, err
	}
	defer done()
	r, err := m.load(ctx, id)
	switch {
	case errors.Is(err, sandboxer.NotFound):
		if r, err = newStray(id, a, in); err == nil {
			err = rp.inherit(ctx, r, in)
		}
		if err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	case !r.ended():
		return true, nil
	}
	if there, err := rp.still(ctx, a, in, r); err != nil || !there {
		return true, err
	}
	if rp.o.DryRun {
		return false, nil
	}
	ctx, cancel := m.detach(ctx)
	defer cancel()
	return false, m.end(ctx, r, because{sandboxer.NotFound, "found by the reaper: " + why})
}

// still reports whether an instance that was listed is there now that nobody else works on it: it may have been removed,
// and billed, since.
func (rp *reaper) still(ctx context.Context, a account, in sandboxer.Instance, r *record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, rp.m.cfg.TeardownTimeout)
	defer cancel()
	if a.x.can(sandboxer.CapInspect) {
		seen, known, err := rp.m.observe(ctx, &subject{r: r, a: r.current(), x: a.x, target: rp.m.target(r, r.current(), a.host, nil)})
		return !known || seen.State != sandboxer.StateGone, err
	}
	lister, _ := sandboxer.As[sandboxer.Lister](a.x.ext) // it was listed
	all, err := rp.list(ctx, a, lister)
	return slices.ContainsFunc(all, func(now sandboxer.Instance) bool {
		return now.Handle == in.Handle && now.CreatedAt.Equal(in.CreatedAt)
	}), err
}

// strayID is the same for the same resource, so that two reaps make one record of it.
func strayID(a account, in sandboxer.Instance) sandboxer.ID {
	parts := []string{a.x.id, a.host.ID, a.payer.Tenant, in.Handle.Ref().Name(), in.Labels[sandboxer.LabelOwner], in.CreatedAt.UTC().String()}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return sandboxer.ID("stray-" + hex.EncodeToString(sum[:16]))
}

func newStray(id sandboxer.ID, a account, in sandboxer.Instance) (*record, error) {
	ref := in.Handle.Ref()
	asked, err := asked{Consumer: consumerOf(in.Labels)}.freeze()
	if err != nil {
		return nil, err
	}
	return &record{
		ID: id, Asked: asked, CreatedAt: in.CreatedAt, ReadyAt: in.CreatedAt, Stray: in.Labels,
		Attempts: []attempt{{
			Attempt: sandboxer.Attempt{
				N: ref.Attempt, Name: ref.Name(), Extension: a.x.id, Host: a.host.ID, Payer: a.payer, StartedAt: in.CreatedAt,
			},
			Recipe: &recipe{Profile: sandboxer.Profile{Extension: a.x.id}}, Handle: in.Handle, Deadline: in.ExpiresAt,
		}},
	}, nil
}

// inherit takes over what the ended record of the same resource says of it: how it was made, and what is billed already. An
// ID may be used again, so a resource that was not made during the attempt of its name is another.
func (rp *reaper) inherit(ctx context.Context, r *record, in sandboxer.Instance) error {
	if in.Labels[sandboxer.LabelOwner] != rp.m.owner {
		return nil // what its store knew is lost
	}
	from, err := rp.m.load(ctx, in.Handle.Ref().ID)
	if errors.Is(err, sandboxer.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	a := r.current()
	for _, was := range from.Attempts {
		if was.N != a.N || was.Extension != a.Extension || was.Host != a.Host || was.Payer.Tenant != a.Payer.Tenant ||
			in.CreatedAt.Before(was.StartedAt.Add(-clockSkew)) || in.CreatedAt.After(was.EndedAt.Add(clockSkew)) {
			continue
		}
		a.Profile, a.Recipe, a.Billed = was.Profile, was.Recipe, was.Billed
	}
	return nil
}

// straySnapshot deletes a stored snapshot that no record knows. Like a stray sandbox it gets a record first, which goes on
// from what the ended one of the same snapshot has billed; unless another snapshot of that ID has one: what its store knew is
// lost, and that other one is not to be touched. Its lock is held.
func (rp *reaper) straySnapshot(ctx context.Context, s sandboxer.Snapshot) error {
	r := &snapshotRecord{Snap: s}
	switch old, err := rp.m.recallSnapshot(ctx, s.ID); {
	case err == nil && !old.ended():
		r.Snap.Status = sandboxer.SnapshotDeleting
		return rp.m.deleteAtBackend(ctx, r)
	case err == nil:
		r.standing = old.standing
		if old.is(s) {
			r = old
			r.EndedAt, r.Abandoned, r.Reason, r.Tries = time.Time{}, false, "", 0
		}
	case !errors.Is(err, sandboxer.NotFound):
		return err
	}
	r.Snap.Status = sandboxer.SnapshotDeleting
	if err := rp.m.saveSnapshot(ctx, "snapshot-deleting", r); err != nil {
		return err
	}
	return rp.m.removeSnapshot(ctx, r)
}
