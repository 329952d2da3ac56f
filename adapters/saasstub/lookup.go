package saasstub

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Find returns the handle of what a create without a reply made. The service is consistent: what is not there will not come.
func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, _ time.Time) (sandboxer.Handle, error) {
	key, err := e.enter(ctx, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	s := e.service.get(place{e.id, req.Name}, e.now())
	switch {
	case s == nil, !ours(s.labels, req.Labels):
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no %s at %s", req.Name, e.id))
	case s.key != key:
		return sandboxer.Handle{}, e.notVisible(req.Name)
	}
	return s.handle()
}

func (s *sandbox) instance() (sandboxer.Instance, error) {
	h, err := s.handle()
	in := sandboxer.Instance{Handle: h, State: sandboxer.StateReady, Labels: maps.Clone(s.labels), CreatedAt: s.created.UTC(), ExpiresAt: s.expires.UTC()}
	if !s.paused.IsZero() {
		in.State = sandboxer.StatePaused
	}
	return in, err
}

// List yields the sandboxes that carry an owner's label, by name.
func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		all, err := e.list(ctx, q)
		if err != nil {
			yield(sandboxer.Instance{}, err)
			return
		}
		for _, in := range all {
			if !yield(in, nil) {
				return
			}
		}
	}
}

func (e *extension) list(ctx context.Context, q sandboxer.ListQuery) ([]sandboxer.Instance, error) {
	key, err := e.enter(ctx, q.Secret)
	if err != nil {
		return nil, err
	}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	var out []sandboxer.Instance
	for p, s := range e.service.sandboxes {
		if p.extension != e.id || e.service.get(p, e.now()) == nil || s.key != key || s.labels[sandboxer.LabelOwner] == "" || !contains(s.labels, q.Labels) {
			continue
		}
		in, err := s.instance()
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b sandboxer.Instance) int {
		return strings.Compare(a.Handle.Ref().Name(), b.Handle.Ref().Name())
	})
	return out, nil
}

// Inspect looks one sandbox up.
func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	var in sandboxer.Instance
	err := e.use(ctx, t, func(_ place, s *sandbox, _ time.Time) (err error) {
		in, err = s.instance()
		return err
	})
	return in, err
}

// Extend moves the end of a sandbox, never to an earlier time; one without an end keeps having none.
func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	var granted time.Time
	err := e.use(ctx, t, func(_ place, s *sandbox, _ time.Time) error {
		if !s.expires.IsZero() && (until.IsZero() || until.After(s.expires)) {
			s.expires = until
		}
		granted = s.expires.UTC()
		return nil
	})
	return granted, err
}

// Pause stops the meter. The lifetime goes on.
func (e *extension) Pause(ctx context.Context, t sandboxer.Target) error {
	return e.use(ctx, t, func(_ place, s *sandbox, now time.Time) error {
		if s.paused.IsZero() {
			s.paused = later(now, s.metered)
			s.metered = s.paused
		}
		return nil
	})
}

// Resume lets the meter run again.
func (e *extension) Resume(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	var r sandboxer.Reachability
	err := e.use(ctx, t, func(_ place, s *sandbox, now time.Time) error {
		if !s.paused.IsZero() {
			until := later(later(now, s.paused), s.metered)
			s.idle += until.Sub(s.paused)
			s.paused, s.metered = time.Time{}, until
		}
		r.ExpiresAt = s.expires.UTC()
		return nil
	})
	return r, err
}
