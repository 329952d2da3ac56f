package saasstub

import (
	"context"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/pricing"
)

// PriceList names the prices, which are invented and never change: a new table is a new name.
//
//	a vCPU-second   0.000014 USD
//	a GiB-second    0.0000045 USD of memory
//	a GiB-second    0.00000004 USD of a stored snapshot
//
// Paused time is free. A profile that leaves a quantity to the service is priced as 1 vCPU and 1 GiB.
const PriceList = "saasstub 2026-11-01"

var prices = pricing.Table{
	Name: PriceList, VCPUSecond: 14_000, GiBSecond: 4_500, Stored: 40,
	Default: sandboxer.Resources{CPUMillis: 1000, MemoryBytes: 1 << 30},
}

// EstimateCost prices a sandbox of p that is never paused.
func (e *extension) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	if ctx.Err() != nil {
		return sandboxer.MeterQuote{}, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	quote, err := prices.Quote(p.Resources, d)
	if err != nil {
		return sandboxer.MeterQuote{}, fmt.Errorf("%s over %v: %w", p.ID, d, err)
	}
	return quote, nil
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
	switch {
	case s == nil, !ours(s.labels, t.Labels):
		return sandboxer.MeterReading{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s has no meter at %s", p.name, e.id))
	case s.key != key:
		return sandboxer.MeterReading{}, e.notVisible(p.name)
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
	lines, total, err := prices.Lines(s.resources, s.metered.Sub(s.created)-idle)
	return sandboxer.MeterReading{From: s.created.UTC(), To: s.metered.UTC(), Lines: lines, Total: total, Final: final}, err
}

// SnapshotCost prices a stored snapshot by its size and time.
func (e *extension) SnapshotCost(ctx context.Context, s sandboxer.Snapshot, from, to time.Time) ([]sandboxer.MeterLine, error) {
	if ctx.Err() != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	lines, err := prices.StoredLines(s.SizeBytes, to.Sub(from))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s from %v to %v: %w", s.ID, from, to, err)
	}
	return lines, nil
}
