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
	from    time.Time
	ran     time.Duration
	since   time.Time // running since then; zero: it does not run
	last    time.Time // when it stopped
	end     time.Time // E2B ends it then, as far as is known; zero: not known
	changed time.Time // when it was last paused or resumed; what E2B was asked before says nothing
	cpu     int64     // thousandths
	memory  int64     // bytes
	known   bool      // cpu and memory were read from E2B
	guessed bool      // when it was paused or resumed is not known
	final   bool
}

// until is how far the time before now counts: not beyond E2B's own deadline.
func (m *meter) until(now time.Time) time.Time {
	if !m.end.IsZero() && now.After(m.end) {
		return m.end
	}
	return now
}

func (m *meter) total(now time.Time) time.Duration {
	if m.since.IsZero() {
		return m.ran
	}
	return m.ran + max(m.until(now).Sub(m.since), 0)
}

func (m *meter) stop(at time.Time) {
	m.ran, m.since, m.last, m.changed = m.total(at), time.Time{}, m.until(at), at
}

// take goes by what E2B shows.
func (m *meter) take(d *described) {
	if m.final || !d.sent.After(m.changed) {
		return
	}
	switch {
	case d.paused() && !m.since.IsZero():
		m.stop(d.sent)
		m.guessed = true
	case !d.paused() && m.since.IsZero():
		m.since, m.changed, m.guessed = d.sent, d.sent, true
	}
	if !d.paused() {
		m.end = d.EndAt
	}
	m.known = true
	if d.CPUCount > 0 && d.MemoryMB > 0 {
		m.cpu, m.memory = d.CPUCount*1000, d.MemoryMB<<20
	}
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
	return &meter{from: s.Created, since: s.Created, end: s.deadline(), cpu: s.CPU, memory: s.Memory}
}

func (e *extension) pauseMeter(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	if m == nil {
		m = newMeter(s)
		e.meters[s.Sandbox] = m
	}
	if now := time.Now(); m.since.IsZero() {
		m.changed = now
	} else {
		m.stop(now)
	}
}

// resumeMeter is for a sandbox that runs from now on, or did all the time.
func (e *extension) resumeMeter(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	switch {
	case m == nil:
		e.meters[s.Sandbox] = newMeter(s)
	case m.since.IsZero() && !m.final:
		now := time.Now()
		m.since, m.changed, m.end = now, now, time.Time{}
	}
}

// reconcile has a meter go by what E2B shows.
func (e *extension) reconcile(d *described) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.meters[d.SandboxID]; m != nil {
		m.take(d)
	}
}

// endMeter stops a meter for good: of a sandbox that was there until now, or that had ended before, at the latest at its own
// deadline. It is kept for a while, since what a sandbox cost is asked for after its end.
func (e *extension) endMeter(id string, wasThere bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.meters[id]; m != nil {
		if wasThere && !m.final {
			m.end = time.Time{}
		}
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

// MeterActual is the time that the sandbox ran, at the published prices, and not beyond E2B's own deadline. Time spent paused is
// free. The reading is Estimated where a pause began or ended unseen; of those that an earlier process made only the one that
// E2B still shows is known, and the rest counts as running.
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
	m, err := e.readMeter(ctx, t, s)
	if err != nil {
		return sandboxer.MeterReading{}, err
	}
	now := time.Now()
	lines, total, err := prices.Lines(sandboxer.Resources{CPUMillis: m.cpu, MemoryBytes: m.memory}, m.total(now))
	to := m.until(now)
	if m.since.IsZero() {
		to = m.last
	}
	return sandboxer.MeterReading{From: m.from.UTC(), To: to.UTC(), Lines: lines, Total: total, Final: m.final, Estimated: m.guessed}, err
}

// readMeter returns a copy of the meter. E2B is asked where its size is not known, or where its end should have come.
func (e *extension) readMeter(ctx context.Context, t sandboxer.Target, s state) (meter, error) {
	now := time.Now()
	e.mu.Lock()
	have := e.meters[s.Sandbox]
	if have != nil && (have.final || have.known && (have.since.IsZero() || have.until(now).Equal(now))) {
		defer e.mu.Unlock()
		return *have, nil
	}
	e.mu.Unlock()
	d, err := e.describe(ctx, t.Secret, s)
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.meters[s.Sandbox]
	switch {
	case err != nil && !errors.Is(err, sandboxer.NotFound):
		if m == nil || !m.known {
			return meter{}, err
		}
		at := *m // up to the deadline that was known
		at.guessed = true
		return at, nil
	case m == nil:
		m = newMeter(s)
		e.meters[s.Sandbox] = m
		if t.ExpiresAt.After(m.end) {
			m.end = t.ExpiresAt
		}
	}
	if d != nil {
		m.take(d)
	} else { // it ended, at the latest at its own deadline
		e.finish(m, s.Sandbox, now)
	}
	return *m, nil
}
