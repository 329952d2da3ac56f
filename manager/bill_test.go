package manager_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// sum adds up what was billed, of which each record's lines must add up to its total, and returns how many records it was.
func (x *till) sum() (total sandboxer.Money, n int) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.got {
		lines, err := sandboxer.SumLines(r.Lines)
		if err != nil || lines.Nanos() != r.Total.Nanos() {
			x.t.Errorf("%s has a total of %v, and lines of %v (%v): %+v", r.Key, r.Total, lines, err, r.Lines)
		}
		if total, err = total.Add(r.Total); err != nil {
			x.t.Fatal(err)
		}
	}
	return total, len(x.got)
}

// TestFoundAgainIsBilledOnce: what the reaper finds of a sandbox whose end was billed is billed for what it cost since: all
// records of an attempt together are what the backend asks for, whatever the first of them said. It was seen to fail on
// strays that are billed since their Provision.
func TestFoundAgainIsBilledOnce(t *testing.T) {
	t.Parallel()
	teardown := fake.Fault{Op: sandboxer.OpTeardown, Err: errLost}
	silent := fake.Fault{Op: sandboxer.OpMeterActual, Err: errLost}
	for name, c := range map[string]struct {
		faults  []fake.Fault
		paused  time.Duration // time that costs nothing, and that an estimate counts
		abandon bool
		again   bool // the stray is abandoned as well, and found once more
		records int
	}{
		"abandoned":                      {faults: []fake.Fault{teardown}, abandon: true, records: 2},
		"abandoned twice":                {faults: []fake.Fault{teardown}, abandon: true, again: true, records: 3},
		"abandoned on an estimate":       {faults: []fake.Fault{teardown, silent}, abandon: true, records: 2},
		"abandoned on one that is above": {faults: []fake.Fault{teardown, silent}, paused: 5 * time.Hour, abandon: true, records: 2},
		"abandoned on its time alone":    {faults: []fake.Fault{teardown, silent, {Op: sandboxer.OpEstimateCost, Err: errLost}}, abandon: true, records: 2},
		"its removal was a lie":          {faults: []fake.Fault{{Op: sandboxer.OpTeardown, Linger: 3 * time.Hour, Times: 1}}, records: 2},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter, sandboxer.CapList, sandboxer.CapPause)
				x := w.metered()
				m := w.open()
				req := ask("a")
				req.TTL = 20 * time.Hour
				sb := created(t, m, req)
				pass(time.Hour)
				if c.paused > 0 {
					if err := sb.Pause(context.Background()); err != nil {
						t.Fatal(err)
					}
					pass(c.paused)
				}
				for _, f := range c.faults {
					w.backend.Fail(f)
				}
				_, err := sb.Teardown(context.Background())
				if (err != nil) != c.abandon {
					t.Errorf("teardown: %v", err)
				}
				if c.abandon {
					if err := m.Abandon(context.Background(), "a", "the backend is gone"); err != nil {
						t.Fatal(err)
					}
				}
				pass(time.Hour)
				if c.again {
					if _, err := m.Reap(context.Background(), manager.ReapOptions{}); err == nil {
						t.Error("reaped")
					}
					if err := m.Abandon(context.Background(), strayOf(t, m), "it is still gone"); err != nil {
						t.Fatal(err)
					}
					pass(time.Hour)
				}
				w.backend.Heal()
				if r := reap(t, m, manager.ReapOptions{}); len(r.Orphaned) != 1 {
					t.Errorf("reaped %+v", r)
				}
				w.wantLive()
				pass(time.Minute)
				got, n := x.sum()
				if want := w.backend.Costs()["a"]; got != want || n != c.records {
					t.Errorf("%d records of %v; want %d of %v", n, got, c.records, want)
				}
				reap(t, m, manager.ReapOptions{})
				pass(time.Minute)
				if _, again := x.sum(); again != n {
					t.Errorf("another reap has billed %d more", again-n)
				}
			})
		})
	}
}

// hasty is an adapter whose backend says that it ends sandboxes much sooner than it does.
type hasty struct {
	sandboxer.Extension
	after time.Duration
}

func (x hasty) Unwrap() sandboxer.Extension { return x.Extension }

func (x hasty) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	r, err := x.Extension.WaitReady(ctx, t)
	r.ExpiresAt = time.Now().Add(x.after)
	return r, err
}

