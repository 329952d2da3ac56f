package manager

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// exclusively loads the sandbox and runs f while nobody else changes it.
func (s *Sandbox) exclusively(ctx context.Context, op string, f func(context.Context, *record) error) error {
	ctx, done, err := s.m.begin(ctx)
	if err != nil {
		return wrap(op, &record{ID: s.id}, err)
	}
	defer done()
	ctx, release, err := s.m.acquire(ctx, string(s.id))
	if err != nil {
		return wrap(op, &record{ID: s.id}, err)
	}
	defer release()
	r, err := s.m.load(ctx, s.id)
	if err != nil {
		return wrap(op, &record{ID: s.id}, err)
	}
	return wrap(op, r, blame(ctx, f(ctx, r)))
}

// notStored is the error of a commit behind a call that was answered. It is no refusal, whatever the store says.
func notStored(done string, err error) error {
	if err == nil {
		return nil
	}
	return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("%s, but that could not be stored, and is looked at again: %w", done, err))
}

// lost is the end of a sandbox whose resource disappeared.
var lost = because{sandboxer.NotFound, "it was gone at the backend: it ended there, or somebody else removed it"}

// Extend moves the end of the sandbox to until and returns the end that it has then: what the backend granted, if that is
// earlier. It never shortens: an until before the present end changes nothing. InvalidArgument for a time that has passed.
// After an error the end is what it was, though the backend may have been told, and would end the sandbox by itself only later.
func (s *Sandbox) Extend(ctx context.Context, until time.Time) (granted time.Time, err error) {
	err = s.exclusively(ctx, "extend", func(ctx context.Context, r *record) error {
		at := now()
		if until.Before(at) || until.After(at.Add(maxTTL)) {
			return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%s is not in the next %v", until.Format(time.RFC3339), maxTTL))
		}
		until = until.Round(0).UTC()
		on, err := s.m.subject(r, sandboxer.StateReady, sandboxer.StatePaused)
		if err != nil {
			return err
		}
		granted = r.ExpiresAt
		if r.ExpiresAt.IsZero() || !until.After(r.ExpiresAt) {
			return nil
		}
		limit := time.Time{}
		if r.Reach != nil {
			limit = r.Reach.ExpiresAt
		}
		if ex, ok := sandboxer.As[sandboxer.Extender](on.x.ext); ok {
			was := r.pending()
			if !limit.IsZero() && limit.Before(until.Add(margin)) && until.After(r.Extending) {
				r.Extending = until // from here on it may end only then
				if err := s.m.save(ctx, "extending", r); err != nil {
					return err
				}
			}
			err := s.m.call(ctx, callOf(sandboxer.OpExtend, r, on.a), func(ctx context.Context) (err error) {
				limit, err = ex.Extend(ctx, on.target, until.Add(margin))
				return err
			})
			if err != nil && r.Extending.IsZero() {
				return err
			}
			if err != nil {
				return s.m.lookAgain(ctx, on, was, err)
			}
			on.a.Deadline = until.Add(margin)
			r.setPending(was)
			if r.Reach != nil {
				r.endsAt(limit)
			}
		} else if !limit.IsZero() && until.After(limit) {
			return sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("%s ends it by itself at %s and cannot be asked for more", on.x.id, limit.Format(time.RFC3339)))
		}
		r.ExpiresAt = until
		if !limit.IsZero() && limit.Before(until) {
			r.ExpiresAt = limit.UTC()
		}
		if r.ExpiresAt.Before(granted) {
			r.ExpiresAt = granted
		}
		granted = r.ExpiresAt
		return notStored("its backend has extended it", s.m.save(ctx, "extend", r))
	})
	return granted, err
}

// Teardown removes the sandbox; when it returns nil the sandbox is verified to be gone, where its extension can look.
// Whatever else is done with the sandbox is cancelled. It goes on under a dead ctx, for at most Config.TeardownTimeout. On
// an error the sandbox is orphaned: its removal is tried again in the background until it succeeds. Tearing down what is
// gone, and a nil Sandbox, succeeds.
func (s *Sandbox) Teardown(ctx context.Context) (sandboxer.CleanupReport, error) {
	if s == nil {
		return sandboxer.CleanupReport{}, nil
	}
	ctx, done, err := s.m.begin(ctx)
	if err != nil {
		return sandboxer.CleanupReport{}, wrap("teardown", &record{ID: s.id}, err)
	}
	defer done()
	return s.m.teardown(ctx, s.id, because{"", "torn down on request"})
}

