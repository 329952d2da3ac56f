// Package own copies what many hold, for somebody who may write to it: a profile for an extension, a registry's for its caller.
// A copy shares no map and no list with what it was made of. The registry and the Manager call it, on every create: what is
// empty costs nothing, and reflection is left to values that only Go programs make.
package own

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

// Inputs copies in.
func Inputs(in sandboxer.Inputs) sandboxer.Inputs {
	if in == nil {
		return nil
	}
	out := make(sandboxer.Inputs, len(in))
	for k, v := range in {
		out[k] = value(v)
	}
	return out
}

func value(v any) any {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, float64, json.Number, sandboxer.SecretRef:
		return v
	case map[string]any:
		if v == nil {
			return v
		}
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = value(item)
		}
		return out
	case []any:
		if v == nil {
			return v
		}
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = value(item)
		}
		return out
	}
	var copied struct{ V any }
	if err := (sandboxer.Inputs{"v": v}).Decode(&copied); err != nil {
		return v // which it never is: an any takes everything
	}
	return copied.V
}

// Profile copies p.
func Profile(p sandboxer.Profile) sandboxer.Profile {
	p.Inputs = Inputs(p.Inputs)
	p.Ports = slices.Clone(p.Ports)
	p.Requires = slices.Clone(p.Requires)
	p.HostSelector = maps.Clone(p.HostSelector)
	p.Labels = maps.Clone(p.Labels)
	if p.Burst != nil {
		b := *p.Burst
		b.To = slices.Clone(b.To)
		for i := range b.To {
			b.To[i].Inputs = maps.Clone(b.To[i].Inputs)
		}
		b.On = slices.Clone(b.On)
		if b.MaxCost != nil {
			cost := *b.MaxCost
			b.MaxCost = &cost
		}
		p.Burst = &b
	}
	return p
}

// Host copies h.
func Host(h sandboxer.Host) sandboxer.Host {
	h.HostKeys = slices.Clone(h.HostKeys)
	h.Options = Inputs(h.Options)
	h.Labels = maps.Clone(h.Labels)
	return h
}

// Consumer copies c.
func Consumer(c sandboxer.Consumer) sandboxer.Consumer {
	c.Labels = maps.Clone(c.Labels)
	return c
}

// Snapshot copies s.
func Snapshot(s sandboxer.Snapshot) sandboxer.Snapshot {
	s.Consumer = Consumer(s.Consumer)
	s.Labels = maps.Clone(s.Labels)
	s.State = bytes.Clone(s.State)
	return s
}
