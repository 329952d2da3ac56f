//go:build unix

package e2b_test

import (
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// TestClocksDiffer: E2B says until when, by its clock. Taken for ours, that would move a deadline back when the clock here is
// ahead, and promise time that is not there when it is behind.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, 7 * time.Minute, -7 * time.Minute, 26 * time.Hour} {
		s := start(t, e2btest.Options{Ahead: ahead})
		r := newRig(t, s, nil)
		target := r.sandbox(t) // for half an hour
		extend, inspect := as[sandboxer.Extender](t, r).Extend, as[sandboxer.Inspector](t, r).Inspect
		begun := time.Now()
		left := func() time.Duration {
			in, err := inspect(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if age := time.Since(in.CreatedAt); age < -3*time.Second || age > time.Minute {
				t.Errorf("clock ahead by %v: it seems to be %v old", ahead, age)
			}
			return in.ExpiresAt.Sub(begun)
		}
		near := func(what string, got, want time.Duration) {
			t.Helper()
			if d := got - want; d < -3*time.Second || d > 3*time.Second {
				t.Errorf("clock ahead by %v: %s: %v, want about %v", ahead, what, got, want)
			}
		}
		near("after the create", left(), 30*time.Minute)
		got, err := extend(t.Context(), target, begun.Add(25*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		near("asked for less than it has", got.Sub(begun), 30*time.Minute)
		near("shown then", left(), 30*time.Minute)
		if got, err = extend(t.Context(), target, begun.Add(33*time.Minute)); err != nil {
			t.Fatal(err)
		}
		near("asked for a little more", got.Sub(begun), 33*time.Minute)
		near("shown then", left(), 33*time.Minute)
		for in, err := range as[sandboxer.Lister](t, r).List(t.Context(), sandboxer.ListQuery{Secret: r.key.secret}) {
			if err != nil {
				t.Fatal(err)
			}
			near("listed", in.ExpiresAt.Sub(begun), 33*time.Minute)
		}
		later := newRig(t, s, nil) // as after a restart
		reach, err := later.WaitReady(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		near("after a restart", reach.ExpiresAt.Sub(begun), 33*time.Minute)
	}
}

// TestExtendsDoNotCross: of many who extend at once the one who asks for most decides, whoever comes last.
func TestExtendsDoNotCross(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	extend := as[sandboxer.Extender](t, r).Extend
	begun := time.Now()
	s.Fail(e2btest.Fault{Match: "POST /sandboxes/*/timeout", Delay: 5 * time.Millisecond})
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			asks := time.Duration(31+(i*7)%20) * time.Minute
			got, err := extend(t.Context(), target, begun.Add(asks))
			if err != nil || got.Sub(begun) < asks-2*time.Second {
				t.Errorf("asked for %v: %v, %v", asks, got.Sub(begun), err)
			}
		})
	}
	work.Wait()
	in, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
	if left := in.ExpiresAt.Sub(begun); err != nil || left < 50*time.Minute-2*time.Second || left > 51*time.Minute {
		t.Errorf("in the end it has %v, %v; somebody asked for 50 minutes", left, err)
	}
}
