package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// records ends those whose time is over or whose resource is gone, and drops those that ended long ago.
func (rp *reaper) records(ctx context.Context) error {
	work := newBySpot(lookers)
	for r, err := range rp.m.records(ctx, Filter{}) {
		if err != nil {
			return err
		}
		if r.ended() {
			rp.purge(ctx, r)
			continue
		}
		a, id := r.current(), r.ID
		switch {
		case r.State != sandboxer.StateReady && r.State != sandboxer.StatePaused:
		case !r.ExpiresAt.IsZero() && now().After(r.ExpiresAt.Add(10*time.Second)): // the schedule was given its chance
			work.add(a.spot(), func(ctx context.Context) error { return rp.expired(ctx, id) })
		case !rp.seen[sighting{a.view(), a.Name}] && !rp.silent[a.view()]:
			work.add(a.spot(), func(ctx context.Context) error { return rp.lost(ctx, id) })
		}
	}
	if err := work.run(ctx); err != nil {
		rp.failed(err)
	}
	return nil
}

// lookers is how many sandboxes are looked up, or removed, at once at each spot.
const lookers = 8

// listTimeout bounds one listing of one backend.
const listTimeout = 5 * time.Minute

func reapedRecord(r *record, why string) Reaped {
	a := r.current()
	return Reaped{ID: string(r.ID), Name: a.Name, Extension: a.Extension, Host: a.Host, Reason: why}
}

func (rp *reaper) expired(ctx context.Context, id sandboxer.ID) error {
	var r *record
	var err error
	if rp.o.DryRun {
		r, err = rp.m.load(ctx, id)
	} else {
		r, err = rp.m.removeExpired(ctx, id)
	}
	if err != nil || r == nil {
		return err
	}
	rp.add(&rp.report.Expired, reapedRecord(r, "expired at "+r.ExpiresAt.Format(time.RFC3339)))
	return nil
}

// lost looks a sandbox up by name that no listing showed. Absence from a listing alone ends nothing.
func (rp *reaper) lost(ctx context.Context, id sandboxer.ID) error {
	r, err := rp.m.load(ctx, id)
	if err != nil {
		return err
	}
	var gone bool
	if rp.o.DryRun {
		ctx, cancel := context.WithTimeout(ctx, rp.m.cfg.TeardownTimeout)
		defer cancel()
		on, err := rp.m.subject(r, r.State)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		in, known, err := rp.m.observe(ctx, on)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		gone = known && in.State == sandboxer.StateGone
	} else if gone, err = rp.m.inspect(ctx, id); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	if gone {
		rp.add(&rp.report.Lost, reapedRecord(r, lost.sentence))
	}
	return nil
}

func (rp *reaper) purge(ctx context.Context, r *record) {
	if now().Sub(r.EndedAt) <= rp.m.cfg.Keep {
		return
	}
	if !rp.o.DryRun {
		_, err := rp.m.commit(ctx, "purge", store.Mutation{Do: store.Delete, Key: sandboxKey(r.ID), Expect: r.rev})
		if err != nil && !errors.Is(err, sandboxer.Aborted) {
			rp.failed(err)
			return
		}
	}
	rp.report.Purged++
}

// deliverTimeout bounds one round of deliveries: an exporter whose peer is dead must not be the last that is heard of.
const deliverTimeout = 5 * time.Minute

// deliver hands meter records on, in one goroutine at a time. What fails is delivered again, by the next call.
func (m *Manager) deliver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	select {
	case m.delivering <- struct{}{}:
		defer func() { <-m.delivering }()
	case <-ctx.Done():
		m.cfg.Logger.WarnContext(ctx, "meter records could not be delivered, because an exporter has not returned; they are kept")
		return
	}
	if _, err := m.cfg.Meter.Deliver(ctx, m.cfg.Store); err != nil {
		m.cfg.Logger.WarnContext(ctx, "meter records could not be delivered; they are kept", "error", err)
	}
}
