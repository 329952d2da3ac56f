package adaptertest

import (
	"context"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const whyMeter = "what a meter says is put on a bill, and bills are checked"

func meterChecks() []check {
	needs := []sandboxer.Capability{sandboxer.CapMeter}
	return []check{{
		name: "meter/estimate", needs: needs, alone: true,
		rule: "EstimateCost prices a lifetime, exactly, and creates nothing",
		why:  "quotes are asked for every place that a create could go to, and budgets are reserved by them",
		run: func(t *trial) {
			meter, _ := sandboxer.As[sandboxer.Meterer](t.s.one.spy)
			profile := t.shared().req.Profile
			before := append(t.s.liveNames(t), t.listedNames()...)
			quote := func(d time.Duration) sandboxer.MeterQuote {
				q, err := do(t, "EstimateCost", func(ctx context.Context) (sandboxer.MeterQuote, error) { return meter.EstimateCost(ctx, profile, d) })
				t.ok("EstimateCost", err)
				if q.For != 0 && q.For != d {
					t.broken("EstimateCost was asked for %v and priced %v", d, q.For)
				}
				t.sums("EstimateCost", q.Lines, q.Total)
				return q
			}
			one, two := quote(time.Hour), quote(2*time.Hour)
			if c, err := two.Total.Cmp(one.Total); err != nil || c < 0 {
				t.broken("two hours cost %v, and one hour %v", two.Total, one.Total)
			}
			for _, name := range append(t.s.liveNames(t), t.listedNames()...) {
				if !slices.Contains(before, name) {
					t.broken("while costs were estimated, %s was created", name)
				}
			}
		},
	}, {
		name: "meter/cumulative", needs: needs,
		rule: "MeterActual is cumulative since Provision, never falls, and its total is the sum of its lines",
		why:  whyMeter,
		run: func(t *trial) {
			b := t.newBox()
			time.Sleep(100 * time.Millisecond)
			last := t.reading(b)
			for range 3 {
				time.Sleep(5 * time.Millisecond)
				now := t.reading(b)
				t.noLess(last, now)
				last = now
			}
			if last.Final {
				t.broken("MeterActual of a sandbox that runs says that it is final")
			}
		},
	}, {
		name: "meter/final", needs: needs,
		rule: "MeterActual answers after Teardown too, and is final then",
		why:  "the last reading is taken when the sandbox is gone, and after a crash long after: without it the end is billed to nobody",
		run: func(t *trial) {
			b := t.newBox()
			last := t.reading(b)
			t.teardown(b)
			now := t.reading(b)
			t.noLess(last, now)
			if !now.Final {
				t.broken("MeterActual after Teardown is not final")
			}
			if again := t.reading(b); again.Total != now.Total {
				t.broken("MeterActual after Teardown said %v, and then %v", now.Total, again.Total)
			}
		},
	}, {
		name: "meter/snapshots", needs: []sandboxer.Capability{sandboxer.CapMeter, sandboxer.CapSnapshot},
		rule: "SnapshotCost, where there is one, prices a time exactly, and its parts as much as the whole",
		why:  "what is stored is billed in parts, while it is kept: they may neither overlap nor leave anything out",
		run:  (*trial).snapshotPrices,
	}}
}

func (t *trial) snapshotPrices() {
	pricer, ok := sandboxer.As[sandboxer.SnapshotPricer](t.s.one.spy)
	if !ok {
		return // its snapshots are recorded without a price
	}
	s := sandboxer.Snapshot{
		ID: snapshotID(), Extension: t.s.manifest.ID, Status: sandboxer.SnapshotReady, Kind: "filesystem", SizeBytes: 3<<30 + 12345,
		CreatedAt: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
	var rounding int64 // each line of each part is rounded by itself, by a millionth of its unit and a billionth at most
	price := func(from, to time.Duration) int64 {
		lines, err := do(t, "SnapshotCost", func(ctx context.Context) ([]sandboxer.MeterLine, error) {
			return pricer.SnapshotCost(ctx, s, s.CreatedAt.Add(from), s.CreatedAt.Add(to))
		})
		t.ok("SnapshotCost", err)
		total, err := sandboxer.SumLines(lines)
		t.ok("adding up the lines of SnapshotCost", err)
		t.sums("SnapshotCost", lines, total)
		for _, l := range lines {
			rounding += l.UnitPrice.Nanos()/1_000_000 + 1
		}
		return total.Nanos()
	}
	const day = 24 * time.Hour
	whole, parts := price(0, 2*day), price(0, day/3)+price(day/3, day)+price(day, 2*day)
	if diff := whole - parts; diff < -rounding || diff > rounding {
		t.broken("two days cost %d billionths, and in three parts %d", whole, parts)
	}
	if half := price(0, day); half > whole {
		t.broken("one day costs %d billionths, and two cost %d", half, whole)
	}
}

// reading reads the meter of b, once it shows anything.
func (t *trial) reading(b *box) sandboxer.MeterReading {
	t.Helper()
	meter, _ := sandboxer.As[sandboxer.Meterer](b.ext)
	r, err := do(t, "MeterActual", func(ctx context.Context) (sandboxer.MeterReading, error) { return meter.MeterActual(ctx, b.target) })
	t.ok("MeterActual", err)
	t.sums("MeterActual", r.Lines, r.Total)
	if r.To.Before(r.From) {
		t.broken("MeterActual is of a time that ends before it begins: %v to %v", r.From, r.To)
	}
	return r
}

func (t *trial) sums(what string, lines []sandboxer.MeterLine, total sandboxer.Money) {
	t.Helper()
	sum, err := sandboxer.SumLines(lines)
	t.ok("adding up the lines of "+what, err)
	if c, err := sum.Cmp(total); err != nil || c != 0 {
		t.broken("%s has a total of %v, and its lines add up to %v", what, total, sum)
	}
	for _, l := range lines {
		if l.Micros < 0 || l.Amount.Nanos() < 0 || l.UnitPrice.Nanos() < 0 {
			t.broken("%s has a negative line: %s", what, jsonOf(l))
		}
		again, err := sandboxer.NewMeterLine(l.Item, l.Unit, l.Micros, l.UnitPrice)
		t.ok("pricing a line of "+what+" again", err)
		if c, err := again.Amount.Cmp(l.Amount); err != nil || c != 0 {
			t.broken("%s has a line of %v that its quantity and price make %v: %s", what, l.Amount, again.Amount, jsonOf(l))
		}
	}
}

// noLess breaks the rule where a later reading is below an earlier one.
func (t *trial) noLess(before, now sandboxer.MeterReading) {
	t.Helper()
	if c, err := now.Total.Cmp(before.Total); err != nil || c < 0 {
		t.broken("MeterActual said %v, and later %v", before.Total, now.Total)
	}
	was := map[string]int64{}
	for _, l := range before.Lines {
		was[l.Item] += l.Micros
	}
	for _, l := range now.Lines {
		was[l.Item] -= l.Micros
	}
	for item, less := range was {
		if less > 0 {
			t.broken("MeterActual counted less of %q the second time: by %d millionths", item, less)
		}
	}
	if now.To.Before(before.To) || !now.From.Equal(before.From) {
		t.broken("MeterActual was of %v to %v, and later of %v to %v: it is cumulative since Provision", before.From, before.To, now.From, now.To)
	}
}