func (m *Manager) teardown(ctx context.Context, id sandboxer.ID, cause error) (rep sandboxer.CleanupReport, err error) {
	ctx, cancel := m.detach(ctx)
	defer cancel()
	held, release, err := m.acquireToRemove(ctx, string(id))
	if err != nil {
		return rep, m.removeLater(id, cause, err)
	}
	defer release()
	r, err := m.load(held, id)
	if errors.Is(err, sandboxer.NotFound) {
		return rep, nil // ended, and its record dropped since
	}
	if err != nil {
		return rep, m.removeLater(id, cause, err)
	}
	if !r.ended() {
		err = m.end(ctx, r, cause)
	}
	if r.Cleanup != nil {
		rep = *r.Cleanup
	}
	return rep, wrap("teardown", r, err)
}

// removeLater leaves a removal that could not begin to the retries: whoever asked for it may never ask again.
func (m *Manager) removeLater(id sandboxer.ID, cause, err error) error {
	m.rememberDoom(string(id), doom{cause: cause})
	m.lookLater(jobRetry, string(id))
	return wrap("teardown", &record{ID: id}, sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("its removal could not begin, and goes on in the background: %w", err)))
}

// Abandon ends the record of a sandbox that cannot be torn down, on an operator's word: its backend is gone for good, or
// somebody removed it by hand. What may still exist is not looked after any more; the record keeps the reason. Only for
// sandboxes that are orphaned or being torn down; FailedPrecondition otherwise. It ends as gone, so that no create under its
// ID makes a second resource beside one that may still exist. What it has cost until then is in its meter record, as an
// estimate where nobody can be asked; what it costs from then on is in none, unless the reaper finds and removes it later.
func (m *Manager) Abandon(ctx context.Context, id sandboxer.ID, reason string) error {
	if reason == "" {
		return wrap("abandon", &record{ID: id}, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("say why: the record keeps it")))
	}
	s := &Sandbox{m: m, id: id}
	return s.exclusively(ctx, "abandon", func(ctx context.Context, r *record) error {
		if r.State != sandboxer.StateOrphaned && r.State != sandboxer.StateTearingDown {
			return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the sandbox is %s; only one whose removal fails can be abandoned: call Teardown first", r.State))
		}
		a := r.current()
		r.Cause = fmt.Sprintf("abandoned after %d failed removals (%s): %s", r.Tries, r.Reason, reason)
		r.CauseCode, r.Abandoned = sandboxer.Unknown, true
		r.NextTry = time.Time{}
		bill, err := m.bill(ctx, r, a, m.lastWord(ctx, r, a))
		if err != nil {
			return err
		}
		return m.finish(ctx, r, a, append(releasePlace(a), bill...))
	})
}

// arm schedules what a stored record waits for.
func (m *Manager) arm(r *record) {
	switch r.State {
	case sandboxer.StateReady, sandboxer.StatePaused:
		if r.ExpiresAt.IsZero() || (r.ExpiresAt.Equal(r.armed) && r.saved != "") {
			return
		}
		r.armed = r.ExpiresAt
		m.armExpiry(r.ID, r.ExpiresAt)
	case sandboxer.StateOrphaned:
		m.retries.add(r.NextTry, jobRetry, string(r.ID))
	}
}

func (m *Manager) armExpiry(id sandboxer.ID, at time.Time) {
	m.sched.add(at.Add(spread(time.Until(at))), jobExpire, string(id))
}

