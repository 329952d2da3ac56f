package e2b

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// WaitReady waits until the sandbox answers. NotFound where it ended meanwhile.
func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	none := sandboxer.Reachability{}
	s, err := stateOf(t)
	if err != nil {
		return none, err
	}
	sandboxer.Report(ctx, sandboxer.Progress{Stage: "wait"})
	var reach sandboxer.Reachability
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := e.talk(ctx, t, func(ses *session) error {
			dir, err := e.workspace(ctx, t, ses)
			reach = sandboxer.Reachability{RemoteDir: dir, ExpiresAt: e.deadline(ses, s)}
			return err
		})
		if err == nil {
			return reach, nil
		}
		// Only what does not answer yet, or asks to wait, is waited for; whether it ended was looked up.
		code := sandboxer.CodeOf(err)
		busy := code == sandboxer.ResourceExhausted && sandboxer.IsRefused(err)
		if code != sandboxer.Unavailable && !busy || !sleep(ctx, max(pause, sandboxer.RetryAfterOf(err))) {
			return none, err
		}
	}
}

// Teardown ends the sandbox; without state everything that carries its name and owner.
func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	var rep sandboxer.CleanupReport
	if t.Handle.IsZero() {
		return rep, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the target has no handle"))
	}
	name := t.Handle.Ref().Name()
	var targets []state
	if t.Handle.HasState() {
		s, err := stateOf(t)
		if err != nil {
			return rep, err
		}
		targets = append(targets, s)
	} else {
		for page, err := range e.pages(ctx, t.Secret, e.byName(name, t.Labels)) {
			if err != nil {
				return rep, sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("looking for %s: %w", name, err))
			}
			for i := range page.items {
				if h, ok := e.handle(&page.items[i], page.key); ok && h.Ref().ID == t.Handle.Ref().ID {
					targets = append(targets, state{Sandbox: page.items[i].SandboxID, purchase: purchase{Key: page.key}})
				}
			}
		}
	}
	var errs []error
	for _, s := range targets {
		removed, err := e.kill(ctx, t.Secret, s)
		switch {
		case err != nil:
			rep.Left = append(rep.Left, "sandbox "+s.Sandbox)
			errs = append(errs, err)
		case removed:
			rep.Removed = append(rep.Removed, "sandbox "+s.Sandbox)
		}
	}
	if err := errors.Join(errs...); err != nil {
		mark := sandboxer.Mark
		if len(rep.Removed) == 0 && len(errs) == 1 && sandboxer.IsRefused(err) {
			mark = sandboxer.Refused
		}
		return rep, mark(sandboxer.CodeOf(errs[0]), err)
	}
	if t.Handle.HasState() {
		e.forgetName(name, t.Labels, nil)
	}
	return rep, nil
}

// kill ends one sandbox and reports whether it was there.
func (e *extension) kill(ctx context.Context, secret sandboxer.SecretFunc, s state) (removed bool, err error) {
	rep, err := e.api.do(ctx, secret, request{method: http.MethodDelete, path: "/sandboxes/" + s.Sandbox, repeatable: true})
	if rep != nil {
		e.saw(s, rep.key)
	} else if statusOf(err) == http.StatusNotFound {
		if !e.gone(s, keyOf(err)) {
			return false, notVisible(s, err)
		}
		err = nil
	}
	if err != nil {
		return false, fmt.Errorf("ending %s: %w", s.Sandbox, err)
	}
	e.forget(s.Sandbox)
	e.endMeter(s.Sandbox, rep != nil)
	return rep != nil, nil
}

// describe looks a sandbox up, and has its meter go by what is seen. NotFound only where the key in use would see it.
func (e *extension) describe(ctx context.Context, secret sandboxer.SecretFunc, s state) (*described, error) {
	rep, err := e.api.do(ctx, secret, request{method: http.MethodGet, path: "/sandboxes/" + s.Sandbox, repeatable: true})
	if err != nil {
		if statusOf(err) == http.StatusNotFound {
			if !e.gone(s, keyOf(err)) {
				return nil, notVisible(s, err)
			}
			return nil, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s has ended: %w", s.Sandbox, err))
		}
		return nil, err
	}
	e.saw(s, rep.key)
	var d described
	if err := rep.into(&d); err != nil {
		return nil, err
	}
	d.inOurTime(rep)
	d.SandboxID = s.Sandbox
	e.reconcile(&d)
	return &d, nil
}

// Inspect looks the sandbox up. Unauthenticated where it is not visible with a key that did not buy it.
func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	s, err := stateOf(t)
	if err != nil {
		return sandboxer.Instance{}, err
	}
	d, err := e.describe(ctx, t.Secret, s)
	if err != nil {
		return sandboxer.Instance{}, err
	}
	return instance(d, t.Handle), nil
}
