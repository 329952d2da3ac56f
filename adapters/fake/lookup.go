package fake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func (e *extension) key(t sandboxer.Target) key {
	ref := t.Handle.Ref()
	return key{e.id, ref.Host, ref.Name()}
}

// do is call for a sandbox that has a handle.
func (e *extension) do(ctx context.Context, op sandboxer.Op, t sandboxer.Target, effect func(hit) error) error {
	ref := t.Handle.Ref()
	return e.plain(seen(e.call(ctx, sandboxer.Call{Op: op, Host: ref.Host, ID: ref.ID, Attempt: ref.Attempt, Consumer: t.Consumer}, effect)))
}

// enter checks what every call about a sandbox needs: a handle that this release reads, and the key. It returns the key's
// version.
func (e *extension) enter(ctx context.Context, t sandboxer.Target) (payer string, err error) {
	if t.Handle.IsZero() {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the target has no handle"))
	}
	if v := t.Handle.StateVersion(); v > stateVersion {
		return "", sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the handle of %s is of version %d, written by a newer release; this one reads up to %d: upgrade",
			t.Handle.Ref().Name(), v, stateVersion))
	}
	if e.b.broken(HandleNeedsInstance) && t.Handle.HasState() {
		var held map[string]string
		if err := t.Handle.State(&held); err != nil || held["instance"] != fmt.Sprintf("%p", e) {
			return "", sandboxer.Mark(sandboxer.Internal, errors.New("this handle was made by another instance"))
		}
	}
	return e.authorize(ctx, t.Secret)
}

// use finds the sandbox of t and calls f under its lock. NotFound where it is gone, not there yet, or not ours.
func (e *extension) use(ctx context.Context, t sandboxer.Target, f func(*sandbox) error) error {
	payer, err := e.enter(ctx, t)
	if err != nil {
		return err
	}
	k, now := e.key(t), time.Now().UnixNano()
	sh := e.b.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := e.b.get(sh, k, now)
	if s == nil || now < s.appears || !s.labels.ours(t.Labels) || s.payer != payer {
		return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("sandbox %s is not found at %s", k.name, where(k)))
	}
	return f(s)
}

// running is use for what only a running sandbox can do.
func (e *extension) running(ctx context.Context, t sandboxer.Target, f func(*sandbox) error) error {
	return e.use(ctx, t, func(s *sandbox) error {
		if left := s.created + int64(e.b.behaviour.Load().ReadyAfter) - time.Now().UnixNano(); left > 0 {
			return &sandboxer.Error{Code: sandboxer.Unavailable, NothingDone: true, RetryAfter: time.Duration(left), Err: fmt.Errorf("sandbox %s is not ready yet", s.key.name)}
		}
		if s.paused {
			return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s is paused; resume it first", s.key.name))
		}
		return f(s)
	})
}

// Find returns the handle of what a lost create made.
func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	var h sandboxer.Handle
	err := e.call(ctx, callOf(sandboxer.OpFind, req), func(hit) (err error) {
		h, err = e.find(ctx, req, since)
		return err
	})
	if err != nil {
		return sandboxer.Handle{}, e.plain(seen(err))
	}
	return h, nil
}

func (e *extension) find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	payer, err := e.authorize(ctx, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	k, now := key{e.id, req.Host.ID, req.Name}, time.Now().UnixNano()
	lag := int64(e.b.behaviour.Load().ListLag)
	sh := e.b.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := e.b.get(sh, k, now)
	switch {
	case s != nil && e.b.broken(FindMisses):
	case s != nil && now < s.appears:
		return sandboxer.Handle{}, later(time.Duration(s.appears-now), fmt.Errorf("the creation of %s may still be running at %s", k.name, where(k)))
	case s != nil && (s.payer != payer || !s.labels.ours(req.Labels) && !e.b.broken(FindForeign)):
	case s != nil && now >= s.created+lag:
		return s.handle()
	case s != nil:
		return sandboxer.Handle{}, later(time.Duration(s.created+lag-now), fmt.Errorf("%s is not listed yet at %s, and listings lag by %v", k.name, where(k), time.Duration(lag)))
	case now < since.UnixNano()+lag:
		return sandboxer.Handle{}, later(time.Duration(since.UnixNano()+lag-now), fmt.Errorf("%s is not listed at %s, and listings lag by %v", k.name, where(k), time.Duration(lag)))
	case e.b.broken(FindCreates):
		s := &sandbox{key: k, id: req.ID, attempt: req.Attempt, uid: e.b.uid.Add(1), payer: payer, labels: newLabels(req.Labels), created: now}
		sh.byKey[k] = s
		return s.handle()
	}
	return sandboxer.Handle{}, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no %s at %s", k.name, where(k)))
}

