package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// ReapOptions narrows or widens a reap.
type ReapOptions struct {
	DryRun bool // report what would be done, and do nothing
	// FormerStores are the IDs of earlier stores of the same Config.Owner that are lost for good: what carries them is
	// treated as this Manager's own, of which no record is left.
	FormerStores []string
	// Tenants are looked for with their own keys also where no record names them: a new store knows none of those who had
	// something in a lost one.
	Tenants []string
}

// ReapReport says what a reap removed, or, of a dry run, what it would remove.
type ReapReport struct {
	Expired    []Reaped // whose time was over and which nothing else had removed
	Orphaned   []Reaped // resources without a record that wants them
	Lost       []Reaped // records whose resource, or whose stored snapshot, is gone
	Snapshots  []Reaped // stored snapshots without a record
	Purged     int      // records dropped, ended longer ago than Config.Keep
	Incomplete []string // listings that failed: nothing was concluded from them
}

// Reaped is one thing that a reap dealt with.
type Reaped struct {
	ID        string // of the sandbox or the snapshot
	Name      string // of the backend's resource
	Extension string
	Host      string
	Reason    string
}

// Reap looks at every backend and removes what should not be there: expired sandboxes, resources of this Manager without a
// record, and records whose resource, or whose stored snapshot, is gone. Only what carries exactly this Manager's owner label is ever touched, and
// only when it is older than Config.ReapGrace plus ten minutes of clock skew. Backends are listed first and records read
// after; a listing that fails deletes nothing. It also drops records that ended longer ago than Config.Keep. The Manager
// reaps by itself every Config.ReapInterval. The error joins what could not be removed; the report holds the rest.
func (m *Manager) Reap(ctx context.Context, o ReapOptions) (ReapReport, error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return ReapReport{}, wrap("reap", nil, err)
	}
	defer done()
	rp := &reaper{m: m, o: o, owners: []string{m.owner}, seen: map[sighting]bool{}, silent: map[view]bool{}}
	for _, id := range o.FormerStores {
		rp.owners = append(rp.owners, ownerLabel(m.cfg.Owner, id))
	}
	err = rp.run(ctx)
	return rp.report, wrap("reap", nil, err)
}

type reaper struct {
	m      *Manager
	o      ReapOptions
	owners []string

	mu     sync.Mutex // guards what follows
	report ReapReport
	errs   []error
	seen   map[sighting]bool // what a listing showed
	silent map[view]bool     // where a listing failed: nobody is asked there again
}

// account is one view of a backend: a host, or whose key it is looked at with.
type account struct {
	x     *extension
	host  sandboxer.Host
	payer sandboxer.Payer
}

func (rp *reaper) run(ctx context.Context) error {
	accounts, err := rp.accounts(ctx)
	if err != nil {
		return err
	}
	backends := newBySpot(1)
	for _, a := range accounts {
		backends.add(a.spot(), func(ctx context.Context) error {
			rp.instances(ctx, a)
			rp.snapshots(ctx, a)
			return nil
		})
	}
	_ = backends.run(ctx) // what went wrong is in the report
	if err := rp.records(ctx); err != nil {
		return err
	}
	rp.purgeSnapshots(ctx)
	if ctx.Err() != nil {
		rp.errs = append(rp.errs, context.Cause(ctx))
	}
	for _, list := range [][]Reaped{rp.report.Expired, rp.report.Orphaned, rp.report.Lost, rp.report.Snapshots} {
		slices.SortFunc(list, byName)
	}
	slices.Sort(rp.report.Incomplete)
	return errors.Join(rp.errs...)
}

func (a account) spot() spot { return spot{a.x.id, a.host.ID} }

// view is where one listing can show things: a spot, as one tenant's key shows it.
type view struct {
	spot
	tenant string
}

func (a account) view() view { return view{a.spot(), a.payer.Tenant} }

func (a *attempt) view() view { return view{a.spot(), a.Payer.Tenant} }

// sighting is a name in a listing.
type sighting struct {
	view
	name string
}

// failed notes an error beside the report.
func (rp *reaper) failed(err error) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	rp.errs = append(rp.errs, err)
}

// add notes one thing that was dealt with in a list of the report.
func (rp *reaper) add(list *[]Reaped, r Reaped) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	*list = append(*list, r)
}

// accounts finds every place where something of this Manager may be: all hosts, and the keys of all payers on record.
func (rp *reaper) accounts(ctx context.Context) ([]account, error) {
	payers, err := rp.payers(ctx)
	if err != nil {
		return nil, err
	}
	var out []account
	for _, id := range slices.Sorted(maps.Keys(rp.m.extensions)) {
		x := rp.m.extensions[id]
		switch {
		case x.ext == nil:
		case x.hosted:
			for _, h := range rp.m.cfg.Hosts {
				out = append(out, account{x: x, host: h})
			}
		case len(x.pays) == 0:
			out = append(out, account{x: x})
		default:
			for _, p := range rp.keys(ctx, x, payers[id]) {
				out = append(out, account{x: x, payer: p})
			}
		}
	}
	return out, nil
}

