package manager

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// try is one attempt of a creation: one place, at most one resource.
type try struct {
	c    *creation
	s    *stop
	host sandboxer.Host
	a    *attempt
	last bool // no other place is left to try
	keys *keyWatch
	req  *sandboxer.ProvisionRequest // what Preflight saw, for the first Provision

	mu   sync.Mutex // guards the record against a Checkpoint that comes late
	over bool       // Provision returned
}

// errSlow: the first choice did not become ready in the time that the burst policy gives it.
var errSlow = sandboxer.Mark(sandboxer.Unavailable, errors.New("not ready within the time that the burst policy gives the first choice"))

func (t *try) preflight(ctx context.Context) error {
	pre, ok := sandboxer.As[sandboxer.Preflighter](t.s.ext.ext)
	if !ok {
		return nil
	}
	t.req = t.c.m.provisionRequest(t.c.r, t.a, t.host)
	err := t.c.m.call(ctx, callOf(sandboxer.OpPreflight, t.c.r, t.a), func(ctx context.Context) error { return pre.Preflight(ctx, t.req) })
	if err == nil {
		return nil
	}
	return sandboxer.Refused(sandboxer.CodeOf(err), err) // it creates nothing, whatever it says
}

// run makes the sandbox ready, or leaves nothing of it, or returns an OrphanError.
func (t *try) run(ctx context.Context) error {
	within := ctx
	if !t.c.slowAt.IsZero() && t.s == t.c.first && t.c.more() {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadlineCause(ctx, t.c.slowAt, errSlow)
		defer cancel()
	}
	clean, err := t.create(within)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && errors.Is(context.Cause(within), errSlow) {
		err = errSlow
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		err = sandboxer.Mark(codeOr(cause, sandboxer.CodeOf(ctx.Err())), cause)
	}
	if !clean {
		err = sandboxer.Mark(sandboxer.CodeOf(err), err) // something was created: no refusal, whatever the backend called it
		t.c.doubtful = !t.a.Handle.HasState() && !t.s.ext.can(sandboxer.CapFind)
		cleanup, cancel := t.c.m.detach(ctx)
		defer cancel()
		muts, cleanupErr := t.c.m.remove(cleanup, t.c.r, t.a, err)
		if cleanupErr != nil {
			return &sandboxer.OrphanError{Handle: t.a.Handle, Cause: err, Cleanup: cleanupErr}
		}
		t.c.pending = muts
	} else {
		t.c.pending = releasePlace(t.a)
	}
	t.a.EndedAt, t.a.Code, t.a.Reason = now(), sandboxer.CodeOf(err), err.Error()
	t.c.r.State = stateBetween
	return err
}

// create reports, beside its error, whether it is certain that nothing was created.
func (t *try) create(ctx context.Context) (clean bool, err error) {
	h, clean, err := t.provision(ctx)
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	if err != nil {
		return clean, err
	}
	t.a.Handle = h
	reach, err := t.waitReady(ctx)
	if err != nil {
		return false, err
	}
	return false, t.ready(ctx, reach)
}

// provision asks for the resource until it has a handle, or the backend has refused for good.
func (t *try) provision(ctx context.Context) (h sandboxer.Handle, clean bool, err error) {
	for tries := 0; ; tries++ {
		begun := now()
		h, err = t.ask(ctx)
		switch {
		case err == nil:
			return h, false, t.checkHandle(h)
		case h.HasState():
			t.a.Handle = h
			return h, false, err
		case t.a.Handle.HasState(): // a checkpoint
			return t.a.Handle, false, err
		case !sandboxer.IsRefused(err) || !h.IsZero(): // a handle, if one without state, is no refusal
			found, absent := t.settle(ctx, begun, err)
			if !found.IsZero() {
				return found, false, nil
			}
			if !absent {
				return sandboxer.Handle{}, false, err
			}
		}
		if !t.again(ctx, tries, err) {
			return sandboxer.Handle{}, true, err
		}
	}
}

func (t *try) ask(ctx context.Context) (h sandboxer.Handle, err error) {
	req := t.req
	if t.req = nil; req == nil {
		req = t.c.m.provisionRequest(t.c.r, t.a, t.host)
	}
	req.Checkpoint = t.checkpoint
	if t.s.snap == nil {
		err = t.c.m.call(ctx, callOf(sandboxer.OpProvision, t.c.r, t.a), func(ctx context.Context) (err error) {
			h, err = t.s.ext.ext.Provision(ctx, req)
			return err
		})
		return h, err
	}
	snapper, err := as[sandboxer.Snapshotter](t.s.ext, sandboxer.CapSnapshot)
	if err != nil {
		return h, err
	}
	err = t.c.m.call(ctx, callOf(sandboxer.OpRestore, t.c.r, t.a), func(ctx context.Context) (err error) {
		h, err = snapper.Restore(ctx, req, own.Snapshot(t.s.snap.Snap))
		return err
	})
	return h, err
}

func (t *try) checkHandle(h sandboxer.Handle) error {
	want := sandboxer.HandleRef{ID: t.c.r.ID, Attempt: t.a.N, Extension: t.a.Extension, Host: t.a.Host}
	if h.Ref() != want || !h.HasState() {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s returned a handle of %+v instead of one with state of %+v; its adapter must use ProvisionRequest.Handle", t.a.Extension, h.Ref(), want))
	}
	if err := checkState(h); err != nil {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s returned %w", t.a.Extension, err))
	}
	return nil
}

