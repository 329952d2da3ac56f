package crashtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestHistories runs random creates, gets, extensions, snapshots and teardowns of a few IDs from many goroutines, some of
// them cancelled in the middle, and checks that each history could have happened one call after the other. It was seen to
// fail when another request under a known ID is given its sandbox, when Teardown does not take the sandbox's lock, when a
// request that is being looked up takes the ID from the one that it belongs to, and when a create that everybody left goes on.
func TestHistories(t *testing.T) {
	t.Parallel()
	for round := range 12 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			backend := fake.New()
			reg, err := registry.New(registry.WithAdapters(backend.Adapter()))
			if err != nil {
				t.Fatal(err)
			}
			m, err := manager.New(t.Context(), manager.Config{Registry: reg, Store: store.Memory(), ReapInterval: -1})
			if err != nil {
				t.Fatal(err)
			}
			ids := 3 << (round % 4) // few are fought for, many are left by all
			events := append(history(t, m, backend, ids), finally(t, m, ids)...)
			if err := m.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if live := backend.Live(); len(live) > 0 {
				t.Errorf("the backend still has %v", live)
			}
			for _, ops := range byID(events) {
				if res := porcupine.CheckOperationsTimeout(model().ToModel(), ops, 30*time.Second); res != porcupine.Ok {
					t.Errorf("%s: no order of these calls explains what they returned:\n%s", res, tell(ops))
				}
			}
		})
	}
}

func tell(ops []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range ops {
		s := op.Output.(step)
		fmt.Fprintf(&b, "%9d %9d caller %d: %s %s → %s%s\n", op.Call, op.Return, op.ClientId, s.op, s.id, s.code, s.seen)
	}
	return b.String()
}

// step is one call and what it returned.
type step struct {
	op   string // create, other (another request), get, extend, snapshot, teardown, or what was seen after all: finally
	id   sandboxer.ID
	code sandboxer.Code  // "" for success
	seen sandboxer.State // of get
}

func boxID(i int) sandboxer.ID { return sandboxer.ID(fmt.Sprintf("box-%c", 'a'+i)) }

// finally is what each ID has come to when every call has returned.
func finally(t *testing.T, m *manager.Manager, ids int) (out []porcupine.Operation) {
	t.Helper()
	for i := range ids {
		s := step{op: "finally", id: boxID(i)}
		s.code, s.seen = attempt(t.Context(), m, s)
		at := int64(time.Hour) + int64(2*i)
		out = append(out, porcupine.Operation{Input: s, Call: at, Output: s, Return: at + 1})
	}
	return out
}

func history(t *testing.T, m *manager.Manager, backend *fake.Backend, ids int) []porcupine.Operation {
	t.Helper()
	const clients, calls = 8, 14
	var mu sync.Mutex
	var out []porcupine.Operation
	var group sync.WaitGroup
	begun := time.Now()
	backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Delay: time.Millisecond})
	backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Delay: time.Millisecond})
	for client := range clients {
		group.Go(func() {
			for range calls {
				s := step{
					op: []string{"create", "create", "create", "other", "get", "extend", "snapshot", "teardown"}[rand.IntN(8)],
					id: boxID(rand.IntN(ids)),
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if rand.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, rand.N(3*time.Millisecond))
				}
				from := time.Since(begun)
				s.code, s.seen = attempt(ctx, m, s)
				to := time.Since(begun)
				cancel()
				mu.Lock()
				out = append(out, porcupine.Operation{ClientId: client, Input: s, Call: int64(from), Output: s, Return: int64(to)})
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return out
}

func attempt(ctx context.Context, m *manager.Manager, s step) (sandboxer.Code, sandboxer.State) {
	if s.op == "create" || s.op == "other" {
		_, err := m.Create(ctx, sandboxer.CreateRequest{ID: s.id, Profile: "profile.fake", Consumer: sandboxer.Consumer{ID: s.op}})
		return sandboxer.CodeOf(err), ""
	}
	sb, err := m.Get(ctx, s.id)
	if err != nil {
		return sandboxer.CodeOf(err), ""
	}
	var seen sandboxer.State
	switch s.op {
	case "get", "finally":
		var status sandboxer.SandboxStatus
		status, err = sb.Status(ctx)
		seen = status.State
	case "extend":
		_, err = sb.Extend(ctx, time.Now().Add(2*time.Hour))
	case "snapshot":
		_, err = sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
	case "teardown":
		_, err = sb.Teardown(ctx)
	}
	return sandboxer.CodeOf(err), seen
}

// known is what the model knows of one ID: its state, and whose request it belongs to.
type known struct {
	state sandboxer.State // "", ready, gone, failed
	by    string
	// nobody has it: the create that made it ready reported that it was interrupted. It may be removed in the same moment,
	// but must not stay.
	nobody bool
}

func byID(history []porcupine.Operation) map[sandboxer.ID][]porcupine.Operation {
	parts := map[sandboxer.ID][]porcupine.Operation{}
	for _, op := range history {
		id := op.Input.(step).id
		parts[id] = append(parts[id], op)
	}
	return parts
}

func model() *porcupine.NondeterministicModel {
	return &porcupine.NondeterministicModel{
		Init:  func() []any { return []any{known{}} },
		Equal: func(a, b any) bool { return a == b },
		Step:  func(state, _, output any) []any { return after(state.(known), output.(step)) },
	}
}

// after returns the states that may follow when a call returned what it did, none where it could not have.
func after(w known, s step) []any {
	same := []any{w}
	never := []any{}
	interrupted := s.code == sandboxer.Aborted || s.code == sandboxer.Canceled || s.code == sandboxer.DeadlineExceeded
	if s.op == "create" || s.op == "other" {
		switch {
		case interrupted && (w.state == "" || w.state == sandboxer.StateFailed && w.by == s.op):
			// Given up before or after its intent was stored, or when it was ready and a removal came in between.
			return []any{w, known{state: sandboxer.StateFailed, by: s.op}, known{state: sandboxer.StateReady, by: s.op, nobody: true}}
		case interrupted:
			return same
		case s.code == sandboxer.AlreadyExists:
			// Also before the other request's intent is stored: its create is under way.
			return keep(w.state == "" || w.by != s.op, same, never)
		case s.code == sandboxer.FailedPrecondition:
			return keep(w.state == sandboxer.StateGone && w.by == s.op, same, never)
		case s.code != "":
			return never
		}
		return keep(w.state == "" || (w.by == s.op && w.state != sandboxer.StateGone), []any{known{state: sandboxer.StateReady, by: s.op}}, never)
	}
	switch {
	case interrupted && s.op == "teardown" && w.state == sandboxer.StateReady:
		return []any{w, known{state: sandboxer.StateGone, by: w.by}}
	case interrupted:
		return same
	case s.code == sandboxer.NotFound:
		return keep(w.state == "", same, never)
	case s.op == "finally":
		return keep(w.state == s.seen && !w.nobody, same, never)
	case s.op == "get":
		switch s.seen {
		case sandboxer.StateReady, sandboxer.StateGone, sandboxer.StateFailed:
			return keep(w.state == s.seen, same, never)
		}
		return same // on its way
	case s.op == "teardown" && s.code == "":
		if w.state == sandboxer.StateReady {
			return []any{known{state: sandboxer.StateGone, by: w.by}}
		}
		return same
	case s.code == "":
		return keep(w.state == sandboxer.StateReady, same, never)
	case s.code == sandboxer.FailedPrecondition:
		return keep(w.state != sandboxer.StateReady, same, never)
	}
	return never
}

func keep(ok bool, yes, no []any) []any {
	if ok {
		return yes
	}
	return no
}
