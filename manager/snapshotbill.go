package manager

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
)

// metersSnapshots reports whether what extension stores is accounted for: where its sandboxes are.
func (m *Manager) metersSnapshots(extension string) bool {
	x := m.extensions[extension]
	return m.cfg.Meter != nil && x != nil && x.can(sandboxer.CapMeter)
}

// meteredUntil is the end of the last meter record of r, at first its beginning.
func (r *snapshotRecord) meteredUntil() time.Time {
	if r.Metered.IsZero() {
		return r.Snap.CreatedAt
	}
	return r.Metered
}

// billSnapshot is the meter record of r from the end of the last one up to now, for the outbox, and moves that end. It
// belongs into the commit that stores r, or, where final, that drops it. Where ctx ended before there was a price it is an error.
func (m *Manager) billSnapshot(ctx context.Context, r *snapshotRecord, final, estimated bool) ([]store.Mutation, error) {
	from, to := r.meteredUntil(), now()
	if !m.metersSnapshots(r.Snap.Extension) || !to.After(from) {
		return nil, nil
	}
	lines, total, guessed := m.snapshotLines(ctx, r, from, to)
	if guessed && ctx.Err() != nil { // whoever asks again gets the price
		return nil, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	r.Bills++
	r.Metered = to
	out, err := metering.Outbox(metering.Record{
		Key:     fmt.Sprintf("snapshot/%s/%s/%d", r.Snap.ID, keyTime(r.Snap.CreatedAt), r.Bills),
		Sandbox: r.Snap.Source, Snapshot: r.Snap.ID, Extension: r.Snap.Extension, Host: r.Snap.Host, Consumer: r.Snap.Consumer,
		Payer: r.Snap.Payer, From: from, To: to, Lines: lines, Total: total, Final: final, Estimated: estimated || guessed,
	})
	if err != nil {
		return nil, err
	}
	return []store.Mutation{out}, nil
}

// snapshotLines prices r between two instants; where its extension has no price, they are how much was kept for how long. A
// snapshot that was never finished has no size that is known.
func (m *Manager) snapshotLines(ctx context.Context, r *snapshotRecord, from, to time.Time) (lines []sandboxer.MeterLine, total sandboxer.Money, guessed bool) {
	guessed = r.Snap.Kind == "" && r.Snap.SizeBytes == 0
	if pricer, ok := sandboxer.As[sandboxer.SnapshotPricer](m.extensions[r.Snap.Extension].ext); ok {
		lines, total, err := m.priceSnapshot(ctx, pricer, r, from, to)
		if err == nil {
			return lines, total, guessed
		}
		guessed = true
		m.cfg.Logger.WarnContext(ctx, "a stored snapshot cannot be priced; its size and time alone are recorded", "snapshot", r.Snap.ID, "consumer", r.Snap.Consumer.ID, "error", err)
	}
	l, err := sandboxer.NewMeterLine("snapshot", "gib-second", gibMicros(r.Snap.SizeBytes, to.Sub(from)), sandboxer.Money{})
	if err != nil {
		return nil, sandboxer.Money{}, true
	}
	return []sandboxer.MeterLine{l}, l.Amount, guessed
}

// priceSnapshot asks as a sandbox's meter is asked: what fails once may succeed.
func (m *Manager) priceSnapshot(ctx context.Context, pricer sandboxer.SnapshotPricer, r *snapshotRecord, from, to time.Time) (lines []sandboxer.MeterLine, total sandboxer.Money, err error) {
	for tries := range 3 {
		err = m.call(ctx, snapshotCall(sandboxer.OpSnapshotCost, r.Snap), func(ctx context.Context) (err error) {
			lines, err = pricer.SnapshotCost(ctx, own.Snapshot(r.Snap), from, to)
			return err
		})
		if err == nil {
			total, err = sandboxer.SumLines(lines)
			return lines, total, err
		}
		if sleep(ctx, jittered(100*time.Millisecond<<tries, time.Second)) != nil {
			break
		}
	}
	return nil, sandboxer.Money{}, err
}

// gibMicros is size bytes kept for d, in millionths of a GiB-second, rounded down; what does not fit is the most there is.
func gibMicros(size int64, d time.Duration) int64 {
	hi, lo := bits.Mul64(uint64(max(size, 0)), uint64(max(d.Microseconds(), 0)))
	if hi >= 1<<29 {
		return math.MaxInt64
	}
	return int64(hi<<34 | lo>>30)
}

// meterSnapshot accounts for a snapshot that is kept on.
func (m *Manager) meterSnapshot(ctx context.Context, r *snapshotRecord) error {
	bill, err := m.billSnapshot(ctx, r, false, false)
	if err != nil {
		return err
	}
	return m.saveSnapshot(ctx, "snapshot-metered", r, bill...)
}

// meterDue is when r is accounted for next, while it is kept; zero: not before its end.
func (m *Manager) meterDue(r *snapshotRecord) time.Time {
	if r.Snap.Status != sandboxer.SnapshotReady || !m.metersSnapshots(r.Snap.Extension) {
		return time.Time{}
	}
	return r.meteredUntil().Add(m.cfg.MeterSnapshots)
}