// payers are all who pay for something on record, by extension.
func (rp *reaper) payers(ctx context.Context) (map[string]map[sandboxer.Payer]bool, error) {
	out := map[string]map[sandboxer.Payer]bool{}
	add := func(extension string, p sandboxer.Payer) {
		if out[extension] == nil {
			out[extension] = map[sandboxer.Payer]bool{}
		}
		out[extension][p] = true
	}
	for r, err := range rp.m.records(ctx, Filter{}) {
		if err != nil {
			return nil, err
		}
		for _, a := range r.Attempts {
			if a.N > 0 {
				add(a.Extension, a.Payer)
			}
		}
	}
	return out, rp.snapshotPayers(ctx, add)
}

// keys are those that x is to be looked at with: the platform's, those of known payers, and those of the tenants that were
// named. Payers for whom one and the same key is handed out now, such as those of before and after it was rotated, are one.
func (rp *reaper) keys(ctx context.Context, x *extension, known map[sandboxer.Payer]bool) []sandboxer.Payer {
	all := slices.Collect(maps.Keys(known))
	for _, tenant := range append([]string{""}, rp.o.Tenants...) {
		p, err := rp.m.payer(ctx, x, sandboxer.Consumer{Tenant: tenant})
		switch {
		case err == nil:
			all = append(all, p)
		case tenant != "": // the platform need not have one
			rp.incomplete(account{x: x, payer: sandboxer.Payer{Tenant: tenant}}, "listing", err)
		}
	}
	for i := range all {
		all[i].Key = rp.m.keyNow(ctx, x, all[i])
	}
	slices.SortFunc(all, func(a, b sandboxer.Payer) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(all)
}

func (a account) String() string {
	s := a.x.id
	if a.host.ID != "" {
		s += " on " + a.host.ID
	}
	if a.payer.Tenant != "" {
		s += " for tenant " + a.payer.Tenant
	}
	return s
}

func (rp *reaper) query(a account, owner string) sandboxer.ListQuery {
	return sandboxer.ListQuery{
		Host: own.Host(a.host), Consumer: sandboxer.Consumer{Tenant: a.payer.Tenant},
		Secret: rp.m.watchKey(a.x.id, a.payer).secret, Labels: map[string]string{sandboxer.LabelOwner: owner},
	}
}

func (rp *reaper) incomplete(a account, what string, err error) {
	rp.mu.Lock()
	rp.report.Incomplete = append(rp.report.Incomplete, fmt.Sprintf("%s of %v: %v", what, a, err))
	rp.silent[a.view()] = true
	rp.mu.Unlock()
	rp.m.cfg.Logger.Warn("a listing is incomplete; nothing is concluded from it", "what", what, "of", a.String(), "error", err)
}

// checkListed refuses what a record could not be made of, whatever its labels say: an adapter forgot something.
func checkListed(a account, ref sandboxer.HandleRef) error {
	switch err := ref.ID.Validate(); {
	case err != nil:
		return err
	case ref.Attempt < 1 || ref.Attempt > maxNumber:
		return fmt.Errorf("%s is listed as attempt %d, which is not between 1 and %d", ref.ID, ref.Attempt, maxNumber)
	case ref.Extension != a.x.id || ref.Host != a.host.ID:
		return fmt.Errorf("%s is listed with a handle of extension %q and host %q", ref.Name(), ref.Extension, ref.Host)
	}
	return nil
}

// odd notes one thing that is listed in a way that nothing can be concluded from.
func (rp *reaper) odd(a account, err error) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	rp.report.Incomplete = append(rp.report.Incomplete, fmt.Sprintf("listing of %v: %v; its adapter must use Handles as it was given them", a, err))
	rp.m.cfg.Logger.Warn("something is listed with a handle that is none", "of", a.String(), "error", err)
}

// instances deals with what a backend lists. The whole listing is read before any record is.
func (rp *reaper) instances(ctx context.Context, a account) {
	lister, ok := sandboxer.As[sandboxer.Lister](a.x.ext)
	if !ok {
		return
	}
	all, err := rp.list(ctx, a, lister)
	if err != nil {
		rp.incomplete(a, "listing", err)
		return
	}
	for _, in := range all {
		name := in.Handle.Ref().Name()
		if in.Labels[sandboxer.LabelName] != name || in.Labels[sandboxer.LabelID] != string(in.Handle.Ref().ID) {
			continue // not as this library stamps it
		}
		rp.mu.Lock()
		rp.seen[sighting{a.view(), name}] = true
		rp.mu.Unlock()
		if err := checkListed(a, in.Handle.Ref()); err != nil {
			rp.odd(a, err)
			continue
		}
		if err := rp.instance(ctx, a, in); err != nil {
			rp.failed(fmt.Errorf("%s at %v: %w", name, a, err))
			if unanswered(err) {
				return
			}
		}
	}
}

