package manager

import (
	"context"

	"github.com/sand-boxer/sandboxer"
)

// lock serialises what changes one sandbox or one snapshot. A removal cancels whoever holds it: nothing that is to go away
// waits for a snapshot of it.
type lock struct {
	held   chan struct{} // full while somebody holds it
	users  int           // holder and waiters; guarded by Manager.mu
	cancel context.CancelCauseFunc
}

// acquire waits until nobody else works on name. The context it returns is the holder's: it ends with ctx, or when
// somebody preempts. release must be called.
func (m *Manager) acquire(ctx context.Context, name string) (held context.Context, release func(), err error) {
	m.mu.Lock()
	l := m.locks[name]
	if l == nil {
		l = &lock{held: make(chan struct{}, 1)}
		m.locks[name] = l
	}
	l.users++
	m.mu.Unlock()

	leave := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(m.locks, name)
		}
	}
	select {
	case l.held <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, nil, sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), context.Cause(ctx))
	}
	held, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	l.cancel = cancel
	m.mu.Unlock()
	return held, func() {
		m.mu.Lock()
		l.cancel = nil
		m.mu.Unlock()
		cancel(nil)
		<-l.held
		leave()
	}, nil
}

// preempt cancels whoever holds name.
func (m *Manager) preempt(name string, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.locks[name]; l != nil && l.cancel != nil {
		l.cancel(cause)
	}
}
