package manager

import (
	"context"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// estimated is what is accounted for attempt a where its backend cannot say what it cost: the price of its whole time up to
// until, or, where nobody can price that any more, the time alone. Nil where nobody bills.
func (m *Manager) estimated(ctx context.Context, r *record, a *attempt, until time.Time) *sandboxer.MeterReading {
	meter, metered := m.meterOf(a.Extension)
	if !metered && r.Quote == nil {
		return nil
	}
	if end := m.ownEnd(r); !end.IsZero() && end.Before(until) {
		until = end
	}
	used := max(0, until.Sub(a.StartedAt))
	out := &sandboxer.MeterReading{From: a.StartedAt, To: a.StartedAt.Add(used), Final: true, Estimated: true}
	if metered {
		ctx, cancel := context.WithTimeout(ctx, m.cfg.TeardownTimeout/4)
		defer cancel()
		var q sandboxer.MeterQuote
		err := m.call(ctx, callOf(sandboxer.OpEstimateCost, r, a), func(ctx context.Context) (err error) {
			q, err = meter.EstimateCost(ctx, own.Profile(a.Recipe.Profile), used)
			return err
		})
		if err == nil {
			out.Lines, out.Total = q.Lines, q.Total
			return out
		}
		m.cfg.Logger.WarnContext(ctx, "a cost cannot be estimated; the time alone is recorded", "sandbox", r.ID, "consumer", r.Asked.Consumer.ID, "error", err)
	}
	if l, err := sandboxer.NewMeterLine("time", "second", used.Microseconds(), sandboxer.Money{}); err == nil {
		out.Lines = []sandboxer.MeterLine{l}
	}
	return out
}

func (m *Manager) meterOf(extension string) (sandboxer.Meterer, bool) {
	x, err := m.extension(extension)
	if err != nil {
		return nil, false
	}
	return sandboxer.As[sandboxer.Meterer](x.ext)
}

// ownEnd is when the backend has, by its own word, ended the sandbox by itself; zero where it does not do that, or may not.
func (m *Manager) ownEnd(r *record) time.Time {
	if r.Reach == nil || r.Undying || r.Pausing || !r.Extending.IsZero() {
		return time.Time{}
	}
	return r.Reach.ExpiresAt
}

// lastWord is what is accounted for a sandbox that is given up: the meter's reading, if it still answers, and otherwise an
// estimate. It may cost more from then on.
func (m *Manager) lastWord(ctx context.Context, r *record, a *attempt) *sandboxer.MeterReading {
	at := now()
	x, err := m.extension(a.Extension)
	host, hostErr := m.host(a.Host)
	if err == nil && hostErr == nil {
		if reading := m.lastReading(ctx, x, r, a, m.target(r, a, host, nil)); reading != nil {
			reading.Estimated = reading.Estimated || !reading.Final
			return reading
		}
	}
	return m.estimated(ctx, r, a, at)
}
