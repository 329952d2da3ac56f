package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// flight is one create under way, and everybody who waits for it.
type flight struct {
	asked   asked
	waiters int  // guarded by Manager.mu
	left    bool // the last waiter left: it is being cleaned up, and nobody may join
	cancel  context.CancelCauseFunc
	owns    bool          // the ID is its request's: the intent stands in the store; guarded by Manager.mu
	decided chan struct{} // closed when owns is set, or done is closed
	done    chan struct{}
	sb      *Sandbox // sb and err are written before done is closed
	err     error
}

// Create makes a sandbox and returns it ready. On an error everything that was made is gone again, or the error is an
// [*sandboxer.OrphanError] and its removal goes on in the background. A dead ctx cancels it; Create then returns when the
// clean-up is over, at most Config.TeardownTimeout later.
//
// With CreateRequest.ID the call is idempotent: the same request joins one that is under way, returns the sandbox that is
// ready or paused, and starts another attempt where it failed and nothing is left. Aborted with RetryAfter while it is
// being removed; FailedPrecondition when it is gone; AlreadyExists for another request under that ID.
//
// InvalidArgument, NotFound (profile, snapshot), Unsupported, Unauthenticated, BudgetExceeded: nothing was begun; a burst
// policy that names such a code in On goes on to its targets. ResourceExhausted, Unavailable: no place could serve; the
// message names all that were tried.
func (m *Manager) Create(ctx context.Context, req sandboxer.CreateRequest) (*Sandbox, error) {
	sb, err := m.createOrJoin(ctx, req)
	if err != nil {
		var e *sandboxer.Error
		if errors.As(wrap("create", nil, err), &e) && e.ID == "" {
			e.ID = req.ID
		}
		return nil, e
	}
	return sb, nil
}

func (m *Manager) createOrJoin(ctx context.Context, req sandboxer.CreateRequest) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
	}
	q, err := m.asked(req)
	if err != nil {
		return nil, err
	}
	if req.ID, err = m.namedByInput(req); err != nil {
		return nil, err
	}
	q.Consumer, q.Inputs, q.Labels = own.Consumer(q.Consumer), own.Inputs(q.Inputs), maps.Clone(q.Labels)
	id, minted := req.ID, req.ID == ""
	if minted {
		id = sandboxer.NewID()
	}
	for {
		f, joined, wait, err := m.join(ctx, id, q, minted)
		if err != nil {
			return nil, err
		}
		if wait != nil {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
			}
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			if last := m.leave(f, context.Cause(ctx)); !last {
				return nil, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), fmt.Errorf("stopped waiting for %s, which others still wait for: %w", id, context.Cause(ctx)))
			}
			<-f.done // it may have become ready all the same
		}
		if !joined || f.err != nil {
			return f.sb, f.err
		}
		// The sandbox was ready, perhaps before this call began, and may have been torn down since: what holds now counts. That
		// this is read does not depend on ctx, nor on the store: whoever began the create may have left, and then it is ours.
		r, err := m.load(context.WithoutCancel(ctx), id)
		switch {
		case errors.Is(err, sandboxer.NotFound):
		case err != nil:
			return f.sb, nil
		default:
			if sb, err := m.standing(r, &q); sb != nil || err != nil {
				return sb, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, sandboxer.Refused(sandboxer.CodeOf(err), context.Cause(ctx))
		}
	}
}

// join finds the flight of id, which is joined then, or starts one. Where neither can be said yet it returns what to wait for before asking again:
// the clean-up of a create that everybody left, or whether the ID belongs to the other request that is looking it up.
func (m *Manager) join(ctx context.Context, id sandboxer.ID, q asked, minted bool) (f *flight, joined bool, wait <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, false, nil, sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("the manager is closed"))
	}
	if f := m.flights[id]; f != nil {
		switch same := f.asked.same(&q); {
		case !same && f.owns:
			return nil, false, nil, otherRequest(id)
		case !same:
			return nil, false, f.decided, nil
		case f.left:
			return nil, false, f.done, nil
		}
		f.waiters++
		return f, true, nil, nil
	}
	fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f = &flight{asked: q, waiters: 1, cancel: cancel, decided: make(chan struct{}), done: make(chan struct{})}
	m.flights[id] = f
	m.hand(func() {
		f.err = errExited
		defer func() {
			if errors.Is(f.err, errExited) {
				m.lookLater(jobRetry, string(id))
			}
			m.land(f, id)
		}()
		f.sb, f.err = m.create(fctx, f, id, minted)
	})
	return f, false, nil, nil
}

// errExited: a call of an extension ended its goroutine, as a mock does that was not told to expect it.
var errExited = sandboxer.Mark(sandboxer.Internal, errors.New("a call of its extension ended the goroutine (runtime.Goexit, as testing.T.FailNow does); what it made is removed in the background"))