// TestGivenUpAtItsDeadlineIsBilledOnce: a sandbox whose backend did not end it when it said is found, and billed from there on.
func TestGivenUpAtItsDeadlineIsBilledOnce(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapList)
		x := w.metered()
		w.adapters = []sandboxer.Adapter{w.backend.Adapter(w.caps...)}
		build := w.adapters[0].New
		w.adapters[0].New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			ext, err := build(ctx, s)
			return hasty{ext, time.Hour}, err
		}
		m := w.open()
		req := ask("a")
		req.TTL = 20 * time.Hour
		created(t, m, req)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost})
		pass(2 * time.Hour)
		wantState(t, m, "a", sandboxer.StateGone)
		x.wantBill("a/1", time.Hour, true)
		w.backend.Heal()
		if r := reap(t, m, manager.ReapOptions{}); len(r.Orphaned) != 1 {
			t.Errorf("reaped %+v", r)
		}
		w.wantLive()
		pass(time.Minute)
		if got, n := x.sum(); got != w.backend.Costs()["a"] || n != 2 {
			t.Errorf("%d records of %v; want 2 of %v", n, got, w.backend.Costs()["a"])
		}
	})
}

// TestLosingAttemptFoundAgainIsBilledOnce: the same holds for an attempt that lost, while the one that won lives.
func TestLosingAttemptFoundAgainIsBilledOnce(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapList).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2"})
		x := w.metered()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Delay: time.Minute, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Linger: 50 * time.Minute, Times: 1})
		m := w.open()
		created(t, m, ask("a"))
		pass(30 * time.Minute)
		x.wantBill("a/1", time.Minute, false)
		if r := reap(t, m, manager.ReapOptions{}); len(r.Orphaned) != 1 {
			t.Errorf("reaped %+v", r)
		}
		w.wantLive("a-2")
		pass(time.Minute)
		if got, n := x.sum(); got != w.backend.Costs()["a"] || n != 2 {
			t.Errorf("%d records of %v; want 2 of %v", n, got, w.backend.Costs()["a"])
		}
	})
}

// TestMeterFallsAtTheEnd: a meter that says less once the sandbox is gone takes nothing back. It was seen to fail where the
// last reading alone counted.
func TestMeterFallsAtTheEnd(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter)
		x := w.metered()
		m := w.open()
		sb := created(t, m, ask("a"))
		pass(time.Hour - time.Second)
		cost := w.backend.Costs()["a"]
		w.backend.Break(fake.MeterFalls)
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if r := x.bill("a/1"); r.Total != cost || !r.Estimated {
			t.Errorf("billed %v, estimated: %v; want %v", r.Total, r.Estimated, cost)
		}
	})
}

// strayOf finds the record that the reaper made.
func strayOf(t *testing.T, m *manager.Manager) sandboxer.ID {
	t.Helper()
	for sb, err := range m.List(context.Background(), manager.Filter{States: []sandboxer.State{sandboxer.StateOrphaned}}) {
		if err != nil {
			t.Fatal(err)
		}
		return sb.ID()
	}
	t.Fatal("no stray is orphaned")
	return ""
}

// TestAnotherOfItsNameIsBilledWhole: a resource that was made long after a sandbox of its name had ended is another, and
// nothing of it is billed yet.
func TestAnotherOfItsNameIsBilledWhole(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapList)
		x := w.metered()
		m := w.open()
		sb := created(t, m, ask("a"))
		pass(30 * time.Minute)
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		before, _ := x.sum()
		pass(time.Hour)
		w.backend.Plant("ext.fake", "", "a", stamped(owner(t, w.store), "a"))
		pass(time.Hour)
		if r := reap(t, m, manager.ReapOptions{}); len(r.Orphaned) != 1 {
			t.Errorf("reaped %+v", r)
		}
		pass(time.Minute)
		after, n := x.sum()
		got, err := after.Sub(before)
		if want := w.backend.Costs()["a"]; err != nil || got != want || n != 2 {
			t.Errorf("%d records, the second of %v (%v); want %v", n, got, err, want)
		}
	})
}

// reader is an adapter whose meter says what it is told to.
type reader struct {
	sandboxer.Extension
	reading sandboxer.MeterReading
}

func (x *reader) Unwrap() sandboxer.Extension { return x.Extension }

