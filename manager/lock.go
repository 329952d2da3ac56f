package manager

import (
	"context"
	"errors"
	"fmt"

	"github.com/sand-boxer/sandboxer"
)

// lock serialises what changes one sandbox or one snapshot. A removal cancels whoever holds it and comes before all who
// wait for it: nothing that is to go away waits for a snapshot of it. Removals do not cancel each other.
type lock struct {
	held     chan struct{} // full while somebody holds it
	users    int           // holder and waiters; this and what follows is guarded by Manager.mu
	removals int           // those of the users that remove
	cancel   context.CancelCauseFunc
}

// errRemoved ends what is done with a sandbox that is being removed.
var errRemoved = sandboxer.Mark(sandboxer.Aborted, errors.New("the sandbox was torn down meanwhile"))

// acquire waits until nobody else works on name. The context it returns is the holder's: it ends with ctx, or when a
// removal wants the lock. release must be called.
func (m *Manager) acquire(ctx context.Context, name string) (held context.Context, release func(), err error) {
	return m.take(ctx, name, false)
}

// acquireToRemove ends whatever is done with name and waits until it has ended.
func (m *Manager) acquireToRemove(ctx context.Context, name string) (held context.Context, release func(), err error) {
	return m.take(ctx, name, true)
}

func (m *Manager) take(ctx context.Context, name string, removal bool) (context.Context, func(), error) {
	l := m.queueUp(name, removal)
	leave := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leaveQueue(l, name, removal)
	}
	select {
	case l.held <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	held, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !removal {
		if l.removals > 0 {
			<-l.held
			m.leaveQueue(l, name, removal)
			cancel(errRemoved)
			return nil, nil, errRemoved
		}
		l.cancel = cancel
	}
	return held, func() {
		m.mu.Lock()
		l.cancel = nil
		m.mu.Unlock()
		cancel(nil)
		<-l.held
		leave()
	}, nil
}

func (m *Manager) queueUp(name string, removal bool) *lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[name]
	if l == nil {
		l = &lock{held: make(chan struct{}, 1)}
		m.locks[name] = l
	}
	l.users++
	if removal {
		l.removals++
		if l.cancel != nil {
			l.cancel(errRemoved)
		}
	}
	return l
}

// leaveQueue is called with m.mu held.
func (m *Manager) leaveQueue(l *lock, name string, removal bool) {
	if removal {
		l.removals--
	}
	if l.users--; l.users == 0 {
		delete(m.locks, name)
	}
}

// using gives a call that changes nothing on record, such as a command, an end that comes with the removal of its sandbox.
func (m *Manager) using(ctx context.Context, id sandboxer.ID) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uses[id] == nil {
		m.uses[id] = map[*context.CancelCauseFunc]struct{}{}
	}
	m.uses[id][&cancel] = struct{}{}
	return ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if delete(m.uses[id], &cancel); len(m.uses[id]) == 0 {
			delete(m.uses, id)
		}
		cancel(nil)
	}
}

// endUses ends what is done with a sandbox once it is on record that it goes away.
func (m *Manager) endUses(id sandboxer.ID) {
	m.mu.Lock()
	for cancel := range m.uses[id] {
		(*cancel)(errRemoved)
	}
	m.mu.Unlock()
	m.closeForwardsOf(id)
}

// blame gives an error the code of the Manager's own reason to end ctx, where there is one.
func blame(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || (!errors.Is(cause, errRemoved) && !errors.Is(cause, errClosed)) {
		return err
	}
	if !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return sandboxer.Mark(sandboxer.CodeOf(cause), err)
}
