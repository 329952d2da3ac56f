package fake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func callOf(op sandboxer.Op, req *sandboxer.ProvisionRequest) sandboxer.Call {
	return sandboxer.Call{Op: op, Host: req.Host.ID, ID: req.ID, Attempt: req.Attempt, Profile: req.Profile.ID, Consumer: req.Consumer}
}

// Provision creates the sandbox, or returns the one that has its name already.
func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	return e.create(ctx, sandboxer.OpProvision, req, nil)
}

// create is Provision, and Restore where there is a snapshot to start from.
func (e *extension) create(ctx context.Context, op sandboxer.Op, req *sandboxer.ProvisionRequest, from *sandboxer.Snapshot) (sandboxer.Handle, error) {
	var h sandboxer.Handle
	err := e.call(ctx, callOf(op, req), func(x hit) (err error) {
		h, err = e.make(ctx, req, from, x)
		return err
	})
	var lost *lostReply
	if errors.As(err, &lost) {
		if !lost.withHandle {
			h = sandboxer.Handle{}
		}
		err = lost.err
	}
	return h, e.plain(err)
}

// make does what create promises; a handle beside an error is of something that exists.
func (e *extension) make(ctx context.Context, req *sandboxer.ProvisionRequest, from *sandboxer.Snapshot, x hit) (sandboxer.Handle, error) {
	in, bad := e.inputs(req.Inputs)
	if bad != nil && !e.b.broken(BadInputsCreate) && !e.b.broken(AcceptsBadInputs) {
		return sandboxer.Handle{}, bad
	}
	payer, err := e.authorize(ctx, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	var content *world
	if from != nil {
		if content, err = e.contentOf(*from, req.Host.ID, payer); err != nil {
			return sandboxer.Handle{}, err
		}
	}
	if len(in.Files) > 0 {
		if content, err = seeded(content, in.Files); err != nil {
			return sandboxer.Handle{}, err
		}
	}
	s, err := e.add(req, payer, content, x)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	if bad != nil && e.b.broken(BadInputsCreate) {
		return sandboxer.Handle{}, bad
	}
	h, err := e.handleOf(ctx, s, req.Secret)
	if err != nil {
		return sandboxer.BareHandle(s.ref()), err
	}
	if e.b.behaviour.Load().Checkpoint && req.Checkpoint != nil {
		if err := req.Checkpoint(ctx, h); err != nil {
			return h, fmt.Errorf("storing the handle of %s between two steps of its creation: %w", req.Name, err)
		}
	}
	return h, nil
}

// add puts the sandbox there, or finds the one that is there.
func (e *extension) add(req *sandboxer.ProvisionRequest, payer string, content *world, x hit) (*sandbox, error) {
	b, now := e.b, time.Now().UnixNano()
	k := key{e.id, req.Host.ID, req.Name}
	if limit := b.behaviour.Load().Capacity; limit > 0 {
		b.capacity.Lock()
		defer b.capacity.Unlock()
		if err := b.capacityLeft(k, limit, now); err != nil {
			return nil, err
		}
	}
	s := &sandbox{
		key: k, id: req.ID, attempt: req.Attempt, uid: b.uid.Add(1), payer: payer, labels: newLabels(req.Labels),
		cpu: req.Profile.Resources.CPUMillis, memory: req.Profile.Resources.MemoryBytes,
		created: now, expires: e.lifetime(req.ExpiresAt, now), world: content,
	}
	if x.late > 0 {
		s.appears = now + int64(x.late)
	}
	sh := b.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if old := b.get(sh, k, now); old != nil {
		switch {
		case b.broken(CreatesTwice):
			s.key.name += "~again"
			sh.byKey[s.key] = s
			return old, nil
		case b.broken(StealsForeign):
			old.labels = s.labels
		case !old.labels.ours(req.Labels) || old.payer != payer:
			return nil, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("%s exists at %s and belongs to somebody else; it is left alone", req.Name, where(k)))
		case b.broken(ForgetsName):
			old.uid = s.uid
		}
		old.appears = 0
		return old, nil
	}
	sh.byKey[k] = s
	if owner := req.Labels[sandboxer.LabelOwner]; b.broken(ListsForeign) {
		e.owner.Store(&owner)
	}
	return s, nil
}

// lifetime is the native end that is granted: never before until, unless the backend allows no more.
func (e *extension) lifetime(until time.Time, now int64) int64 {
	x := e.b.behaviour.Load()
	end := int64(0)
	if !until.IsZero() {
		end = until.Add(x.ExpiryMargin).UnixNano()
		if e.b.broken(IgnoresExpiry) {
			end = now + (end-now)/2
		}
	}
	if most := now + int64(x.MaxLifetime); x.MaxLifetime > 0 && (end == 0 || end > most) {
		end = most
	}
	return end
}

