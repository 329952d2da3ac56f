package e2b

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Extend moves E2B's own deadline to until, or as far as the plan allows, and returns what was granted, read back. It never
// shortens. FailedPrecondition while the sandbox is paused, since it has no deadline then.
func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	s, err := stateOf(t)
	if err != nil {
		return time.Time{}, err
	}
	// What two callers ask for must not cross on its way: the shorter one would win.
	done, err := e.takeTurn(ctx, s.Sandbox)
	if err != nil {
		return time.Time{}, err
	}
	defer done()
	d, err := e.describe(ctx, t.Secret, s)
	if err != nil {
		return time.Time{}, err
	}
	if d.paused() {
		return time.Time{}, paused(s)
	}
	// How long, and not until when: E2B's clock may not be ours.
	if time.Until(until) <= d.left {
		return d.EndAt.UTC(), nil
	}
	seconds, err := lifetime(until, 0)
	if err != nil {
		return time.Time{}, err
	}
	err = e.setTimeout(ctx, t.Secret, s, seconds)
	if limit := lifetimeLimit(err); limit > 0 {
		if limit <= d.left {
			return d.EndAt.UTC(), nil // asking for the most would shorten it
		}
		err = e.setTimeout(ctx, t.Secret, s, int64(limit/time.Second))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("extending %s: %w", s.Sandbox, err)
	}
	// E2B answers 204 and grants less than was asked for: only what it shows counts.
	if d, err = e.describe(ctx, t.Secret, s); err != nil {
		return time.Time{}, sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("%s was extended, and by how much cannot be read: %w", s.Sandbox, err))
	}
	e.setDeadline(s.Sandbox, d.EndAt.UTC())
	return d.EndAt.UTC(), nil
}

func (e *extension) setTimeout(ctx context.Context, secret sandboxer.SecretFunc, s state, seconds int64) error {
	_, err := e.api.do(ctx, secret, request{method: http.MethodPost, path: "/sandboxes/" + s.Sandbox + "/timeout", body: map[string]int64{"timeout": seconds}, repeatable: true})
	return err
}

// turn is held by whoever moves the deadline of a sandbox.
type turn struct {
	held  chan struct{}
	users int // who hold or want it, guarded by extension.mu
}

func (e *extension) takeTurn(ctx context.Context, id string) (done func(), err error) {
	e.mu.Lock()
	t := e.turns[id]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		e.turns[id] = t
	}
	t.users++
	e.mu.Unlock()
	leave := func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(e.turns, id)
		}
	}
	select {
	case t.held <- struct{}{}:
		return func() { <-t.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ended(ctx)
	}
}

func (e *extension) setDeadline(id string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ses := e.sessions[id]; ses != nil {
		ses.deadline = at
	}
}

// Pause stops the sandbox and keeps its memory and files. A paused one costs nothing and has no deadline.
func (e *extension) Pause(ctx context.Context, t sandboxer.Target) error {
	s, err := stateOf(t)
	if err != nil {
		return err
	}
	// Sent again after a lost reply it answers 409, which is success as well.
	rep, err := e.api.do(ctx, t.Secret, request{method: http.MethodPost, path: "/sandboxes/" + s.Sandbox + "/pause", body: struct{}{}, repeatable: true, timeout: createTimeout})
	switch {
	case err == nil:
		e.saw(s, rep.key)
	case statusOf(err) == http.StatusConflict || statusOf(err) == http.StatusNotFound:
		d, seen := e.describe(ctx, t.Secret, s)
		if seen != nil && !sandboxer.IsRefused(err) { // an earlier try may have paused it
			seen = sandboxer.Mark(sandboxer.CodeOf(seen), seen)
		}
		if seen != nil {
			return seen
		}
		if !d.paused() {
			return fmt.Errorf("pausing %s: %w", s.Sandbox, err)
		}
	default:
		return fmt.Errorf("pausing %s: %w", s.Sandbox, err)
	}
	e.forget(s.Sandbox)
	e.pauseMeter(s)
	return nil
}

// Resume continues the sandbox, with the target's end as its new deadline. A running one goes on as it is.
func (e *extension) Resume(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	none := sandboxer.Reachability{}
	s, err := stateOf(t)
	if err != nil {
		return none, err
	}
	in, err := decodeInputs(t.Inputs)
	if err != nil {
		return none, err
	}
	key, err := e.api.key(ctx, t.Secret)
	if err != nil {
		return none, err
	}
	until := t.ExpiresAt
	if !until.IsZero() && time.Until(until) <= 0 {
		return none, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the end of %s, %s, has passed, and while it is paused it cannot be extended; tear it down", s.Sandbox, until.Format(time.RFC3339)))
	}
	seconds, err := lifetime(until, e.longest(key))
	if err != nil {
		return none, err
	}
	got, _, err := e.connect(ctx, t.Secret, s, seconds)
	if limit := lifetimeLimit(err); limit > 0 {
		e.learn(key, limit)
		got, _, err = e.connect(ctx, t.Secret, s, int64(limit/time.Second))
	}
	if err != nil {
		if statusOf(err) == http.StatusNotFound && !e.gone(s, keyOf(err)) {
			return none, notVisible(s, err)
		}
		return none, fmt.Errorf("resuming %s: %w", s.Sandbox, err)
	}
	e.resumeMeter(s)
	reach, err := e.resumed(ctx, t, s, in, got)
	if err != nil { // it runs, whatever was refused since
		return none, sandboxer.Mark(sandboxer.CodeOf(err), err)
	}
	return reach, nil
}

// resumed waits for a sandbox that was resumed with the answer got.
func (e *extension) resumed(ctx context.Context, t sandboxer.Target, s state, in inputs, got created) (sandboxer.Reachability, error) {
	none := sandboxer.Reachability{}
	ses := &session{id: s.Sandbox, token: got.EnvdAccessToken, version: got.EnvdVersion, domain: got.Domain, user: in.User, workdir: in.Workdir}
	d, err := e.describe(ctx, t.Secret, s)
	if err != nil {
		return none, err
	}
	if d.paused() {
		return none, sandboxer.Mark(sandboxer.Unavailable, errors.New("E2B says that it resumed "+s.Sandbox+", and still shows it as paused"))
	}
	ses.deadline = d.EndAt.UTC()
	e.keep(ses)
	return e.WaitReady(ctx, t)
}
