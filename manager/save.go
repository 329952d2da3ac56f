package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/crash"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// standing is what is known of a record in the store.
type standing struct {
	rev    int64
	doubts [][]byte // bodies that may stand there instead: the outcome of their commits is not known
}

// save commits r, together with extra, under a name for the crash tests. It is never cut short: a commit whose outcome is
// not known is worse than one that takes a moment longer. When it fails, what then stands in the store is looked at later.
func (m *Manager) save(ctx context.Context, point string, r *record, extra ...store.Mutation) error {
	r.V = recordVersion
	r.bound()
	buf := bodies.Get().(*[]byte)
	body, err := r.encode((*buf)[:0])
	if err != nil {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s does not encode: %w", r.ID, err))
	}
	if r.State == sandboxer.StateProvisioning && point != "checkpoint" {
		if err := fits(body); err != nil {
			return err
		}
	}
	put := store.Mutation{Do: store.Put, Key: sandboxKey(r.ID), Tags: r.tags(), Body: body}
	if err := m.put(ctx, point, &r.standing, put, extra...); err != nil {
		if c := sandboxer.CodeOf(err); len(r.doubts) > 0 || (r.rev > 0 && c != sandboxer.Aborted && c != sandboxer.ResourceExhausted) {
			m.lookLater(jobRetry, string(r.ID))
		}
		return err
	}
	if cap(body) <= maxPooledBody {
		*buf = body
		bodies.Put(buf) // a Store keeps nothing of what it was given
	}
	if r.State == sandboxer.StateTearingDown || r.ended() {
		m.forgetDoom(string(r.ID))
	}
	if r.saved != r.State {
		m.publish(r)
		r.saved = r.State
	}
	m.arm(r)
	return nil
}

// bodies are buffers for records on their way into the store. What failed to be stored is not put back: it is compared with
// what stands there.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

const maxPooledBody = 64 << 10

// put commits the next state of a record. Where it conflicts with an earlier state whose commit seemed to fail, that one
// was applied after all, and the next follows it.
func (m *Manager) put(ctx context.Context, point string, st *standing, put store.Mutation, extra ...store.Mutation) error {
	for {
		put.Expect = st.rev
		rev, err := m.commit(ctx, point, put, extra...)
		if err == nil {
			st.rev, st.doubts = rev, nil
			return nil
		}
		if isUnsure(err) {
			st.doubts = append(st.doubts, put.Body)
			return err
		}
		if !errors.Is(err, sandboxer.Aborted) || len(st.doubts) == 0 || !m.wasApplied(ctx, put.Key, st) {
			return err
		}
	}
}

// wasApplied reports whether one of the doubtful states stands in the store, and then follows it.
func (m *Manager) wasApplied(ctx context.Context, key store.Key, st *standing) bool {
	got, err := m.cfg.Store.Get(context.WithoutCancel(ctx), key)
	if err != nil || got[0].Rev == st.rev {
		return false
	}
	for _, body := range st.doubts {
		if bytes.Equal(body, got[0].Body) {
			st.rev, st.doubts = got[0].Rev, nil
			return true
		}
	}
	return false
}

// unsureError is a commit of which it is not known whether it was applied.
type unsureError struct{ err error }

func (e *unsureError) Error() string {
	return "whether the store took the change is not known, and is looked up later: " + e.err.Error()
}

func (e *unsureError) Unwrap() error { return e.err }

func isUnsure(err error) bool {
	var u *unsureError
	return errors.As(err, &u)
}

// commit applies put and extra. An unknown outcome is read back: the body of put standing there means that all was
// applied, and the Rev that it replaces that nothing was.
func (m *Manager) commit(ctx context.Context, point string, put store.Mutation, extra ...store.Mutation) (int64, error) {
	ctx = context.WithoutCancel(ctx)
	crash.Point("commit", point, "before")
	rev, err := m.cfg.Store.Commit(ctx, append(append(make([]store.Mutation, 0, 1+len(extra)), put), extra...)...)
	crash.Point("commit", point, "after")
	if err == nil {
		return rev, nil
	}
	switch sandboxer.CodeOf(err) {
	case sandboxer.Aborted, sandboxer.ResourceExhausted, sandboxer.InvalidArgument, sandboxer.FailedPrecondition:
		return 0, err
	}
	if sandboxer.IsRefused(err) {
		return 0, fmt.Errorf("the store did not take the change: %w", err)
	}
	got, readErr := m.cfg.Store.Get(ctx, put.Key)
	switch {
	case readErr != nil:
		return 0, &unsureError{err}
	case put.Do == store.Put && got[0].Rev > put.Expect && bytes.Equal(got[0].Body, put.Body),
		put.Do == store.Delete && got[0].Rev == 0:
		return got[0].Rev, nil
	}
	return 0, fmt.Errorf("the store did not take the change: %w", err)
}

// lookLater schedules a look at a record that could not be stored: what it says, what exists, and what is known here may
// differ until then. One look at a time waits for each record.
func (m *Manager) lookLater(j job, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.looks[look{j, id}] {
		m.looks[look{j, id}] = true
		m.retries.add(now().Add(lookAfter+jittered(lookAfter, lookAfter)), j, id)
	}
}

// beginLook is called when a look is due.
func (m *Manager) beginLook(j job, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.looks, look{j, id})
}

type look struct {
	job job
	id  string
}

// lookAfter is how long a store that fails is left alone, for one record and at least.
const lookAfter = 5 * time.Second

// doom is why a sandbox or a snapshot is being removed while the store does not take that: until then its record says that
// it is ready. It is kept under the name of the lock.
type doom struct {
	cause error
	never bool // nobody was given it: it ends as failed
}

func (m *Manager) rememberDoom(name string, d doom) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doomed[name] = d
}

func (m *Manager) forgetDoom(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.doomed, name)
}

func (m *Manager) doomOf(name string) (d doom, doomed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, doomed = m.doomed[name]
	return d, doomed
}
