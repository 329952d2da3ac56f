package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// RecoveryReport says what New found in the store.
type RecoveryReport struct {
	Kept      int            // live sandboxes that go on
	Settled   []sandboxer.ID // unfinished ones of which nothing is left now
	Orphaned  []sandboxer.ID // unfinished ones whose removal goes on in the background
	Snapshots []string       // unfinished snapshots that were removed, or are being
}

// Recovery reports what New found that an earlier Manager had left.
func (m *Manager) Recovery() RecoveryReport { return m.report }

// settlers is how many unfinished intents are settled at once at each spot.
const settlers = 16

// recover settles what a crash left. It fails only where the store cannot be read.
func (m *Manager) recover(ctx context.Context) error {
	var unfinished []*record
	look := newBySpot(settlers)
	for sr, err := range m.cfg.Store.Scan(ctx, store.Query{Kind: kindSandbox, Tag: tagLive}) {
		if err != nil {
			return fmt.Errorf("the store cannot be read: %w", err)
		}
		kept, err := glance(sr)
		if err != nil {
			return err
		}
		if kept != nil {
			m.keep(kept, look)
			continue
		}
		r, err := decodeRecord(sr)
		if err != nil {
			return err
		}
		unfinished = append(unfinished, r)
	}
	calls, cancel := context.WithTimeout(ctx, m.cfg.RecoverTimeout)
	defer cancel()
	if err := m.settleAll(calls, unfinished); err != nil {
		return err
	}
	if err := m.recoverSnapshots(ctx, calls); err != nil {
		return err
	}
	if len(look.work) > 0 {
		m.work.Go(func() { m.lookAtKept(look) })
	}
	return nil
}

// glimpse is what a start needs of a sandbox that is kept. There may be a million, and reading a whole record takes several
// times as long.
type glimpse struct {
	V         int             `json:"v"`
	ID        sandboxer.ID    `json:"id"`
	State     sandboxer.State `json:"state"`
	ExpiresAt time.Time       `json:"expires_at"`
	Pausing   bool            `json:"pausing"`
	Resuming  bool            `json:"resuming"`
	Attempts  []struct {
		N         int    `json:"n"`
		Extension string `json:"extension"`
		Host      string `json:"host"`
	} `json:"attempts"`
	spot spot // of the current attempt
}

// glance reads the record of a sandbox that is to be kept; nil for any other, which is to be read whole.
func glance(sr store.Record) (*glimpse, error) {
	g := &glimpse{}
	if err := json.Unmarshal(sr.Body, g); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s does not decode: %w", sr.Key.ID, err))
	}
	if g.V > recordVersion || (g.State != sandboxer.StateReady && g.State != sandboxer.StatePaused) {
		return nil, nil
	}
	for _, a := range g.Attempts {
		if a.N > 0 {
			g.spot = spot{a.Extension, a.Host}
		}
	}
	if g.spot == (spot{}) {
		return nil, nil // damaged; reading it whole says how
	}
	return g, nil
}

// keep arms the end of a kept sandbox, whatever was armed in another process, and has it looked at.
func (m *Manager) keep(g *glimpse, look *bySpot) {
	m.report.Kept++
	if !g.ExpiresAt.IsZero() {
		m.armExpiry(g.ID, g.ExpiresAt)
	}
	if x := m.extensions[g.spot.extension]; x != nil && x.can(sandboxer.CapInspect) {
		id := g.ID // all that is held of it until its turn comes
		look.add(g.spot, func(ctx context.Context) error {
			_, err := m.inspect(ctx, id)
			return err
		})
		if g.Pausing || g.Resuming {
			m.lookLater(jobRetry, string(id)) // that look is left out where its backend does not answer
		}
	}
}

