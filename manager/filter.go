package manager

import (
	"slices"

	"github.com/sand-boxer/sandboxer"
)

// Filter selects sandboxes, snapshots or events; every field that is set must match.
type Filter struct {
	IDs       []sandboxer.ID // of sandboxes; for snapshots: of the sandbox that they were taken of
	Consumer  string         // Consumer.ID
	Tenant    string
	Run       string
	Profile   string
	Extension string
	Host      string
	States    []sandboxer.State // empty: all, the ended ones too
	Labels    map[string]string // all must match
}

func (f Filter) matches(r *record) bool {
	extension, host := "", ""
	if a := r.current(); a != nil {
		extension, host = a.Extension, a.Host
	}
	return f.matchesOwner(r.Asked.Consumer, r.ID, r.Asked.Labels) &&
		is(f.Profile, r.Asked.Profile) && is(f.Extension, extension) && is(f.Host, host) &&
		(len(f.States) == 0 || slices.Contains(f.States, r.State))
}

func (f Filter) matchesOwner(c sandboxer.Consumer, id sandboxer.ID, labels map[string]string) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, id) {
		return false
	}
	for k, v := range f.Labels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return is(f.Consumer, c.ID) && is(f.Tenant, c.Tenant) && is(f.Run, c.Run)
}

func (f Filter) matchesSnapshot(s sandboxer.Snapshot) bool {
	return f.matchesOwner(s.Consumer, s.Source, s.Labels) && is(f.Extension, s.Extension) && is(f.Host, s.Host)
}

func is(want, got string) bool { return want == "" || want == got }
