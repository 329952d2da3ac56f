package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// generator makes random mutations of a few keys, so that they meet.
type generator struct {
	*rand.Rand
	keys []store.Key
}

func newGenerator(seed uint64, keys int) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range keys {
		kind := []string{"sandbox", "counter", "sand"}[i%3]
		g.keys = append(g.keys, key(kind, string(rune('a'+i/3))))
	}
	return g
}

// mutations returns a valid commit. revs are those that the caller believes to stand.
func (g *generator) mutations(revs map[store.Key]int64) []store.Mutation {
	var ms []store.Mutation
	for _, i := range g.Perm(len(g.keys))[:1+g.IntN(min(3, len(g.keys)))] {
		k := g.keys[i]
		expect := revs[k]
		switch g.IntN(8) {
		case 0, 1:
			expect = store.AnyRev
		case 2:
			expect = max(0, expect-1+g.Int64N(3))
		}
		switch g.IntN(7) {
		case 0, 1, 2:
			var tags []string
			for _, tag := range []string{"live", "host=1", "t"} {
				if g.IntN(2) == 0 {
					tags = append(tags, tag)
				}
			}
			ms = append(ms, put(k, expect, fmt.Sprint(g.IntN(1000)), tags...))
		case 3:
			ms = append(ms, check(k, expect))
		case 4:
			ms = append(ms, del(k, expect))
		default:
			for range 1 + g.IntN(2) {
				ms = append(ms, add(k, g.Int64N(7)-3, g.Int64N(6)))
			}
		}
	}
	return ms
}

// actsLikeTheModel gives the store and the model the same random calls, one after the other.
func actsLikeTheModel(h *harness) {
	const seeds, calls = 12, 120
	for seed := range uint64(seeds) {
		h.s = h.open(h)
		g, m := newGenerator(seed, 9), newModel()
		revs := make(map[store.Key]int64) // the model's rev of each key: it counts as every store does
		real := map[int64]int64{0: 0, store.AnyRev: store.AnyRev}
		for call := range calls {
			ms := g.mutations(revs)
			theirs := slices.Clone(ms)
			for i := range theirs {
				if rev, ok := real[theirs[i].Expect]; ok {
					theirs[i].Expect = rev
				} else {
					theirs[i].Expect = 1 << 60 // one that nobody was given
				}
			}
			before := m.rev
			code, keys := m.commit(ms)
			rev, err := h.s.Commit(h.ctx(), theirs...)
			h.sameOutcome(fmt.Sprintf("seed %d, call %d: Commit(%s)", seed, call, show(theirs)), code, keys, err)
			if err == nil && m.rev > before {
				real[m.rev] = rev
			}
			for _, k := range g.keys {
				revs[k] = m.get(k).Rev
			}
			if call%10 == 9 {
				h.compare(fmt.Sprintf("seed %d, after call %d", seed, call), m, g.keys, real)
			}
			if h.reopen != nil && call%60 == 59 {
				h.s = h.reopen(h, h.s)
			}
		}
	}
}

// sameOutcome compares the error of a commit with the model's. Where several mutations stood in the way, code is empty and
// keys is not.
func (h *harness) sameOutcome(what string, code sandboxer.Code, keys []store.Key, err error) {
	h.Helper()
	if len(keys) == 0 {
		if err != nil {
			h.broken("%s: %v, want success", what, err)
		}
		return
	}
	got := sandboxer.CodeOf(err)
	if got != code && (code != "" || got != sandboxer.Aborted && got != sandboxer.ResourceExhausted) {
		h.broken("%s: code %q, want %q (error: %v)", what, got, code, err)
	}
	var named *store.Error
	if !errors.As(err, &named) || !slices.Contains(keys, named.Key) {
		h.broken("%s: the error %v names none of %v", what, err, keys)
	}
}

// compare compares everything that can be read. real translates the model's revs.
func (h *harness) compare(what string, m *model, keys []store.Key, real map[int64]int64) {
	h.Helper()
	translate := func(rs []store.Record) []store.Record {
		for i := range rs {
			rs[i].Rev = real[rs[i].Rev]
		}
		return rs
	}
	var want []store.Record
	for _, k := range keys {
		want = append(want, m.get(k))
	}
	h.same(what+": Get", translate(want), h.get(keys...))
	for _, kind := range []string{"sandbox", "counter", "sand"} {
		for _, tag := range []string{"", "live", "host=1", "t"} {
			q := store.Query{Kind: kind, Tag: tag}
			h.same(fmt.Sprintf("%s: Scan(%+v)", what, q), translate(m.scan(q)), h.scan(q))
		}
	}
}
