package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Manager makes, finds and removes sandboxes. Make one with New; a process needs one for each store.
type Manager struct {
	cfg        Config
	owner      string // the value of LabelOwner
	durable    bool
	extensions map[string]*extension
	hosts      map[string]sandboxer.Host

	ctx    context.Context // ends with Close; what runs in the background ends with it
	cancel context.CancelFunc
	work   sync.WaitGroup // creates, operations and background goroutines

	mu       sync.Mutex
	closed   bool
	flights  map[sandboxer.ID]*flight
	crew     chan func() // see hand
	locks    map[string]*lock
	uses     map[sandboxer.ID]map[*context.CancelCauseFunc]struct{}
	forwards map[sandboxer.ID]map[int]*forward
	inUse    map[string]int // snapshots that are being restored or sent
	looks    map[look]bool
	doomed   map[string]doom
	spots    busySpots

	recipes recall

	release func() // gives the store free

	delivering chan struct{} // full while meter records are delivered

	sched   *schedule // what is due at its time
	retries *schedule // what did not succeed: it may be much, and take long, and keeps nothing else waiting
	events  *broadcast
	report  RecoveryReport
}

// New validates cfg, builds the extensions, checks what profiles require of them, and settles what a crash left: every
// unfinished intent is torn down, or, where that does not succeed within Config.RecoverTimeout, goes on in the background
// with the sandbox shown as orphaned. Live sandboxes are kept, and their time-outs are armed again. ctx bounds New alone.
// InvalidArgument lists everything that is wrong with the configuration.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, wrap("new manager", nil, err)
	}
	release := func() {}
	if c, ok := cfg.Store.(store.Claimer); ok {
		var err error
		if release, err = c.Claim(); err != nil {
			return nil, wrap("new manager", nil, err)
		}
	}
	m, err := open(ctx, cfg)
	if err != nil {
		release()
		return nil, err
	}
	m.release = release
	return m, nil
}

// open is New for a configuration that is valid and a store that is claimed.
func open(ctx context.Context, cfg Config) (*Manager, error) {
	info, err := cfg.Store.Info(ctx)
	if err != nil {
		return nil, wrap("new manager", nil, fmt.Errorf("the store cannot be used: %w", err))
	}
	m := &Manager{
		cfg: cfg, owner: ownerLabel(cfg.Owner, info.ID), durable: info.Durable,
		extensions: map[string]*extension{}, hosts: map[string]sandboxer.Host{},
		flights: map[sandboxer.ID]*flight{}, crew: make(chan func()), locks: map[string]*lock{},
		uses:     map[sandboxer.ID]map[*context.CancelCauseFunc]struct{}{},
		forwards: map[sandboxer.ID]map[int]*forward{}, inUse: map[string]int{},
		looks: map[look]bool{}, doomed: map[string]doom{},
		delivering: make(chan struct{}, 1), events: newBroadcast(),
	}
	for _, h := range cfg.Hosts {
		m.hosts[h.ID] = h
	}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.sched, m.retries = newSchedule(&m.work, m.due), newSchedule(&m.work, m.due)
	if err := m.buildExtensions(ctx); err != nil {
		m.cancel()
		return nil, errors.Join(wrap("new manager", nil, err), m.closeExtensions())
	}
	if err := m.recover(ctx); err != nil {
		if stuck := m.stop(); stuck != nil {
			return nil, errors.Join(wrap("new manager", nil, err), stuck)
		}
		return nil, errors.Join(wrap("new manager", nil, err), m.closeExtensions())
	}
	m.background()
	return m, nil
}

// ownerLabel joins who and which store: two stores under one owner name do not own each other's resources.
func ownerLabel(owner, storeID string) string { return owner + "." + storeID }

// begin counts an operation in. Close cancels the context that it returns and waits until done is called.
func (m *Manager) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("the manager is closed"))
	}
	m.work.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		m.work.Done()
	}, nil
}

// background starts the goroutines that only Close ends.
func (m *Manager) background() {
	m.every(m.cfg.ReapInterval, func(ctx context.Context) {
		if _, err := m.Reap(ctx, ReapOptions{}); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("reap", "error", err)
		}
	})
	if meter := m.cfg.Meter; meter != nil {
		m.every(meter.Interval(), func(ctx context.Context) { m.deliver(ctx) })
	}
}

