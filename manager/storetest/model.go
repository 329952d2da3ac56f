package storetest

import (
	"math/big"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// model is a store as simple as can be. It shares no code with any, so that it shares no mistake.
type model struct {
	rev     int64
	records map[store.Key]store.Record
}

func newModel() *model { return &model{records: make(map[store.Key]store.Record)} }

// clone returns a model that changes on its own. Records are never written to.
func (m *model) clone() *model {
	c := &model{rev: m.rev, records: make(map[store.Key]store.Record, len(m.records))}
	for k, r := range m.records {
		c.records[k] = r
	}
	return c
}

// commit applies mutations that are valid. It returns the code and the keys that may be named with it: where several
// mutations are in the way, a store may name any.
func (m *model) commit(ms []store.Mutation) (sandboxer.Code, []store.Key) {
	failed := make(map[sandboxer.Code][]store.Key)
	totals := make(map[store.Key]*big.Int)
	limits := make(map[store.Key]int64)
	for _, mu := range ms {
		have := m.records[mu.Key]
		if mu.Do != store.Add {
			if mu.Expect != store.AnyRev && mu.Expect != have.Rev {
				failed[sandboxer.Aborted] = append(failed[sandboxer.Aborted], mu.Key)
			}
			continue
		}
		if totals[mu.Key] == nil {
			totals[mu.Key] = new(big.Int)
		}
		totals[mu.Key].Add(totals[mu.Key], big.NewInt(mu.Delta))
		if l := limits[mu.Key]; mu.Max != 0 && (l == 0 || mu.Max < l) {
			limits[mu.Key] = mu.Max
		}
	}
	for k, total := range totals {
		sum := new(big.Int).Add(total, big.NewInt(m.records[k].N))
		limit := limits[k]
		if !sum.IsInt64() || limit != 0 && total.Sign() > 0 && sum.Int64() > limit {
			failed[sandboxer.ResourceExhausted] = append(failed[sandboxer.ResourceExhausted], k)
		}
	}
	for code, keys := range failed {
		if len(failed) > 1 {
			return "", slices.Concat(failed[sandboxer.Aborted], failed[sandboxer.ResourceExhausted])
		}
		return code, keys
	}
	m.apply(ms)
	return "", nil
}

func (m *model) apply(ms []store.Mutation) {
	next := m.rev + 1
	for _, mu := range ms {
		r, there := m.records[mu.Key]
		r.Key = mu.Key
		switch mu.Do {
		case store.Put:
			r.Tags, r.Body = slices.Clone(mu.Tags), slices.Clone(mu.Body)
		case store.Add:
			r.N += mu.Delta
		case store.Delete:
			if there {
				delete(m.records, mu.Key)
				m.rev = next
			}
			continue
		default:
			continue
		}
		r.Rev, m.rev = next, next
		m.records[mu.Key] = r
	}
}

func (m *model) get(k store.Key) store.Record {
	r := m.records[k]
	r.Key = k
	return r
}

func (m *model) scan(q store.Query) (out []store.Record) {
	for k, r := range m.records {
		if k.Kind == q.Kind && strings.HasPrefix(k.ID, q.Prefix) && (q.After == "" || k.ID > q.After) &&
			(q.Tag == "" || slices.Contains(r.Tags, q.Tag)) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b store.Record) int { return strings.Compare(a.Key.ID, b.Key.ID) })
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}