func (x *reader) EstimateCost(context.Context, sandboxer.Profile, time.Duration) (sandboxer.MeterQuote, error) {
	return sandboxer.MeterQuote{}, nil
}

func (x *reader) MeterActual(context.Context, sandboxer.Target) (sandboxer.MeterReading, error) {
	return x.reading, nil
}

// TestOddReadings: whatever a meter says, the removal ends, and its total is billed once. What contradicts itself, or no store
// could hold, is replaced and marked as an estimate, and the log names the extension. It was seen to fail on a bill of what
// the meter said.
func TestOddReadings(t *testing.T) {
	t.Parallel()
	line := func(item, price string) sandboxer.MeterLine {
		m, err := sandboxer.ParseMoney(price)
		if err != nil {
			t.Fatal(err)
		}
		l, err := sandboxer.NewMeterLine(item, "unit", 1_000_000, m)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	one := line("a", "1.00 USD")
	two := *usd(t, "2.00")
	var many []sandboxer.MeterLine
	var sum sandboxer.Money
	for i := range 20_000 {
		many = append(many, line(fmt.Sprintf("item %d", i), "0.01 USD"))
	}
	sum = *usd(t, "200.00")
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where virtual time begins
	for name, c := range map[string]struct {
		reading sandboxer.MeterReading
		total   sandboxer.Money
		sound   bool
	}{
		"sound":                   {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{one}, Total: one.Amount}, one.Amount, true},
		"without lines":           {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Total: two}, two, true},
		"of a place far east":     {sandboxer.MeterReading{From: at.In(time.FixedZone("", 26*3600)), To: at.Add(time.Hour), Total: two}, two, true},
		"more lines than fit":     {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: many, Total: sum}, sum, true},
		"a line that is too long": {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{line(strings.Repeat("x", 2<<20), "2.00 USD")}, Total: two}, two, true},
		"another total":           {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{one}, Total: two}, two, false},
		"no total":                {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{one}}, one.Amount, false},
		"two currencies":          {sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{one, line("b", "1.00 EUR")}, Total: two}, two, false},
		"backwards":               {sandboxer.MeterReading{From: at.Add(time.Hour), To: at, Total: two}, two, false},
		"without times":           {sandboxer.MeterReading{Total: two}, two, false},
		"beyond the year 9999":    {sandboxer.MeterReading{From: at.AddDate(8000, 0, 0), To: at.AddDate(9000, 0, 0), Total: two}, two, false},
		"ends beyond it":          {sandboxer.MeterReading{From: at, To: at.AddDate(9000, 0, 0), Total: two}, two, false},
		"begins tomorrow":         {sandboxer.MeterReading{From: at.AddDate(0, 0, 1), To: at.AddDate(0, 0, 2), Total: two}, two, false},
		"nothing":                 {sandboxer.MeterReading{}, sandboxer.Money{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter)
				var log strings.Builder
				w.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				x := w.metered()
				w.adapters = []sandboxer.Adapter{w.backend.Adapter(w.caps...)}
				build := w.adapters[0].New
				w.adapters[0].New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
					ext, err := build(ctx, s)
					return &reader{ext, c.reading}, err
				}
				m := w.open()
				sb := created(t, m, ask("a"))
				pass(time.Hour)
				if _, err := sb.Teardown(context.Background()); err != nil {
					t.Error(err)
				}
				pass(time.Minute)
				wantState(t, m, "a", sandboxer.StateGone)
				if len(x.got) != 1 {
					t.Fatalf("%d records", len(x.got))
				}
				r := x.bill("a/1")
				if !r.From.Equal(at) || !r.To.Equal(at.Add(time.Hour)) || r.Total != c.total || r.Estimated == c.sound {
					t.Errorf("billed %v from %v to %v, estimated: %v; want %v", r.Total, r.From, r.To, r.Estimated, c.total)
				}
				if said := strings.Contains(log.String(), "contradicts itself") && strings.Contains(log.String(), "extension=ext.fake"); said == c.sound {
					t.Errorf("the log: %s", log.String())
				}
				if reading, err := sb.Meter(context.Background()); err != nil || reading.Total != c.total || reading.Estimated == c.sound {
					t.Errorf("the meter says %v, estimated: %v (%v)", reading.Total, reading.Estimated, err)
				}
			})
		})
	}
}
