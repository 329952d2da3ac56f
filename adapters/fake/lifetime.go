package fake

import (
	"context"
	"errors"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Extend moves the native end, never to an earlier one. A sandbox without an end keeps having none.
func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	var granted time.Time
	err := e.do(ctx, sandboxer.OpExtend, t, func(hit) error {
		return e.use(ctx, t, func(s *sandbox) error {
			x := e.b.behaviour.Load()
			end := until.Add(x.ExpiryMargin).UnixNano()
			if until.IsZero() {
				end = 0
			}
			if most := s.created + int64(x.MaxLifetime); x.MaxLifetime > 0 && (end == 0 || end > most) {
				end = most
			}
			if e.b.broken(ExtendLies) {
				granted = at(end)
				return nil
			}
			if s.expires != 0 && (end == 0 || end > s.expires || e.b.broken(ExtendShortens)) {
				s.expires = end
			}
			granted = at(s.expires)
			return nil
		})
	})
	if err != nil {
		return time.Time{}, err
	}
	return granted, nil
}

// Pause stops the sandbox's time; its files stay.
func (e *extension) Pause(ctx context.Context, t sandboxer.Target) error {
	return e.do(ctx, sandboxer.OpPause, t, func(hit) error {
		var w *world
		err := e.use(ctx, t, func(s *sandbox) error {
			switch {
			case !s.paused:
				s.paused, s.pausedAt = true, time.Now().UnixNano()
				w = s.world
			case e.b.broken(PauseTwiceFails):
				return sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it is paused already"))
			}
			return nil
		})
		if err == nil && w != nil && e.b.broken(PauseLosesFiles) {
			w.forget()
		}
		return err
	})
}

// Resume goes on where Pause stopped.
func (e *extension) Resume(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	var r sandboxer.Reachability
	err := e.do(ctx, sandboxer.OpResume, t, func(hit) error {
		return e.use(ctx, t, func(s *sandbox) error {
			if s.paused {
				s.paused = false
				s.pausedTotal += time.Now().UnixNano() - s.pausedAt
			}
			r = e.reachability(s)
			return nil
		})
	})
	if err != nil {
		return sandboxer.Reachability{}, err
	}
	return r, nil
}

// Preflight checks inputs and key.
func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	err := e.call(ctx, callOf(sandboxer.OpPreflight, req), func(hit) error {
		if e.b.broken(PreflightCreates) {
			if _, err := e.add(req, "", nil, hit{}); err != nil {
				return err
			}
		}
		if _, err := e.inputs(req.Inputs); err != nil && !e.b.broken(AcceptsBadInputs) && !e.b.broken(BadInputsCreate) {
			return err
		}
		_, err := e.authorize(ctx, req.Secret)
		return err
	})
	return e.plain(seen(err))
}
