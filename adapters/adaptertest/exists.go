package adaptertest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// existing returns what exists under a sandbox's name, as Config.Live, List of either owner, and Find see it. A backend
// that answers late is asked again.
func (t *trial) existing(name string) []string {
	t.Helper()
	out := containing(t.s.liveNames(t), name)
	for _, in := range t.listed(nil) {
		if in.Handle.Ref().Name() == name {
			out = append(out, listedMark+name)
		}
	}
	return out
}

// listedMark begins what existing knows from a listing.
const listedMark = "listed: "

// sameNumber tells whether as much exists now as did before. A resource that a listing shows late is none more; one that a
// listing shows twice, or Config.Live beside another, is.
func sameNumber(before, now []string) bool {
	count := func(names []string) (live, listed int) {
		for _, n := range names {
			if strings.HasPrefix(n, listedMark) {
				listed++
			} else {
				live++
			}
		}
		return live, listed
	}
	liveBefore, listedBefore := count(before)
	live, listed := count(now)
	return live == liveBefore && listed >= listedBefore && listed <= max(1, listedBefore)
}

// gone breaks the rule where something stays that exists under name.
func (t *trial) gone(name, after string) {
	t.Helper()
	var left []string
	if !t.settled(func() bool { left = t.existing(name); return len(left) == 0 }) {
		t.broken("after %s these exist: %q", after, left)
	}
}

// settled asks a few times, for a backend that shows late what is true already.
func (t *trial) settled(yes func() bool) bool {
	t.Helper()
	until := time.Now().Add(min(2*time.Second, t.s.cfg.Within))
	for !yes() {
		if time.Now().After(until) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// there breaks the rule unless something exists under name, where that can be seen.
func (t *trial) there(name, after string) {
	t.Helper()
	if t.s.cfg.Live == nil && !t.s.can(sandboxer.CapList) {
		return
	}
	if !t.poll(func() bool { return len(t.existing(name)) > 0 }) {
		t.broken("after %s nothing exists under the name %s", after, name)
	}
}

// listed returns what List yields for both owners, or for one.
func (t *trial) listed(of *side) []sandboxer.Instance {
	t.Helper()
	if !t.s.can(sandboxer.CapList) {
		return nil
	}
	sides := []*side{t.s.one, t.s.two}
	if of != nil {
		sides = []*side{of}
	}
	var out []sandboxer.Instance
	for _, d := range sides {
		for _, in := range t.listedRaw(d) {
			if in.Labels[sandboxer.LabelOwner] == d.owner {
				out = append(out, in)
			}
		}
	}
	return out
}

// listedRaw is what List yields for the owner of d, whatever labels it shows.
func (t *trial) listedRaw(d *side) []sandboxer.Instance {
	t.Helper()
	lister, ok := sandboxer.As[sandboxer.Lister](d.spy)
	if !ok {
		t.Fatal("the extension is no Lister")
	}
	got, err := do(t, "List", func(ctx context.Context) (all []sandboxer.Instance, err error) {
		for in, err := range lister.List(ctx, t.query(d)) {
			if err != nil {
				return nil, err
			}
			all = append(all, in)
		}
		return all, nil
	})
	if err != nil {
		t.Fatalf("List failed: %v", err)
	}
	return got
}

// listedNames are the names of what List yields for both owners.
func (t *trial) listedNames() []string {
	t.Helper()
	var out []string
	for _, in := range t.listed(nil) {
		out = append(out, in.Handle.Ref().Name())
	}
	return out
}

// query is what the Manager of d would list with.
func (t *trial) query(d *side) sandboxer.ListQuery {
	return sandboxer.ListQuery{
		Host: t.s.host, Consumer: sandboxer.Consumer{Tenant: t.s.cfg.Tenant}, Secret: t.shared().req.Secret,
		Labels: map[string]string{sandboxer.LabelOwner: d.owner},
	}
}

// snapshots returns the IDs that ListSnapshots yields for our owner.
func (t *trial) snapshots() []sandboxer.Snapshot {
	t.Helper()
	snapper, ok := sandboxer.As[sandboxer.Snapshotter](t.s.one.spy)
	if !ok {
		return nil
	}
	got, err := do(t, "ListSnapshots", func(ctx context.Context) ([]sandboxer.Snapshot, error) {
		var all []sandboxer.Snapshot
		for s, err := range snapper.ListSnapshots(ctx, t.query(t.s.one)) {
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		return all, nil
	})
	t.ok("ListSnapshots", err)
	return got
}

// snapshotsCalled returns those of one ID.
func (t *trial) snapshotsCalled(id string) []sandboxer.Snapshot {
	t.Helper()
	return slices.DeleteFunc(t.snapshots(), func(s sandboxer.Snapshot) bool { return s.ID != id })
}