// checkpoint stores a handle while Provision still works.
func (t *try) checkpoint(ctx context.Context, h sandboxer.Handle) error {
	if err := t.checkHandle(h); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("Checkpoint was called after Provision returned"))
	}
	t.a.Handle = h
	return t.c.m.save(ctx, "checkpoint", t.c.r)
}

// again waits and reports whether a refused call is worth another try: only at the last place, and only for what passes.
func (t *try) again(ctx context.Context, tries int, err error) bool {
	switch sandboxer.CodeOf(err) {
	case sandboxer.Unavailable, sandboxer.ResourceExhausted, sandboxer.Aborted:
	default:
		return false
	}
	if !t.last || tries >= t.c.m.cfg.Retries {
		return false
	}
	wait := jittered(100*time.Millisecond<<min(tries, 10), 2*time.Second)
	if hint := sandboxer.RetryAfterOf(err); hint > maxHint {
		return false // the caller is told how long, and has better things to do
	} else if hint > 0 {
		wait += hint
	}
	return sleep(ctx, wait) == nil
}

// maxHint is the longest RetryAfter that a call waits out by itself.
const maxHint = 10 * time.Second

// jittered is full jitter: anything up to d, and never more than most.
func jittered(d, most time.Duration) time.Duration {
	return rand.N(min(d, most)) + time.Millisecond
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle finds out what became of a call whose reply was lost: the handle of what it made, or certain absence, or neither.
func (t *try) settle(ctx context.Context, begun time.Time, cause error) (found sandboxer.Handle, absent bool) {
	t.c.r.State, t.c.r.Reason = sandboxer.StateUnknown, "the outcome of its creation is not known: "+cause.Error()
	t.a.Since = begun
	if err := t.c.m.save(ctx, "U", t.c.r); err != nil {
		return sandboxer.Handle{}, false
	}
	finder, ok := sandboxer.As[sandboxer.Finder](t.s.ext.ext)
	if !ok {
		return sandboxer.Handle{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, t.c.m.readyTimeout(&t.a.Recipe.Profile))
	defer cancel()
	for tries := 0; ctx.Err() == nil; tries++ {
		keys := t.c.m.watchKey(t.a.Extension, t.a.Payer)
		h, err := t.c.m.find(ctx, finder, t.c.r, t.a, t.host, keys)
		switch {
		case err == nil && t.checkHandle(h) == nil:
			return h, false
		case errors.Is(err, sandboxer.NotFound) && !keys.usedForeignKey():
			t.a.Since = time.Time{}
			return sandboxer.Handle{}, true
		}
		wait := sandboxer.RetryAfterOf(err)
		if wait <= 0 {
			wait = jittered(100*time.Millisecond<<min(tries, 10), 5*time.Second)
		}
		_ = sleep(ctx, wait)
	}
	return sandboxer.Handle{}, false
}

func (t *try) waitReady(ctx context.Context) (reach sandboxer.Reachability, err error) {
	most := t.c.m.readyTimeout(&t.a.Recipe.Profile)
	ctx, cancel := withTimeoutCause(ctx, most, errNotReady)
	defer cancel()
	target := t.c.m.target(t.c.r, t.a, t.host, t.keys)
	err = t.c.m.call(ctx, callOf(sandboxer.OpWaitReady, t.c.r, t.a), func(ctx context.Context) (err error) {
		reach, err = t.s.ext.ext.WaitReady(ctx, target)
		return err
	})
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), errNotReady) {
		late := fmt.Errorf("not ready within %v; raise ready_timeout of %s if it needs longer", most, t.a.Profile)
		if !errors.Is(err, errNotReady) {
			late = fmt.Errorf("%w (%w)", late, err)
		}
		err = sandboxer.Mark(sandboxer.DeadlineExceeded, late)
	}
	if err == nil {
		err = checkReach(t.a.Extension, &reach)
	}
	return reach, err
}

// errNotReady: the sandbox had the time of its ready_timeout.
var errNotReady = sandboxer.Mark(sandboxer.DeadlineExceeded, errors.New("its ready_timeout has passed"))

// ready is the second and last commit of a first-choice success.
func (t *try) ready(ctx context.Context, reach sandboxer.Reachability) error {
	if err := ctx.Err(); err != nil {
		return err // cancelled at the last moment: nobody would take the sandbox
	}
	r := t.c.r
	r.State, r.Reason, r.ReadyAt = sandboxer.StateReady, "", now()
	reach.Host = t.a.Host
	r.Reach = &reach
	t.a.Since = time.Time{}
	if !reach.ExpiresAt.IsZero() && (r.ExpiresAt.IsZero() || reach.ExpiresAt.Before(r.ExpiresAt)) {
		r.ExpiresAt = reach.ExpiresAt.UTC()
	}
	if err := t.c.m.save(ctx, "C2", r); err != nil {
		r.ReadyAt, r.Reach = time.Time{}, nil // nobody was given it: it ends as failed
		return fmt.Errorf("the sandbox was ready, but that could not be stored: %w", err)
	}
	return nil
}