func (e *extension) handleOf(ctx context.Context, s *sandbox, secret sandboxer.SecretFunc) (sandboxer.Handle, error) {
	switch ref := e.b.behaviour.Load().Credential; {
	case e.b.broken(HandleNeedsInstance):
		return sandboxer.NewHandle(s.ref(), stateVersion, map[string]string{"instance": fmt.Sprintf("%p", e)})
	case e.b.broken(HandleHoldsSecret) && ref != "" && secret != nil:
		if v, err := secret(ctx, ref); err == nil {
			return sandboxer.NewHandle(s.ref(), stateVersion, map[string]string{"key": string(v.Reveal())})
		}
	}
	return s.handle()
}

// plain does what the quirks of errors do.
func (e *extension) plain(err error) error {
	switch {
	case err == nil:
	case e.b.broken(Unclassified):
		return errors.New(err.Error())
	case e.b.broken(ErrorHoldsSecret) && e.secret.Load() != nil:
		return fmt.Errorf("with the key %s: %w", *e.secret.Load(), err)
	}
	return err
}

// WaitReady waits until the sandbox is usable.
func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	var r sandboxer.Reachability
	err := e.do(ctx, sandboxer.OpWaitReady, t, func(hit) error {
		for {
			var left time.Duration
			err := e.use(ctx, t, func(s *sandbox) error {
				left = time.Until(time.Unix(0, s.created).Add(e.b.behaviour.Load().ReadyAfter))
				r = e.reachability(s)
				return nil
			})
			if err != nil || left <= 0 || e.b.broken(ReadyTooEarly) {
				return err
			}
			sandboxer.Report(ctx, sandboxer.Progress{Stage: "wait"})
			if err := wait(ctx, left); err != nil {
				return err
			}
		}
	})
	if err == nil && e.b.broken(ReadyOnce) && e.b.Count(sandboxer.OpWaitReady) > 1 {
		err = sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it was waited for before"))
	}
	return r, err
}

func (e *extension) reachability(s *sandbox) sandboxer.Reachability {
	return sandboxer.Reachability{RemoteDir: Workspace, Host: s.key.host, ExpiresAt: at(s.expires)}
}

func at(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// Teardown removes the sandbox, by name.
func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	var r sandboxer.CleanupReport
	err := e.do(ctx, sandboxer.OpTeardown, t, func(x hit) (err error) {
		r, err = e.teardown(ctx, t, x)
		return err
	})
	return r, err
}

func (e *extension) teardown(ctx context.Context, t sandboxer.Target, x hit) (sandboxer.CleanupReport, error) {
	var none sandboxer.CleanupReport
	b, now := e.b, time.Now().UnixNano()
	payer, err := e.enter(ctx, t)
	if err != nil {
		return none, err
	}
	if !t.Handle.HasState() && b.broken(TeardownNeedsState) {
		return none, sandboxer.Mark(sandboxer.InvalidArgument, errors.New("the handle has no state"))
	}
	k := e.key(t)
	sh := b.shard(k)
	sh.mu.Lock()
	s := b.get(sh, k, now)
	switch {
	case s == nil, now < s.appears:
		sh.mu.Unlock()
		if b.broken(TeardownOnce) {
			return none, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("%s is gone", k.name))
		}
		return none, nil
	case !s.labels.ours(t.Labels) && !b.broken(TeardownForeign), b.broken(TeardownLies):
		sh.mu.Unlock()
		return none, nil
	case s.payer != payer:
		sh.mu.Unlock()
		return none, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("%s is not found at %s, or not with this key", k.name, where(k)))
	}
	if lag := e.b.behaviour.Load().ListLag; !t.Handle.HasState() && now < s.created+int64(lag) {
		sh.mu.Unlock()
		return none, later(time.Duration(s.created+int64(lag)-now), fmt.Errorf("%s is not listed at %s, and listings lag by %v", k.name, where(k), lag))
	}
	r := sandboxer.CleanupReport{Removed: []string{"sandbox " + k.name}}
	if x.linger > 0 {
		s.goneAt = now + int64(x.linger)
		sh.mu.Unlock()
		return r, nil
	}
	w := b.remove(sh, s, now)
	sh.mu.Unlock()
	if b.broken(SnapshotDiesToo) {
		b.dropSnapshotsOf(s)
	}
	if b.broken(TeardownLeavesQuiet) {
		r.Left = []string{"directory of " + k.name}
	}
	if w != nil {
		return r, w.wait(ctx)
	}
	return r, nil
}

// later is an outcome that only time tells.
func later(after time.Duration, err error) error {
	return &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: after, Err: err}
}