// List yields the sandboxes that carry an owner's label, by name.
func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		var all []sandboxer.Instance
		err := e.call(ctx, sandboxer.Call{Op: sandboxer.OpList, Host: q.Host.ID, Consumer: q.Consumer}, func(hit) (err error) {
			all, err = e.list(ctx, q)
			return err
		})
		seenErr := e.plain(seen(err))
		if err != nil {
			if !isLost(err) {
				all = nil
			}
			all = all[:len(all)/2]
		}
		for _, in := range all {
			if ctx.Err() != nil {
				yield(sandboxer.Instance{}, ended(ctx))
				return
			}
			if !yield(in, nil) {
				return
			}
		}
		if seenErr != nil {
			yield(sandboxer.Instance{}, seenErr)
		}
	}
}

func (e *extension) list(ctx context.Context, q sandboxer.ListQuery) ([]sandboxer.Instance, error) {
	payer, err := e.authorize(ctx, q.Secret)
	if err != nil {
		return nil, err
	}
	b, x, now := e.b, e.b.behaviour.Load(), time.Now().UnixNano()
	var out []sandboxer.Instance
	var failed error
	b.each(now, func(s *sandbox) {
		if s.key.extension != e.id || q.Host.ID != "" && s.key.host != q.Host.ID || s.payer != payer ||
			now < s.appears || now < s.created+int64(x.ListLag) || x.Unlisted != nil && x.Unlisted(s.key.name) || s.id.Validate() != nil {
			return
		}
		if (s.labels.get(sandboxer.LabelOwner) == "" || !s.labels.match(q.Labels)) && !b.broken(ListsForeign) {
			return
		}
		in, err := e.instance(s)
		if err != nil {
			failed = err
			return
		}
		if owner := e.owner.Load(); owner != nil && b.broken(ListsForeign) {
			in.Labels[sandboxer.LabelOwner] = *owner
		}
		out = append(out, in)
	})
	if failed != nil {
		return nil, failed
	}
	slices.SortFunc(out, func(a, b sandboxer.Instance) int {
		return strings.Compare(a.Handle.Ref().Name(), b.Handle.Ref().Name())
	})
	if b.broken(ListMisses) && len(out) > 0 {
		out = out[:len(out)-1]
	}
	return out, nil
}

func (e *extension) instance(s *sandbox) (sandboxer.Instance, error) {
	h, err := s.handle()
	if err != nil {
		return sandboxer.Instance{}, err
	}
	in := sandboxer.Instance{Handle: h, State: sandboxer.StateReady, Labels: s.labels.toMap(), CreatedAt: at(s.created), ExpiresAt: at(s.expires)}
	ready := s.created + int64(e.b.behaviour.Load().ReadyAfter)
	switch {
	case s.paused && !e.b.broken(InspectWrongState):
		in.State = sandboxer.StatePaused
	case time.Now().UnixNano() < ready:
		in.State = sandboxer.StateProvisioning
	}
	if e.b.broken(ListDropsLabels) {
		in.Labels = map[string]string{}
	}
	return in, nil
}

// Inspect looks one sandbox up.
func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	var in sandboxer.Instance
	err := e.do(ctx, sandboxer.OpInspect, t, func(hit) error {
		err := e.use(ctx, t, func(s *sandbox) (err error) {
			in, err = e.instance(s)
			return err
		})
		switch {
		case err == nil && e.b.broken(InspectLies):
			return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("%s is gone", t.Handle.Ref().Name()))
		case errors.Is(err, sandboxer.NotFound) && e.b.broken(InspectNeverGone):
			in = sandboxer.Instance{Handle: t.Handle, State: sandboxer.StateReady}
			return nil
		}
		return err
	})
	if err != nil {
		return sandboxer.Instance{}, err
	}
	return in, nil
}