func (m *Manager) every(interval time.Duration, f func(context.Context)) {
	if interval <= 0 {
		return
	}
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-m.ctx.Done():
				return
			case <-tick.C:
				f(m.ctx)
			}
		}
	}()
}

// Close refuses new work, cancels creates in flight and waits for their clean-up. Live sandboxes live on, and so do their
// records: the next Manager of the store finds them. With a store that is not durable everything is removed instead. What
// cannot be finished within TeardownTimeout stays an intent; where an extension does not return even then, Close gives up
// waiting for it some seconds later, says so, and does not close the extensions. The last delivery of meter records, and the
// closing of the extensions, are left behind in the same way. Closing again does nothing.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	for _, f := range m.flights {
		f.cancel(errClosed)
	}
	m.mu.Unlock()

	var errs []error
	if !m.durable {
		errs = append(errs, m.removeAll())
	}
	stuck := m.stop()
	if m.cfg.Meter != nil {
		errs = append(errs, m.bounded("the last delivery of meter records, which are kept", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), m.cfg.TeardownTimeout)
			defer cancel()
			m.deliver(ctx)
			return nil
		}))
	}
	if stuck == nil {
		errs = append(errs, m.closeExtensions())
	} else { // which may be closed only after the last call has returned
		errs = append(errs, stuck)
	}
	m.release()
	if err := errors.Join(errs...); err != nil {
		return wrap("close", nil, err)
	}
	return nil
}

var errClosed = sandboxer.Mark(sandboxer.Canceled, errors.New("the manager was closed"))

// stop ends everything that runs, and waits for it. An extension that does not heed the end of its context keeps nobody for
// ever.
func (m *Manager) stop() error {
	m.cancel()
	m.sched.stop()
	m.retries.stop()
	m.closeForwards()
	most := m.cfg.TeardownTimeout + closeMargin
	ended := make(chan struct{})
	go func() {
		m.work.Wait()
		close(ended)
	}()
	late := time.NewTimer(most)
	defer late.Stop()
	defer m.events.close()
	select {
	case <-ended:
		return nil
	case <-late.C:
		return sandboxer.Mark(sandboxer.DeadlineExceeded, fmt.Errorf(
			"calls of extensions or exporters, or functions given to Run, still run %v after their contexts ended; they are left behind, and what they make is settled when a manager opens the store again", most))
	}
}

// closeMargin is how long Close waits beyond what is cleaned up in TeardownTimeout.
const closeMargin = 10 * time.Second

// bounded waits for f no longer than Close waits for anything. What then still runs is left behind.
func (m *Manager) bounded(what string, f func() error) error {
	most := m.cfg.TeardownTimeout + closeMargin
	ended := make(chan error, 1)
	go func() {
		err := sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s: it ended its goroutine", what)) // unless f returns
		defer func() { ended <- err }()
		err = f()
	}()
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return sandboxer.Mark(sandboxer.DeadlineExceeded, fmt.Errorf("%s: it still runs after %v, and is left behind", what, most))
	}
}

func (m *Manager) closeExtensions() error {
	all := &parallel{slots: make(chan struct{}, max(1, len(m.extensions)))} // one that hangs keeps no other open
	for id, x := range m.extensions {
		all.do(func() error { return m.bounded("closing "+id, x.close) })
	}
	return all.wait()
}

// detach gives clean-up a context of its own: ctx's values, TeardownTimeout, and nobody's cancellation.
func (m *Manager) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.cfg.TeardownTimeout)
}

func now() time.Time { return time.Now().Round(0).UTC() }

// wrap makes the one *Error that a caller sees.
func wrap(op string, r *record, err error) error {
	if err == nil {
		return nil
	}
	e := &sandboxer.Error{
		Op: op, Code: sandboxer.CodeOf(err), NothingDone: sandboxer.IsRefused(err),
		RetryAfter: sandboxer.RetryAfterOf(err), Err: err,
	}
	if inner, ok := err.(*sandboxer.Error); ok { // an adapter's own, which knows neither operation nor sandbox
		e.Err, e.Extension, e.Host, e.ID = inner.Err, inner.Extension, inner.Host, inner.ID
	}
	if r != nil {
		e.ID = r.ID
		if a := r.current(); a != nil {
			e.Extension, e.Host = a.Extension, a.Host
		}
	}
	return e
}
