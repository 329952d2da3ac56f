package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// event is a call and what came of it, as the model checker wants it.
type event struct {
	ms   []store.Mutation // of a Commit
	keys []store.Key      // of a Get
}

type outcome struct {
	rev     int64
	code    sandboxer.Code
	records []store.Record
}

// historiesAreLinearizable lets several callers loose on the same few keys and looks for an order of their calls, each
// between its begin and its end, in which the model would have answered the same.
func historiesAreLinearizable(h *harness) {
	const seeds, callers, calls = 6, 6, 25
	for seed := range uint64(seeds) {
		h.s = h.open(h)
		history := h.history(seed, callers, calls)
		if h.Failed() {
			return
		}
		switch porcupine.CheckOperationsTimeout(linearModel(), history, patience) {
		case porcupine.Illegal:
			h.broken("seed %d: no order of %d concurrent calls explains what they returned", seed, len(history))
		case porcupine.Unknown:
			h.broken("seed %d: the history of %d calls could not be checked in %v", seed, len(history), patience)
		}
	}
}

func (h *harness) history(seed uint64, callers, calls int) []porcupine.Operation {
	var mu sync.Mutex
	var history []porcupine.Operation
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			g := newGenerator(seed*1000+uint64(c), 4)
			revs := make(map[store.Key]int64)
			for range calls {
				op := porcupine.Operation{ClientId: c, Call: time.Since(begin).Nanoseconds()}
				var out outcome
				if g.IntN(3) == 0 {
					in := event{keys: []store.Key{g.keys[g.IntN(len(g.keys))], g.keys[g.IntN(len(g.keys))]}}
					rs, err := h.s.Get(h.Context(), in.keys...)
					if err != nil {
						h.wrong("Get: %v", err)
						return
					}
					for _, r := range rs {
						revs[r.Key] = r.Rev
					}
					op.Input, out.records = in, rs
				} else {
					in := event{ms: g.mutations(revs)}
					var err error
					out.rev, err = h.s.Commit(h.Context(), in.ms...)
					out.code = sandboxer.CodeOf(err)
					op.Input = in
				}
				op.Output, op.Return = out, time.Since(begin).Nanoseconds()
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return history
}

func linearModel() porcupine.Model {
	return porcupine.Model{
		Init:  func() any { return newModel() },
		Equal: func(a, b any) bool { return fmt.Sprint(a.(*model).records) == fmt.Sprint(b.(*model).records) },
		Step: func(state, input, output any) (bool, any) {
			m, in, out := state.(*model), input.(event), output.(outcome)
			if in.keys != nil {
				for i, k := range in.keys {
					if !sameRecord(m.get(k), out.records[i]) {
						return false, m
					}
				}
				return true, m
			}
			// The store's own Revs are taken over, as long as they only ever grow.
			next := m.clone()
			before := next.rev
			if out.code == "" && out.rev > next.rev {
				next.rev = out.rev - 1
			}
			code, keys := next.commit(in.ms)
			switch {
			case out.code != "":
				either := code == "" && (out.code == sandboxer.Aborted || out.code == sandboxer.ResourceExhausted)
				return len(keys) > 0 && (code == out.code || either), m
			case len(keys) > 0:
				return false, m
			case next.rev == out.rev && out.rev > before:
				return true, next
			}
			return unchanged(in.ms, m), m
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// unchanged reports whether ms write nothing, so that their rev is of no account.
func unchanged(ms []store.Mutation, m *model) bool {
	for _, mu := range ms {
		if mu.Do == store.Put || mu.Do == store.Add || mu.Do == store.Delete && m.get(mu.Key).Rev != 0 {
			return false
		}
	}
	return true
}

func sameRecord(a, b store.Record) bool {
	return a.Key == b.Key && a.Rev == b.Rev && a.N == b.N && string(a.Body) == string(b.Body) &&
		fmt.Sprint(a.Tags) == fmt.Sprint(b.Tags)
}
