package e2b

import (
	"context"
	"errors"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/pricing"
)

// The published prices: $0.000014 for a vCPU-second and $0.0000045 for a GiB-second; paused is free.
// https://e2b.dev/pricing, August 2026.
var prices = pricing.Table{Name: "e2b 2026-08", VCPUSecond: 14_000, GiBSecond: 4_500}

const maxEndedMeters = 10_000

// What a sandbox of the template base has, August 2026.
const (
	defaultCPUMillis = 2000
	defaultMemory    = 512 << 20
)

// meter is the time that a sandbox ran, as this process saw it.
type meter struct {
	from   time.Time
	ran    time.Duration
	since  time.Time // running since then; zero: it does not run
	last   time.Time // when it stopped
	cpu    int64     // thousandths
	memory int64     // bytes
	known  bool      // cpu and memory were read from E2B
	final  bool
}

func (m *meter) total(now time.Time) time.Duration {
	if m.since.IsZero() {
		return m.ran
	}
	return m.ran + max(now.Sub(m.since), 0)
}

func (m *meter) stop(at time.Time) {
	m.ran, m.since, m.last = m.total(at), time.Time{}, at
}

// EstimateCost prices a sandbox of p that lives for d, at the published prices. Without resources in the profile it is one
// of the template base: 2 vCPU and 512 MiB.
func (e *extension) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	if err := ended(ctx); err != nil {
		return sandboxer.MeterQuote{}, err
	}
	cpu, memory := planned(p)
	return prices.Quote(sandboxer.Resources{CPUMillis: cpu, MemoryBytes: memory}, max(d, 0))
}

func (e *extension) startMeter(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.meters[s.Sandbox] == nil {
		e.meters[s.Sandbox] = newMeter(s)
	}
}

func newMeter(s state) *meter {
	return &meter{from: s.Created, since: s.Created, cpu: s.CPU, memory: s.Memory}
}

func (e *extension) pauseMeter(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	if m == nil {
		m = newMeter(s)
		e.meters[s.Sandbox] = m
	}
	if !m.since.IsZero() {
		m.stop(time.Now())
	}
}

func (e *extension) resumeMeter(s state, wasPaused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	switch {
	case m == nil:
		e.meters[s.Sandbox] = newMeter(s)
	case m.since.IsZero() && wasPaused && !m.final:
		m.since = time.Now()
	}
}

// endMeter stops a meter for good. It is kept for a while, since what a sandbox cost is asked for after its end.
func (e *extension) endMeter(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.meters[id]; m != nil {
		e.finish(m, id, time.Now())
	}
}

// finish makes m final. The caller holds e.mu.
func (e *extension) finish(m *meter, id string, at time.Time) {
	if m.final {
		return
	}
	if !m.since.IsZero() {
		m.stop(at)
	}
	m.final = true
	if e.ended = append(e.ended, id); len(e.ended) > maxEndedMeters {
		delete(e.meters, e.ended[0])
		e.ended = e.ended[1:]
	}
}

// MeterActual is the time that the sandbox ran, at the published prices. Time spent paused is free; of a pause that an
// earlier process made only what E2B still shows is known, and the rest counts as running.
func (e *extension) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	if err := ended(ctx); err != nil {
		return sandboxer.MeterReading{}, err
	}
	if !t.Handle.HasState() {
		return sandboxer.MeterReading{}, sandboxer.Refused(sandboxer.NotFound, errors.New("nothing is known of this sandbox, so it has no meter"))
	}
	s, err := stateOf(t)
	if err != nil {
		return sandboxer.MeterReading{}, err
	}
	if err := e.sizeMeter(ctx, t, s); err != nil {
		return sandboxer.MeterReading{}, err
	}
	now := time.Now()
	e.mu.Lock()
	m := *e.meters[s.Sandbox]
	e.mu.Unlock()
	ran := m.total(now)
	lines, total, err := prices.Lines(sandboxer.Resources{CPUMillis: m.cpu, MemoryBytes: m.memory}, ran)
	to := now
	if m.since.IsZero() {
		to = m.last
	}
	return sandboxer.MeterReading{From: m.from.UTC(), To: to.UTC(), Lines: lines, Total: total, Final: m.final}, err
}

// sizeMeter makes sure that there is a meter, and that it has the size that E2B shows. It asks once for each sandbox.
func (e *extension) sizeMeter(ctx context.Context, t sandboxer.Target, s state) error {
	e.mu.Lock()
	have := e.meters[s.Sandbox]
	enough := have != nil && (have.known || have.final)
	e.mu.Unlock()
	if enough {
		return nil
	}
	d, err := e.describe(ctx, t.Secret, s)
	if err != nil && !errors.Is(err, sandboxer.NotFound) {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	if m == nil {
		m = newMeter(s)
		e.meters[s.Sandbox] = m
	}
	switch now := time.Now(); {
	case d == nil: // it ended, at the latest at its own deadline
		end := s.deadline()
		if t.ExpiresAt.After(end) {
			end = t.ExpiresAt
		}
		if end.IsZero() || end.After(now) {
			end = now
		}
		e.finish(m, s.Sandbox, end)
		return nil
	case d.paused() && !m.since.IsZero():
		m.stop(now)
	}
	m.known = true
	if d.CPUCount > 0 && d.MemoryMB > 0 {
		m.cpu, m.memory = d.CPUCount*1000, d.MemoryMB<<20
	}
	return nil
}
