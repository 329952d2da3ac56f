package saasstub

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// PriceList names the prices, which are invented and never change: a new table is a new name.
//
//	a vCPU-second   0.000014 USD
//	a GiB-second    0.0000045 USD of memory
//	a GiB-second    0.00000004 USD of a stored snapshot
//
// Paused time is free. A profile that leaves a quantity to the service is priced as 1 vCPU and 1 GiB.
const PriceList = "saasstub 2026-11-01"

// In billionths of a US dollar.
const (
	cpuPrice    = 14_000
	memoryPrice = 4_500
	storedPrice = 40
)

const (
	defaultCPU    = 1000 // thousandths
	defaultMemory = 1 << 30
)

// price makes the lines of a sandbox that ran for d. Quantities are rounded down to millionths of their unit.
func price(r sandboxer.Resources, d time.Duration) ([]sandboxer.MeterLine, sandboxer.Money, error) {
	cpu, memory := r.CPUMillis, r.MemoryBytes
	if cpu == 0 {
		cpu = defaultCPU
	}
	if memory == 0 {
		memory = defaultMemory
	}
	micros := max(0, d).Microseconds()
	var lines []sandboxer.MeterLine
	for _, item := range []struct {
		name, unit string
		amount     int64 // of what per is one unit
		per, price int64
	}{
		{"cpu", "vcpu-second", cpu, 1000, cpuPrice},
		{"memory", "gib-second", memory, 1 << 30, memoryPrice},
	} {
		quantity, err := scale(micros, item.amount, item.per)
		if err != nil {
			return nil, sandboxer.Money{}, err
		}
		each, err := sandboxer.NewMoney(item.price, "USD")
		if err != nil {
			return nil, sandboxer.Money{}, err
		}
		line, err := sandboxer.NewMeterLine(item.name, item.unit, quantity, each)
		if err != nil {
			return nil, sandboxer.Money{}, err
		}
		lines = append(lines, line)
	}
	total, err := sandboxer.SumLines(lines)
	return lines, total, err
}

// scale is a*b/c, exact up to the fraction that it drops.
func scale(a, b, c int64) (int64, error) {
	if a < 0 || b < 0 {
		return 0, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("a quantity of %d times %d cannot be priced: it is negative", a, b))
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi < uint64(c) {
		if q, _ := bits.Div64(hi, lo, uint64(c)); q <= math.MaxInt64 {
			return int64(q), nil
		}
	}
	return 0, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%d µs of %d is too much to be priced", a, b))
}

// EstimateCost prices a sandbox of p that is never paused.
func (e *extension) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	if ctx.Err() != nil {
		return sandboxer.MeterQuote{}, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	if d < 0 {
		return sandboxer.MeterQuote{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("a lifetime of %v cannot be priced; give one that ends", d))
	}
	lines, total, err := price(p.Resources, d)
	if err != nil {
		return sandboxer.MeterQuote{}, fmt.Errorf("%s over %v: %w", p.ID, d, err)
	}
	return sandboxer.MeterQuote{Lines: lines, Total: total, For: d, PriceList: PriceList}, nil
}

// MeterActual reads the meter of a sandbox, also of one that is gone.
func (e *extension) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	if err := read(t.Handle); err != nil {
		return sandboxer.MeterReading{}, err
	}
	key, err := e.enter(ctx, t.Secret)
	if err != nil {
		return sandboxer.MeterReading{}, err
	}
	p := place{e.id, t.Handle.Ref().Name()}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	now := e.now()
	s := e.service.get(p, now)
	if s == nil {
		s = e.service.ended[p]
	}
	if s == nil || s.key != key || !ours(s.labels, t.Labels) {
		return sandboxer.MeterReading{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s has no meter at %s, or not for this key", p.name, e.id))
	}
	return s.reading(now)
}

// reading is cumulative up to now, or to the end, and never below an earlier one.
func (s *sandbox) reading(now time.Time) (sandboxer.MeterReading, error) {
	final := !s.ended.IsZero()
	if final {
		now = s.ended
	}
	s.metered = later(now, s.metered)
	idle := s.idle
	if !s.paused.IsZero() {
		idle += s.metered.Sub(s.paused)
	}
	lines, total, err := price(s.resources, s.metered.Sub(s.created)-idle)
	return sandboxer.MeterReading{From: s.created.UTC(), To: s.metered.UTC(), Lines: lines, Total: total, Final: final}, err
}

// SnapshotCost prices a stored snapshot by its size and time.
func (e *extension) SnapshotCost(ctx context.Context, s sandboxer.Snapshot, from, to time.Time) ([]sandboxer.MeterLine, error) {
	if ctx.Err() != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	quantity, err := scale(to.Sub(from).Microseconds(), s.SizeBytes, 1<<30)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s from %v to %v: %w", s.ID, from, to, err)
	}
	each, err := sandboxer.NewMoney(storedPrice, "USD")
	if err != nil {
		return nil, err
	}
	line, err := sandboxer.NewMeterLine("snapshot", "gib-second", quantity, each)
	return []sandboxer.MeterLine{line}, err
}