// list reads everything of rp.owners that a backend shows.
func (rp *reaper) list(ctx context.Context, a account, lister sandboxer.Lister) (all []sandboxer.Instance, err error) {
	for _, owner := range rp.owners {
		err := rp.m.call(ctx, sandboxer.Call{Op: sandboxer.OpList, Extension: a.x.id, Host: a.host.ID}, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			for in, err := range lister.List(ctx, rp.query(a, owner)) {
				if err != nil {
					return err
				}
				if in.Labels[sandboxer.LabelOwner] == owner {
					all = append(all, in)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (rp *reaper) instance(ctx context.Context, a account, in sandboxer.Instance) error {
	ref := in.Handle.Ref()
	why, err := rp.unwanted(ctx, in)
	if err != nil || why == "" || !rp.old(in.CreatedAt) {
		return err
	}
	removing, err := rp.stray(ctx, a, in, why)
	if err == nil && !removing {
		rp.add(&rp.report.Orphaned, Reaped{ID: string(ref.ID), Name: ref.Name(), Extension: a.x.id, Host: a.host.ID, Reason: why})
	}
	return err
}

// unwanted says why no record wants an instance; "" where one does.
func (rp *reaper) unwanted(ctx context.Context, in sandboxer.Instance) (string, error) {
	ref := in.Handle.Ref()
	if in.Labels[sandboxer.LabelOwner] != rp.m.owner {
		return "its store is lost", nil
	}
	r, err := rp.m.load(ctx, ref.ID)
	if errors.Is(err, sandboxer.NotFound) {
		return "no record of it", nil
	}
	if err != nil {
		return "", err
	}
	a := r.current()
	switch {
	case a == nil || a.N < ref.Attempt:
		return "no record of this attempt", nil
	case r.ended():
		return "its record says that it is " + string(r.State), nil
	case a.N != ref.Attempt:
		return fmt.Sprintf("its record is at attempt %d", a.N), nil
	}
	return "", nil
}

// old reports whether something is old enough not to belong to a create that this Manager does not know of yet.
func (rp *reaper) old(created time.Time) bool {
	return !created.IsZero() && now().Sub(created) > rp.m.cfg.ReapGrace+clockSkew
}

// consumerOf reads back what was stamped.
func consumerOf(labels map[string]string) sandboxer.Consumer {
	return sandboxer.Consumer{
		ID: labels[sandboxer.LabelConsumer], Tenant: labels[sandboxer.LabelTenant], Run: labels[sandboxer.LabelRun],
	}
}

// snapshots deletes stored snapshots that no record knows.
func (rp *reaper) snapshots(ctx context.Context, a account) {
	snapper, ok := sandboxer.As[sandboxer.Snapshotter](a.x.ext)
	if !ok {
		return
	}
	begun := now()
	var all []sandboxer.Snapshot
	for _, owner := range rp.owners {
		err := rp.m.call(ctx, sandboxer.Call{Op: sandboxer.OpListSnapshots, Extension: a.x.id, Host: a.host.ID}, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			for s, err := range snapper.ListSnapshots(ctx, rp.query(a, owner)) {
				if err != nil {
					return err
				}
				if s.Labels[sandboxer.LabelOwner] == owner {
					s.Extension, s.Host, s.Payer, s.Consumer = a.x.id, a.host.ID, a.payer, consumerOf(s.Labels)
					all = append(all, s)
				}
			}
			return nil
		})
		if err != nil {
			rp.incomplete(a, "listing of snapshots", err)
			return
		}
	}
	for _, s := range all {
		if err := rp.snapshot(ctx, a, s, begun); err != nil {
			rp.failed(fmt.Errorf("snapshot %s at %v: %w", s.ID, a, err))
			if unanswered(err) {
				return
			}
		}
	}
	if err := rp.lostSnapshots(ctx, a, snapper, all); err != nil {
		rp.failed(fmt.Errorf("lost snapshots at %v: %w", a, err))
	}
}

// snapshot deals with one that was listed after begun.
func (rp *reaper) snapshot(ctx context.Context, a account, s sandboxer.Snapshot, begun time.Time) error {
	if !rp.old(s.CreatedAt) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rp.m.cfg.TeardownTimeout)
	defer cancel()
	ctx, release, err := rp.m.acquire(ctx, snapshotLock(s.ID))
	if err != nil {
		return err
	}
	defer release()
	why := "its store is lost"
	if s.Labels[sandboxer.LabelOwner] == rp.m.owner {
		r, err := rp.m.recallSnapshot(ctx, s.ID)
		if err == nil && r.ended() && r.EndedAt.Before(begun) {
			if r.Lost && r.is(s) {
				return rp.foundAgain(ctx, r)
			}
			err = noSnapshot(s.ID)
		}
		if !errors.Is(err, sandboxer.NotFound) {
			return err // it is known, or was when it was listed, or that cannot be told
		}
		why = "no record of it"
	}
	if !rp.o.DryRun {
		if err := rp.straySnapshot(ctx, s); err != nil {
			return err
		}
	}
	rp.add(&rp.report.Snapshots, Reaped{ID: s.ID, Name: s.ID, Extension: a.x.id, Host: a.host.ID, Reason: why})
	return nil
}