// spread keeps sandboxes that were made together from being removed in one instant: up to a hundredth of what is left, and
// at most 5 s, well before the backend's own deadline.
func spread(left time.Duration) time.Duration {
	most := min(left/100, 5*time.Second)
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// due handles what the schedule says is due. The record decides: an entry may be older than it.
func (m *Manager) due(j job, id string) {
	m.beginLook(j, id)
	if m.ctx.Err() != nil {
		return
	}
	switch j {
	case jobSnapshot:
		m.snapshotDue(id)
	case jobExpire:
		m.expire(sandboxer.ID(id))
	case jobRetry:
		m.retry(id)
	}
}

// retry goes on with a removal, and with what could not be stored. That nobody else holds the lock means that whoever began
// it has given up.
func (m *Manager) retry(id string) {
	ctx, release, err := m.acquire(m.ctx, id)
	if err != nil {
		if m.ctx.Err() == nil {
			m.lookLater(jobRetry, id) // should the removal that is under way not end well
		}
		return
	}
	defer release()
	r, err := m.load(ctx, sandboxer.ID(id))
	if err != nil {
		if errors.Is(err, sandboxer.NotFound) {
			m.forgetDoom(id)
		}
		m.unreadable(jobRetry, id, err)
		return
	}
	if r.ended() {
		m.forgetDoom(id)
		return
	}
	if r.State == sandboxer.StateOrphaned && now().Before(r.NextTry) {
		return
	}
	at := r.current().spot()
	if !m.spots.enter(at) {
		m.retries.add(now().Add(spotPause+jittered(spotPause, spotPause)), jobRetry, id)
		return
	}
	defer func() { m.spots.leave(at, err) }()
	ctx, cancel := m.detach(ctx)
	defer cancel()
	switch r.State {
	case sandboxer.StateOrphaned:
		err = m.end(ctx, r, nil)
	case sandboxer.StateTearingDown, sandboxer.StateProvisioning, sandboxer.StateUnknown:
		err = m.settleOne(ctx, r, because{sandboxer.Unavailable, "the store failed while it was being created"})
	case sandboxer.StateReady, sandboxer.StatePaused:
		if d, ok := m.doomOf(id); ok {
			if d.never {
				r.ReadyAt, r.Reach = time.Time{}, nil
			}
			err = m.end(ctx, r, d.cause)
		} else if on, unusable := m.subject(r, r.State); unusable == nil {
			// Nobody could tell whether it is paused, or that could not be stored.
			if err = m.look(ctx, on); err != nil {
				m.cfg.Logger.Warn("a sandbox could not be looked at; it is tried again", "sandbox", id, "consumer", r.Asked.Consumer.ID, "error", err)
				m.lookLater(jobRetry, id)
				return
			}
		}
	}
	if err != nil {
		m.cfg.Logger.Warn("a sandbox could not be removed; it is tried again", "sandbox", id, "consumer", r.Asked.Consumer.ID, "tries", r.Tries, "next", r.NextTry, "error", err)
	}
}

func (m *Manager) expire(id sandboxer.ID) {
	r, err := m.load(m.ctx, id)
	if err != nil {
		m.unreadable(jobExpire, string(id), err)
		return
	}
	if !r.over() {
		return // an Extend has armed its own entry
	}
	at := r.current().spot()
	if !m.spots.enter(at) {
		m.sched.add(now().Add(spotPause+jittered(spotPause, spotPause)), jobExpire, string(id))
		return
	}
	defer func() { m.spots.leave(at, err) }()
	if _, err = m.removeExpired(m.ctx, id); err != nil {
		m.cfg.Logger.Warn("an expired sandbox could not be removed; it is tried again", "sandbox", id, "consumer", r.Asked.Consumer.ID, "error", err)
	}
}

// over reports whether the time to live of a sandbox has passed and nobody removes it yet.
func (r *record) over() bool {
	return (r.State == sandboxer.StateReady || r.State == sandboxer.StatePaused) && !r.ExpiresAt.IsZero() && !now().Before(r.ExpiresAt)
}

// removeExpired removes a sandbox whose time is over, and returns its record; nil where an Extend came first. That is seen only
// by who holds the lock.
func (m *Manager) removeExpired(ctx context.Context, id sandboxer.ID) (r *record, err error) {
	ctx, cancel := m.detach(ctx)
	defer cancel()
	defer func() {
		if err != nil {
			m.lookLater(jobExpire, string(id)) // where it is orphaned by now, that finds nothing to do
		}
	}()
	held, release, err := m.acquireToRemove(ctx, string(id))
	if err != nil {
		return nil, err
	}
	defer release()
	r, err = m.load(held, id)
	if errors.Is(err, sandboxer.NotFound) {
		return nil, nil // ended, and its record dropped since
	}
	if err != nil || !r.over() {
		return nil, err
	}
	return r, wrap("teardown", r, m.end(ctx, r, because{"", "its time to live was over"}))
}

// unreadable looks again later when the store does not answer: nothing that is due is forgotten.
func (m *Manager) unreadable(j job, id string, err error) {
	if errors.Is(err, sandboxer.NotFound) || m.ctx.Err() != nil {
		return
	}
	m.cfg.Logger.Error("a record that is due cannot be read", "id", id, "error", err)
	m.lookLater(j, id)
}