// settleAll tears unfinished intents down. Those that it does not come to before ctx ends go on in the background.
func (m *Manager) settleAll(ctx context.Context, rs []*record) error {
	var mu sync.Mutex
	var fatal error
	all := newBySpot(settlers)
	for _, r := range rs {
		all.add(r.current().spot(), func(context.Context) error {
			err := m.settleOne(ctx, r, because{sandboxer.Aborted, "the process that was creating it ended"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.ended():
				m.report.Settled = append(m.report.Settled, r.ID)
			case r.State == sandboxer.StateOrphaned && r.rev > 0:
				m.report.Orphaned = append(m.report.Orphaned, r.ID)
			default:
				fatal = errors.Join(fatal, fmt.Errorf("%s could be neither settled nor stored as orphaned: %w", r.ID, err))
			}
			return nil // each is to be stored as what it is, however many do not answer
		})
	}
	_ = all.run(context.WithoutCancel(ctx)) // no error, as above
	slices.Sort(m.report.Settled)
	slices.Sort(m.report.Orphaned)
	return fatal
}

// settleOne removes one unfinished sandbox whose caller is gone. cause is why, where the record does not say so already.
func (m *Manager) settleOne(ctx context.Context, r *record, cause error) error {
	a := r.current()
	if r.State != sandboxer.StateProvisioning && r.State != sandboxer.StateUnknown {
		cause = nil
	} else if !a.Handle.HasState() {
		a.Since = now() // no later than this was the backend asked; what is stored may be of an earlier call than the last
	}
	if ctx.Err() != nil {
		if cause != nil {
			r.CauseCode, r.Cause = sandboxer.CodeOf(cause), cause.Error()
		}
		return m.orphan(ctx, r, errors.New("there was no time to look at it when the manager started"))
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TeardownTimeout)
	defer cancel()
	return m.end(ctx, r, cause)
}

// recoverSnapshots reads under ctx, and removes under calls, as settleAll does.
func (m *Manager) recoverSnapshots(ctx, calls context.Context) error {
	var unfinished []*snapshotRecord
	for sr, err := range m.cfg.Store.Scan(ctx, store.Query{Kind: kindSnapshot, Tag: tagLive}) {
		if err != nil {
			return fmt.Errorf("the store cannot be read: %w", err)
		}
		r, err := decodeSnapshot(sr)
		if err != nil {
			return err
		}
		if r.Snap.Status == sandboxer.SnapshotReady {
			m.armSnapshot(r)
			continue
		}
		unfinished = append(unfinished, r)
	}
	for _, r := range unfinished {
		m.report.Snapshots = append(m.report.Snapshots, r.Snap.ID)
		if err := m.removeSnapshot(calls, r); err != nil {
			m.cfg.Logger.Warn("an unfinished snapshot could not be removed; it is tried again", "snapshot", r.Snap.ID, "consumer", r.Snap.Consumer.ID, "error", err)
		}
	}
	return nil
}

// lookAtKept inspects the sandboxes that were live before, in the background.
func (m *Manager) lookAtKept(look *bySpot) {
	if err := look.run(m.ctx); err != nil && m.ctx.Err() == nil {
		m.cfg.Logger.Warn("live sandboxes could not be inspected", "error", err)
	}
}

// inspect looks at one kept sandbox and reports whether it was found lost.
func (m *Manager) inspect(ctx context.Context, id sandboxer.ID) (lost bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TeardownTimeout)
	defer cancel()
	ctx, release, err := m.acquire(ctx, string(id))
	if err != nil {
		return false, err
	}
	defer release()
	r, err := m.load(ctx, id)
	if err != nil {
		return false, err
	}
	on, err := m.subject(r, sandboxer.StateReady, sandboxer.StatePaused)
	if errors.Is(err, sandboxer.FailedPrecondition) {
		return false, nil // it ended meanwhile
	}
	if err != nil {
		return false, err
	}
	err = m.look(ctx, on)
	return r.ended(), err
}

// removeAll removes every sandbox and snapshot of a store that nobody will remember. It gives up where nothing has ended for
// longer than one removal may take.
func (m *Manager) removeAll() error {
	ended, beat := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		ended <- m.removeEach(func() {
			select {
			case beat <- struct{}{}:
			default:
			}
		})
	}()
	most := m.cfg.TeardownTimeout + closeMargin
	late := time.NewTimer(most)
	defer late.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-beat:
			late.Reset(most)
		case <-late.C:
			return sandboxer.Mark(sandboxer.DeadlineExceeded, fmt.Errorf("removals still run after %v, against the end of their contexts; what they have not removed, nobody knows of any more", most))
		}
	}
}

// removeEach removes many at once: one that cannot be removed keeps no other from it.
func (m *Manager) removeEach(beat func()) error {
	ctx := context.Background()
	all := &parallel{slots: make(chan struct{}, maxWorkers)}
	for r, err := range m.records(ctx, Filter{}) {
		if err != nil {
			return errors.Join(all.wait(), err)
		}
		if !r.ended() {
			all.do(func() error {
				defer beat()
				_, err := m.teardown(ctx, r.ID, because{"", "its manager was closed, and its store remembers nothing"})
				return err
			})
		}
	}
	for sr, err := range m.cfg.Store.Scan(ctx, store.Query{Kind: kindSnapshot, Tag: tagLive}) {
		if err != nil {
			return errors.Join(all.wait(), err)
		}
		all.do(func() error {
			defer beat()
			return m.removeOneSnapshot(ctx, sr.Key.ID)
		})
	}
	return all.wait()
}

// parallel runs a bounded number of functions at once and joins their errors.
type parallel struct {
	slots chan struct{}
	group sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

func (p *parallel) do(f func() error) {
	p.slots <- struct{}{}
	p.group.Go(func() {
		defer func() { <-p.slots }()
		if err := f(); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, err)
		}
	})
}

func (p *parallel) wait() error {
	p.group.Wait()
	return errors.Join(p.errs...)
}

func (m *Manager) removeOneSnapshot(ctx context.Context, id string) error {
	ctx, cancel := m.detach(ctx)
	defer cancel()
	ctx, release, err := m.acquire(ctx, snapshotLock(id))
	if err != nil {
		return err
	}
	defer release()
	r, err := m.loadSnapshot(ctx, id)
	if err != nil {
		return err
	}
	return m.removeSnapshot(ctx, r)
}