// land ends a flight.
func (m *Manager) land(f *flight, id sandboxer.ID) {
	m.mu.Lock()
	delete(m.flights, id)
	if !f.owns {
		close(f.decided)
	}
	m.mu.Unlock()
	f.cancel(nil)
	close(f.done)
}

// own says that the ID belongs to the flight's request from now on.
func (m *Manager) own(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f.owns {
		f.owns = true
		close(f.decided)
	}
}

// leave reports whether the waiter was the last; the create is then cancelled.
func (m *Manager) leave(f *flight, cause error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.waiters--
	if f.waiters > 0 {
		return false
	}
	f.left = true
	f.cancel(cause)
	return true
}

func otherRequest(id sandboxer.ID) error {
	return sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the ID %s belongs to another request; use an ID of its own for each sandbox", id))
}

// create is the life of a sandbox up to ready.
func (m *Manager) create(ctx context.Context, f *flight, id sandboxer.ID, minted bool) (*Sandbox, error) {
	for tries := 0; ; tries++ {
		r := &record{ID: id, Asked: f.asked}
		if !minted {
			found, err := m.load(ctx, id)
			if err == nil {
				var sb *Sandbox
				if sb, err = m.standing(found, &f.asked); sb != nil {
					return sb, nil
				}
				r = found
			}
			if err != nil && !errors.Is(err, sandboxer.NotFound) {
				return nil, err
			}
		}
		err := m.createRecord(ctx, f, r)
		if err == nil {
			return m.sandbox(r), nil
		}
		if errors.Is(err, errRaced) && tries < 10 {
			continue // somebody else wrote the record first: look what it says now
		}
		return nil, wrap("create", r, err)
	}
}

// errRaced: the record was not what it was read as.
var errRaced = sandboxer.Refused(sandboxer.Aborted, errors.New("another process works on this sandbox; try again"))

// standing is what the record of an ID means for a create of it: its sandbox, why there is none, or neither where an attempt
// can be made.
func (m *Manager) standing(r *record, q *asked) (*Sandbox, error) {
	if !r.Asked.same(q) {
		return nil, wrap("create", r, otherRequest(r.ID))
	}
	switch r.State {
	case sandboxer.StateReady, sandboxer.StatePaused:
		if d, ok := m.doomOf(string(r.ID)); ok {
			r.State, r.Reason = sandboxer.StateTearingDown, d.cause.Error()
			return nil, wrap("create", r, m.busy(r))
		}
		return m.sandbox(r), nil
	case sandboxer.StateFailed:
		return nil, nil
	case sandboxer.StateGone:
		return nil, wrap("create", r, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the sandbox is gone since %s; an ID names one sandbox for ever: use a new one", r.EndedAt.Format(time.RFC3339))))
	}
	return nil, wrap("create", r, m.busy(r))
}

// busy is the answer about a sandbox that is on its way somewhere.
func (m *Manager) busy(r *record) error {
	after := time.Second
	if wait := time.Until(r.NextTry); wait > after {
		after = wait
	}
	why := r.Reason
	if why != "" {
		why = ": " + why
	}
	return &sandboxer.Error{Code: sandboxer.Aborted, NothingDone: true, RetryAfter: after, Err: fmt.Errorf("the sandbox is %s%s", r.State, why)}
}

func (m *Manager) createRecord(ctx context.Context, f *flight, r *record) error {
	ctx, release, err := m.acquire(ctx, string(r.ID))
	if err != nil {
		return err
	}
	defer release()
	snap, done, err := m.restoring(ctx, r.Asked)
	if err != nil {
		return err
	}
	defer done()
	first, err := m.firstStop(ctx, r.Asked, snap)
	c := &creation{m: m, r: r, first: first, snap: snap, own: func() { m.own(f) }}
	if err != nil {
		if !first.bursts(ctx, err) {
			return err
		}
		c.passOver(first.profile.ID, first.profile.Extension, err)
	}
	return c.run(ctx)
}

// Run creates a sandbox, calls fn with it, and removes it when fn returns or panics, also under a dead ctx. Close cancels
// fn's ctx and waits for that. The error joins fn's and the removal's.
func (m *Manager) Run(ctx context.Context, req sandboxer.CreateRequest, fn func(context.Context, *Sandbox) error) (err error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return wrap("run", &record{ID: req.ID}, err)
	}
	defer done()
	sb, err := m.Create(ctx, req)
	if err != nil {
		return err
	}
	defer func() {
		_, tearErr := m.teardown(ctx, sb.id, because{"", "its Run ended"}) // also while the Manager is being closed
		err = errors.Join(err, tearErr)
	}()
	return fn(ctx, sb)
}
