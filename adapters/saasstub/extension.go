package saasstub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/sand-boxer/sandboxer"
)

type extension struct {
	id      string
	service *Service
	now     func() time.Time
	config  config
	log     *slog.Logger
}

// state is what a handle holds.
type state struct {
	Serial int `json:"serial"`
}

const stateVersion = 1

func (s *sandbox) handle() (sandboxer.Handle, error) {
	return sandboxer.NewHandle(s.ref, stateVersion, state{s.serial})
}

// enter checks what every call needs, and returns the version of the key.
func (e *extension) enter(ctx context.Context, secret sandboxer.SecretFunc) (string, error) {
	if ctx.Err() != nil {
		return "", sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	ref := e.config.APIKey
	if ref == "" {
		return "", nil
	}
	if secret == nil {
		return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("%s needs the key %s and was given no source of secrets", e.id, ref))
	}
	key, err := secret(ctx, ref)
	if err != nil {
		return "", err
	}
	if len(key.Reveal()) == 0 {
		return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key %s of %s is empty; set it", ref, e.id))
	}
	return key.Version(), nil
}

// read refuses a handle that a newer release wrote.
func read(h sandboxer.Handle) error {
	switch v := h.StateVersion(); {
	case h.IsZero():
		return sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the target has no handle"))
	case v > stateVersion:
		return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the handle of %s is of version %d, written by a newer release; this one reads up to %d: upgrade sandboxer",
			h.Ref().Name(), v, stateVersion))
	}
	return nil
}

// use finds the sandbox of t and calls f with the service locked.
func (e *extension) use(ctx context.Context, t sandboxer.Target, f func(p place, s *sandbox, now time.Time) error) error {
	if err := read(t.Handle); err != nil {
		return err
	}
	key, err := e.enter(ctx, t.Secret)
	if err != nil {
		return err
	}
	p := place{e.id, t.Handle.Ref().Name()}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	now := e.now()
	s := e.service.get(p, now)
	switch {
	case s == nil, !ours(s.labels, t.Labels):
		return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s does not exist at %s", p.name, e.id))
	case s.key != key:
		return e.notVisible(p.name)
	}
	return f(p, s, now)
}

// notVisible is the error for what was made with another key. A real service would say "not found", and that is not "gone".
func (e *extension) notVisible(what string) error {
	return sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("%s is not visible at %s with this key; use the key that it was made with", what, e.id))
}

// Preflight checks the inputs and the key.
func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	var in inputs
	if err := req.Inputs.Decode(&in); err != nil {
		return err
	}
	_, err := e.enter(ctx, req.Secret)
	return err
}

// Provision makes a sandbox, or returns the one of that name.
func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	return e.create(ctx, req, nil)
}

// create is Provision, and Restore where metadata is brought back.
func (e *extension) create(ctx context.Context, req *sandboxer.ProvisionRequest, from *sandboxer.Snapshot) (sandboxer.Handle, error) {
	var in inputs
	if err := req.Inputs.Decode(&in); err != nil {
		return sandboxer.Handle{}, err
	}
	key, err := e.enter(ctx, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	p := place{e.id, req.Name}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	now := e.now()
	if s := e.service.get(p, now); s != nil {
		if s.key != key || !ours(s.labels, req.Labels) {
			return sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("%s exists at %s and belongs to somebody else; it is left alone", req.Name, e.id))
		}
		return s.handle()
	}
	if from != nil {
		kept, err := e.stored(*from, key)
		if err != nil {
			return sandboxer.Handle{}, err
		}
		in = kept.inputs.under(in)
	}
	s := &sandbox{
		ref: req.Ref(), serial: e.service.next(), key: key, labels: maps.Clone(req.Labels), resources: req.Profile.Resources,
		inputs: in, created: now, expires: req.ExpiresAt, metered: now,
	}
	e.service.sandboxes[p] = s
	return s.handle()
}

// under returns in's values over those that were kept.
func (kept inputs) under(in inputs) inputs {
	out := inputs{Template: kept.Template, Metadata: maps.Clone(kept.Metadata)}
	if in.Template != "" {
		out.Template = in.Template
	}
	for k, v := range in.Metadata {
		if out.Metadata == nil {
			out.Metadata = map[string]string{}
		}
		out.Metadata[k] = v
	}
	return out
}

// WaitReady finds the sandbox ready: there is nothing to start.
func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	var r sandboxer.Reachability
	err := e.use(ctx, t, func(_ place, s *sandbox, _ time.Time) error {
		r.ExpiresAt = s.expires.UTC()
		return nil
	})
	return r, err
}

// Teardown ends a sandbox. Its meter goes on answering.
func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	if err := read(t.Handle); err != nil {
		return sandboxer.CleanupReport{}, err
	}
	key, err := e.enter(ctx, t.Secret)
	if err != nil {
		return sandboxer.CleanupReport{}, err
	}
	p := place{e.id, t.Handle.Ref().Name()}
	e.service.mu.Lock()
	defer e.service.mu.Unlock()
	now := e.now()
	s := e.service.get(p, now)
	switch {
	case s == nil, !ours(s.labels, t.Labels):
		return sandboxer.CleanupReport{}, nil
	case s.key != key:
		return sandboxer.CleanupReport{}, e.notVisible(p.name)
	}
	e.service.end(p, now)
	return sandboxer.CleanupReport{Removed: []string{"sandbox " + p.name}}, nil
}
