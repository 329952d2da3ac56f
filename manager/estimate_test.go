package manager_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/metering"
)

// wantBill checks that exactly one record was billed, for about so long, with something to pay or not, and whether it says
// that it is an estimate.
func (x *till) wantBill(key string, took time.Duration, estimated bool) metering.Record {
	x.t.Helper()
	if diff := cmp.Diff([]string{key}, x.keys()); diff != "" {
		x.t.Fatalf("billed (-want +got):\n%s", diff)
	}
	r := x.bill(key)
	if got := r.To.Sub(r.From); got < took || got > took+time.Minute || r.Estimated != estimated || !r.Final {
		x.t.Errorf("billed for %v, estimated %v, final %v; want %v and %v", got, r.Estimated, r.Final, took, estimated)
	}
	return r
}

// TestAbandonIsBilled: what an operator gives up is accounted for until then: by the meter where it answers, by the price of
// its time where the backend is gone, by its time where nobody can price it any more. It was seen to fail on an Abandon that
// bills nothing.
func TestAbandonIsBilled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults []fake.Fault
		gone   bool // the extension is not configured any more
		item   string
	}{
		"the meter answers":            {item: "cpu"},
		"the meter does not answer":    {faults: []fake.Fault{{Op: sandboxer.OpMeterActual, Err: errLost}}, item: "cpu"},
		"nobody knows a price":         {faults: []fake.Fault{{Op: sandboxer.OpMeterActual, Err: errLost}, {Op: sandboxer.OpEstimateCost, Err: errLost}}, item: "time"},
		"the extension is unknown now": {gone: true, item: "time"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter)
				x := w.metered()
				w.cfg.DefaultTTL = sandboxer.NoTTL
				m := w.open()
				sb := created(t, m, ask("a"))
				w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost})
				pass(10 * time.Minute)
				for _, f := range c.faults {
					w.backend.Fail(f)
				}
				if _, err := sb.Teardown(context.Background()); err == nil {
					t.Fatal("torn down")
				}
				if c.gone {
					if err := m.Close(); err != nil {
						t.Fatal(err)
					}
					a := fake.New().Adapter(w.caps...)
					a.Manifest = []byte("id: ext.other\ntitle: Other\nhandler: fake\ncapabilities:\n  isolation_levels: [container]\n  pricing_model: metered\n")
					a.Profiles = nil
					w.adapters = []sandboxer.Adapter{a}
					m = w.open()
				}
				pass(50 * time.Minute)
				if err := m.Abandon(context.Background(), "a", "the account is closed"); err != nil {
					t.Fatal(err)
				}
				wantState(t, m, "a", sandboxer.StateGone)
				pass(time.Minute)
				r := x.wantBill("a/1", time.Hour, true)
				ok := false
				for _, l := range r.Lines {
					ok = ok || l.Item == c.item && l.Micros > 0
				}
				if !ok {
					t.Errorf("no line of %q: %+v", c.item, r.Lines)
				}
				sb, err := m.Get(context.Background(), "a")
				if err != nil {
					t.Fatal(err)
				}
				if reading, err := sb.Meter(context.Background()); err != nil || !reading.Estimated {
					t.Errorf("the meter says %+v, %v", reading, err)
				}
			})
		})
	}
}

// TestForgottenIsBilled: a sandbox that ended by itself, and that its backend's meter has forgotten, is accounted for by
// time and price, and no longer than it can have lived. It was seen to fail without estimated.
func TestForgottenIsBilled(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapInspect)
		x := w.metered()
		w.cfg.DefaultTTL = time.Hour
		w.backend.Break(fake.MeterForgets)
		m := w.open()
		created(t, m, ask("a"))
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		pass(48 * time.Hour) // the backend has ended it a minute behind its hour
		m = w.open()
		pass(time.Minute)
		wantState(t, m, "a", sandboxer.StateGone)
		x.wantBill("a/1", time.Hour, true)
	})
}

// TestNeverThereIsNotBilled: where nothing was created nothing is accounted for, whether that was found out by looking or by
// a removal by name that found nothing to remove.
func TestNeverThereIsNotBilled(t *testing.T) {
	t.Parallel()
	for name, caps := range map[string][]sandboxer.Capability{
		"looked up": {sandboxer.CapMeter, sandboxer.CapFind}, "removed by name": {sandboxer.CapMeter},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, caps...)
				x := w.metered()
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Times: 10})
				m := w.open()
				_, err := m.Create(context.Background(), ask("a"))
				wantCode(t, err, sandboxer.CodeOf(errLost))
				wantState(t, m, "a", sandboxer.StateFailed)
				pass(time.Hour)
				if got := x.keys(); len(got) > 0 {
					t.Errorf("billed %v", got)
				}
			})
		})
	}
}
