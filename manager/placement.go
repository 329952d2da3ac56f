package manager

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func placeKey(host string) store.Key { return store.Key{Kind: kindPlace, ID: host} }

// places returns the hosts that a sandbox of p may be put on, the least loaded first. For an extension without hosts that
// is the one zero Host.
func (m *Manager) places(ctx context.Context, x *extension, p sandboxer.Profile, pin string) ([]sandboxer.Host, error) {
	if !x.hosted {
		if pin != "" {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host %q is asked for, but %s puts its sandboxes on no hosts", pin, x.id))
		}
		return []sandboxer.Host{{}}, nil
	}
	if pin != "" {
		h, ok := m.hosts[pin]
		if !ok {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host %q is not configured%s", pin, sandboxer.DidYouMean(pin, slices.Sorted(maps.Keys(m.hosts)))))
		}
		return []sandboxer.Host{h}, nil
	}
	var fit []sandboxer.Host
	for _, h := range m.cfg.Hosts {
		if selects(p.HostSelector, h.Labels) {
			fit = append(fit, h)
		}
	}
	if len(fit) == 0 {
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("%s needs a host with the labels %v; of the %d configured hosts none has them", p.ID, p.HostSelector, len(m.cfg.Hosts)))
	}
	return m.byLoad(ctx, fit)
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// byLoad sorts hosts by how full they are. It is a preference only: the slot is taken in the commit that needs it.
func (m *Manager) byLoad(ctx context.Context, hosts []sandboxer.Host) ([]sandboxer.Host, error) {
	if len(hosts) == 1 {
		return hosts, nil
	}
	keys := make([]store.Key, len(hosts))
	for i, h := range hosts {
		keys[i] = placeKey(h.ID)
	}
	got, err := m.cfg.Store.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	load := make(map[string]float64, len(hosts))
	for i, h := range hosts {
		n := float64(got[i].N)
		if h.MaxSandboxes > 0 {
			load[h.ID] = n / float64(h.MaxSandboxes)
		} else {
			load[h.ID] = n / 1000 // unlimited: rather there than on one that is nearly full
		}
	}
	slices.SortStableFunc(hosts, func(a, b sandboxer.Host) int { return cmp.Compare(load[a.ID], load[b.ID]) })
	return hosts, nil
}

// full says of each host why nothing more fits there; nil where something does.
func (m *Manager) full(ctx context.Context, hosts []sandboxer.Host) ([]error, error) {
	out := make([]error, len(hosts))
	var keys []store.Key
	var limited []int // which hosts the keys are of
	for i, h := range hosts {
		if h.MaxSandboxes > 0 {
			keys, limited = append(keys, placeKey(h.ID)), append(limited, i)
		}
	}
	if len(keys) == 0 {
		return out, nil
	}
	got, err := m.cfg.Store.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for k, i := range limited {
		if h := hosts[i]; got[k].N >= int64(h.MaxSandboxes) {
			out[i] = sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("host %s is full (%d sandboxes)", h.ID, h.MaxSandboxes))
		}
	}
	return out, nil
}

// host finds the host of a as it is configured now. One that is gone from the configuration is Unavailable: it may be
// configured again, and until then what is on it cannot be reached.
func (m *Manager) host(id string) (sandboxer.Host, error) {
	if id == "" {
		return sandboxer.Host{}, nil
	}
	h, ok := m.hosts[id]
	if !ok {
		return h, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("host %q is not configured any more; add it to Config.Hosts again until its sandboxes are gone", id))
	}
	return h, nil
}

// takePlace takes a slot on h in the commit that it is part of; releasePlace gives the one that a holds back.
func takePlace(h sandboxer.Host) []store.Mutation {
	if h.ID == "" {
		return nil
	}
	return []store.Mutation{{Do: store.Add, Key: placeKey(h.ID), Delta: 1, Max: int64(h.MaxSandboxes)}}
}

func releasePlace(a *attempt) []store.Mutation {
	if a == nil || a.Place == "" {
		return nil
	}
	m := store.Mutation{Do: store.Add, Key: placeKey(a.Place), Delta: -1}
	a.Place = ""
	return []store.Mutation{m}
}
