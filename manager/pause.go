package manager

import (
	"context"
	"errors"

	"github.com/sand-boxer/sandboxer"
)

// Pause stops the sandbox; what is in it stays. A paused one is not an error. Its time to live runs on.
func (s *Sandbox) Pause(ctx context.Context) error {
	return s.exclusively(ctx, "pause", func(ctx context.Context, r *record) error {
		if r.State == sandboxer.StatePaused && !r.Resuming {
			return nil
		}
		on, err := s.m.subject(r, sandboxer.StateReady, sandboxer.StatePaused)
		if err != nil {
			return err
		}
		p, err := as[sandboxer.Pauser](on.x, sandboxer.CapPause)
		if err != nil {
			return err
		}
		was := r.pending()
		r.Pausing = true // from here on the backend may not end it by itself
		if err := s.m.save(ctx, "pausing", r); err != nil {
			return err
		}
		err = s.m.call(ctx, callOf(sandboxer.OpPause, r, on.a), func(ctx context.Context) error { return p.Pause(ctx, on.target) })
		if err != nil {
			return s.m.lookAgain(ctx, on, was, err)
		}
		r.paused("paused on request")
		return notStored("it is paused", s.m.save(ctx, "pause", r))
	})
}

// Resume continues a paused sandbox. A running one is not an error.
func (s *Sandbox) Resume(ctx context.Context) error {
	return s.exclusively(ctx, "resume", func(ctx context.Context, r *record) error {
		if r.State == sandboxer.StateReady && !r.Pausing {
			return nil
		}
		on, err := s.m.subject(r, sandboxer.StatePaused, sandboxer.StateReady)
		if err != nil {
			return err
		}
		p, err := as[sandboxer.Pauser](on.x, sandboxer.CapPause)
		if err != nil {
			return err
		}
		was := r.pending()
		r.Resuming = true // from here on it may cost money again
		if err := s.m.save(ctx, "resuming", r); err != nil {
			return err
		}
		var reach sandboxer.Reachability
		err = s.m.call(ctx, callOf(sandboxer.OpResume, r, on.a), func(ctx context.Context) (err error) {
			reach, err = p.Resume(ctx, on.target)
			return err
		})
		if err == nil {
			err = checkReach(on.x.id, &reach)
		}
		if err != nil {
			return s.m.lookAgain(ctx, on, was, err)
		}
		s.m.running(r, reach)
		return notStored("it runs again", s.m.save(ctx, "resumed", r))
	})
}

// running takes in what a backend says of a sandbox that runs.
func (m *Manager) running(r *record, reach sandboxer.Reachability) {
	r.State, r.Reason, r.Undying = sandboxer.StateReady, "", false
	r.Pausing, r.Resuming = false, false
	reach.Host = r.current().Host
	r.Reach = &reach
	r.endsAt(reach.ExpiresAt)
	if e := reach.ExpiresAt; !e.IsZero() && (r.ExpiresAt.IsZero() || e.Before(r.ExpiresAt)) {
		r.ExpiresAt = e.UTC()
	}
}

// paused takes in that a sandbox is paused.
func (r *record) paused(why string) {
	r.State, r.Reason, r.Undying = sandboxer.StatePaused, why, true
	r.Pausing, r.Resuming = false, false
}

// lookAgain settles what a sandbox does after a pause, a resume or an extension whose outcome is not known. was is what had
// been asked for before that.
func (m *Manager) lookAgain(ctx context.Context, on *subject, was pending, cause error) error {
	if sandboxer.IsRefused(cause) && !errors.Is(cause, sandboxer.NotFound) {
		if on.r.pending() == was {
			return cause
		}
		on.r.setPending(was)
		return errors.Join(cause, m.save(ctx, "looked", on.r))
	}
	ctx, cancel := m.detach(ctx)
	defer cancel()
	return errors.Join(cause, m.look(ctx, on))
}

// observe inspects a sandbox. Not known: there is no Inspector, or another key than the payer's does not see it.
func (m *Manager) observe(ctx context.Context, on *subject) (in sandboxer.Instance, known bool, err error) {
	inspector, ok := sandboxer.As[sandboxer.Inspector](on.x.ext)
	if !ok {
		return in, false, nil
	}
	keys := m.watchKey(on.a.Extension, on.a.Payer)
	target := on.target
	target.Secret = keys.secret
	err = m.call(ctx, callOf(sandboxer.OpInspect, on.r, on.a), func(ctx context.Context) (err error) {
		in, err = inspector.Inspect(ctx, target)
		return err
	})
	switch {
	case errors.Is(err, sandboxer.NotFound):
		in.State = sandboxer.StateGone
		return in, !keys.usedForeignKey(), nil
	case err == nil && in.State == sandboxer.StateFailed:
		in.State = sandboxer.StateGone
	}
	return in, err == nil, err
}

// look observes a kept sandbox and stores what it finds: running, paused, or gone. What is not known changes nothing; where
// the record is in doubt as well, somebody looks again.
func (m *Manager) look(ctx context.Context, on *subject) error {
	in, known, err := m.observe(ctx, on)
	if err != nil || !known {
		if err != nil && (on.r.Pausing || on.r.Resuming) {
			m.lookLater(jobRetry, string(on.r.ID))
		}
		return err
	}
	r := on.r
	state, was := r.State, r.pending()
	switch in.State {
	case sandboxer.StateGone:
		ctx, cancel := m.detach(ctx)
		defer cancel()
		return m.end(ctx, r, lost)
	case sandboxer.StatePaused:
		if state != sandboxer.StatePaused || was.pausing || was.resuming {
			r.paused("found paused")
		}
	case sandboxer.StateReady:
		switch {
		case state != sandboxer.StateReady || was.pausing || was.resuming:
			reach := sandboxer.Reachability{}
			if r.Reach != nil {
				reach = *r.Reach
			}
			reach.ExpiresAt = in.ExpiresAt // a pause may have moved it
			m.running(r, reach)
		case !in.ExpiresAt.Before(was.extending) && !was.extending.IsZero():
			r.endsAt(in.ExpiresAt)
		}
	}
	if r.State == state && r.pending() == was {
		return nil
	}
	return m.save(ctx, "looked", r)
}
