package fake

import (
	"context"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/pricing"
)

// PriceList names the fake's prices: 0.001 USD a sandbox, 0.00001 USD a vCPU-second, 0.000002 USD a GiB-second, 0.00000004 USD
// a GiB-second of a stored snapshot. A profile without resources is priced as 1 vCPU and 1 GiB. Invented, and never changed.
const PriceList = "fake 2026-11-01"

var prices = pricing.Table{
	Name: PriceList, Sandbox: 1_000_000, VCPUSecond: 10_000, GiBSecond: 2_000, Stored: 40,
	Default: sandboxer.Resources{CPUMillis: 1000, MemoryBytes: 1 << 30},
}

// reading is what a sandbox has used.
type reading struct {
	uid         int64
	payer       string
	owner       string
	from, to    int64
	used        int64 // nanoseconds, less the paused ones
	cpu, memory int64
	final       bool
}

// reading returns what s has used up to now; its shard is locked.
func (s *sandbox) reading(now int64) reading {
	paused := s.pausedTotal
	if s.paused {
		paused += now - s.pausedAt
	}
	return reading{uid: s.uid, payer: s.payer, owner: s.labels.get(sandboxer.LabelOwner), from: s.created, to: now,
		used: max(0, now-s.created-paused), cpu: s.cpu, memory: s.memory}
}

func (b *Backend) meter(extension string) { b.metering.Store(extension, true) }

func (b *Backend) metered(extension string) bool {
	_, ok := b.metering.Load(extension)
	return ok
}

// lines prices what was used.
func (r reading) lines() ([]sandboxer.MeterLine, sandboxer.Money, error) {
	return prices.Lines(sandboxer.Resources{CPUMillis: r.cpu, MemoryBytes: r.memory}, time.Duration(r.used))
}

// EstimateCost prices a sandbox of p that lives for d and is never paused.
func (e *extension) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	var q sandboxer.MeterQuote
	err := e.call(ctx, sandboxer.Call{Op: sandboxer.OpEstimateCost, Profile: p.ID}, func(hit) error {
		if e.b.broken(EstimateCreates) {
			e.b.Plant(e.id, "", string(sandboxer.NewID()), map[string]string{sandboxer.LabelOwner: "estimate"})
		}
		var err error
		q, err = prices.Quote(p.Resources, d)
		return err
	})
	if err != nil {
		return sandboxer.MeterQuote{}, e.plain(seen(err))
	}
	return q, nil
}

// MeterActual reads what a sandbox has cost, also when it is gone.
func (e *extension) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	var out sandboxer.MeterReading
	err := e.do(ctx, sandboxer.OpMeterActual, t, func(hit) error {
		payer, err := e.enter(ctx, t)
		if err != nil {
			return err
		}
		r, ok := e.b.readingOf(e.key(t), t.Labels)
		if !ok || r.payer != payer || r.final && e.b.broken(MeterForgets) {
			return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s at %s was never seen by the meter", e.key(t).name, where(e.key(t))))
		}
		if e.b.broken(MeterFalls) && e.b.Count(sandboxer.OpMeterActual) > 1 {
			r.used = 0
		}
		ls, total, err := r.lines()
		if e.b.broken(MeterWrongSum) && len(ls) > 0 {
			total = ls[0].Amount
		}
		out = sandboxer.MeterReading{From: at(r.from), To: at(r.to), Lines: ls, Total: total, Final: r.final && !e.b.broken(MeterNeverFinal)}
		return err
	})
	if err != nil {
		return sandboxer.MeterReading{}, err
	}
	return out, nil
}

// readingOf reads the meter of a sandbox that is there, or of the latest of that name.
func (b *Backend) readingOf(k key, owner map[string]string) (reading, bool) {
	now := time.Now().UnixNano()
	sh := b.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := b.get(sh, k, now); s != nil {
		return s.reading(now), s.labels.ours(owner)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.meters[k]
	r.final = true
	want := owner[sandboxer.LabelOwner]
	return r, ok && (want == "" || want == r.owner)
}
