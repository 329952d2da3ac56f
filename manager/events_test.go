package manager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// drain reads what has been delivered so far.
func drain(s *manager.Subscription) (out []manager.Event) {
	for {
		synctest.Wait()
		select {
		case e, ok := <-s.Events():
			if !ok {
				return out
			}
			out = append(out, e)
		default:
			return out
		}
	}
}

// steps are events as "id: was → state".
func steps(es []manager.Event) (out []string) {
	for _, e := range es {
		out = append(out, string(e.ID)+": "+string(e.Was)+" → "+string(e.State))
	}
	return out
}

// TestEvents: a subscription sees every change of state from the moment that Subscribe returns, and only those that it
// asked for.
func TestEvents(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPause, sandboxer.CapFind)
		m := w.open()
		created(t, m, ask("before"))
		all := m.Subscribe(manager.Filter{})
		defer all.Close()
		gone := m.Subscribe(manager.Filter{States: []sandboxer.State{sandboxer.StateGone}})
		defer gone.Close()
		others := m.Subscribe(manager.Filter{Consumer: "others"})
		defer others.Close()

		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Times: 1})
		sb := created(t, m, ask("a"))
		if err := sb.Pause(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := sb.Resume(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost, Times: 1})
		_, _ = sb.Teardown(context.Background()) // fails once
		pass(10 * time.Second)
		got := drain(all)
		want := []string{
			"a:  → provisioning", "a: provisioning → unknown", "a: unknown → ready", "a: ready → paused", "a: paused → ready",
			"a: ready → tearing_down", "a: tearing_down → orphaned", "a: orphaned → tearing_down", "a: tearing_down → gone",
		}
		if diff := cmp.Diff(want, steps(got)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		last := got[len(got)-1]
		last.At = time.Time{}
		wantLast := manager.Event{
			ID: "a", Consumer: sandboxer.Consumer{ID: "tests"}, Profile: "profile.fake", Extension: "ext.fake",
			Was: sandboxer.StateTearingDown, State: sandboxer.StateGone, Reason: "torn down on request",
		}
		if diff := cmp.Diff(wantLast, last); diff != "" {
			t.Errorf("last event (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[len(want)-1:], steps(drain(gone))); diff != "" {
			t.Errorf("events of the end (-want +got):\n%s", diff)
		}
		if got := drain(others); len(got) > 0 {
			t.Errorf("events of others: %v", got)
		}
	})
}

// TestSlowReader: a reader that does not keep up holds nobody up. It loses the oldest events and is told how many.
func TestSlowReader(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		slow := m.Subscribe(manager.Filter{States: []sandboxer.State{sandboxer.StateReady}})
		defer slow.Close()
		const n = 400
		for range n {
			created(t, m, ask(""))
		}
		var missed, seen int
		for _, e := range drain(slow) {
			if e.Missed > 0 {
				missed += e.Missed
				continue
			}
			seen++
			if e.State != sandboxer.StateReady {
				t.Errorf("event %+v", e)
			}
		}
		if seen+missed != n || missed == 0 || seen < 256 {
			t.Errorf("%d seen and %d said to be missed, want all %d between them", seen, missed, n)
		}
	})
}

// TestSubscriptionEnds: with its own Close, with the Manager's, and at once when that is closed.
func TestSubscriptionEnds(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		own, managers := m.Subscribe(manager.Filter{}), m.Subscribe(manager.Filter{})
		created(t, m, ask("a"))
		own.Close()
		own.Close()
		closed := func(s *manager.Subscription) {
			t.Helper()
			for range s.Events() { // ends only if it is closed
			}
		}
		closed(own)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		closed(managers)
		closed(m.Subscribe(manager.Filter{}))
		managers.Close()
	})
}

// TestSubscribeWhileClosing: subscriptions that come while, or after, a Manager is closed end at once, and its Close does not
// trip over them.
func TestSubscribeWhileClosing(t *testing.T) {
	t.Parallel()
	for range 50 {
		w := newWorld(t)
		m, err := manager.New(context.Background(), w.config())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 50 {
				s := m.Subscribe(manager.Filter{})
				defer s.Close()
			}
		}()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		<-done
		s := m.Subscribe(manager.Filter{})
		if e, ok := <-s.Events(); ok {
			t.Errorf("an event after the end: %+v", e)
		}
		s.Close()
		s.Close()
	}
}
