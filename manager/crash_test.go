package manager_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// process stands for the life of one process: from its death on nothing that its Manager does has any effect.
type process struct {
	mu    sync.Mutex
	steps int // calls and commits, each counted before and after
	dies  int // at this step; 0: lives on, below: never lived
}

var errDead = errors.New("this process is dead")

func (p *process) step() (dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps++
	return p.dies != 0 && p.steps >= p.dies
}

func (p *process) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dies != 0 && p.steps >= p.dies
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dies = -1
}

func (p *process) do(f func() error) error {
	if p.step() {
		return errDead
	}
	err := f()
	if p.step() {
		return errDead
	}
	return err
}

func (p *process) intercept(ctx context.Context, _ sandboxer.Call, next func(context.Context) error) error {
	return p.do(func() error { return next(ctx) })
}

// memory is the store as the process sees it.
type memory struct {
	store.Store
	p *process
}

func (s *memory) Commit(ctx context.Context, ms ...store.Mutation) (rev int64, err error) {
	err = s.p.do(func() (err error) {
		rev, err = s.Store.Commit(ctx, ms...)
		return err
	})
	return rev, err
}

func (s *memory) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.p.dead() {
		return nil, errDead
	}
	return s.Store.Get(ctx, keys...)
}

func (s *memory) Scan(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	if s.p.dead() {
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, errDead) }
	}
	return s.Store.Scan(ctx, q)
}

// start opens a Manager that can die.
func (w *world) start(p *process) *manager.Manager {
	w.t.Helper()
	m, err := w.tryStart(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// tryStart is start for a process that may die before New returns.
func (w *world) tryStart(p *process) (*manager.Manager, error) {
	w.t.Helper()
	cfg := w.config()
	cfg.Store = &memory{w.store, p}
	cfg.Interceptors = append([]sandboxer.Interceptor{p.intercept}, cfg.Interceptors...)
	m, err := manager.New(context.Background(), cfg)
	if err == nil {
		w.t.Cleanup(func() { _ = m.Close() }) // the dead do nothing in it
	}
	return m, err
}

// live is what records say that exists, in the words of fake.Backend.Live; every unfinished state is an error.
func (w *world) live(m *manager.Manager) (names []string) {
	w.t.Helper()
	for sb, err := range m.List(context.Background(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		s := status(w.t, m, sb.ID())
		switch s.State {
		case sandboxer.StateReady, sandboxer.StatePaused:
			names = append(names, s.Attempts[len(s.Attempts)-1].Name)
		case sandboxer.StateGone, sandboxer.StateFailed:
		default:
			w.t.Errorf("%s is still %s: %s", s.ID, s.State, s.Reason)
		}
	}
	for s, err := range m.Snapshots(context.Background(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if s.Status != sandboxer.SnapshotReady {
			w.t.Errorf("snapshot %s is still %s", s.ID, s.Status)
		}
		names = append(names, "snapshot/"+s.ID)
	}
	slices.Sort(names)
	return names
}

// slots reads how many places are taken.
func (w *world) slots() (n int64) {
	for _, h := range w.hosts {
		got, err := w.store.Get(context.Background(), store.Key{Kind: "place", ID: h.ID})
		if err != nil {
			w.t.Fatal(err)
		}
		n += got[0].N
	}
	return n
}

// story is a day in the life of a host application: everything that creates, changes and removes.
func story(m *manager.Manager) error {
	ctx := context.Background()
	a, err := m.Create(ctx, ask("a"))
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { _, err := a.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}}); return err },
		func() error { _, err := a.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap-a"}); return err },
		func() error { return a.Pause(ctx) },
		func() error { return a.Resume(ctx) },
		func() error { _, err := a.Extend(ctx, time.Now().Add(2*time.Hour)); return err },
		func() error { _, err := m.TransferSnapshot(ctx, "snap-a", "h1"); return err },
		func() error {
			req := ask("b")
			req.FromSnapshot = "snap-a"
			_, err := m.Create(ctx, req)
			return err
		},
		func() error { return m.DeleteSnapshot(ctx, "snap-a") },
		func() error { _, err := a.Teardown(ctx); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// TestCrashAnywhere kills the process before and after every call and every commit of a story. The next Manager of the
// store settles it: what is on record is what exists, slots are held by what exists, and everything can be removed. It was seen
// to fail when recovery ends an unfinished create without a teardown.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	everything := sandboxer.AllCapabilities()
	for name, caps := range map[string][]sandboxer.Capability{
		"everything":    everything,
		"no second eye": without(everything, sandboxer.CapFind, sandboxer.CapInspect, sandboxer.CapList),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := 0
			synctest.Test(t, func(t *testing.T) { total = tell(t, caps) })
			if total < 60 {
				t.Fatalf("the story has only %d steps", total)
			}
			for at := 1; at <= total; at++ {
				t.Run(fmt.Sprint(at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { tell(t, caps, at) })
				})
				if at%9 == 0 { // and the process that settles it dies as well
					for again := 1; again <= 8; again++ {
						t.Run(fmt.Sprintf("%d and %d", at, again), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) { tell(t, caps, at, again) })
						})
					}
				}
			}
		})
	}
}

// tell tells the story to a process that dies at the first of the steps given, and settles it by processes that die at the
// others, and one that lives.
func tell(t *testing.T, caps []sandboxer.Capability, dies ...int) (steps int) {
	w := newWorld(t, caps...).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 3}, sandboxer.Host{ID: "h2", MaxSandboxes: 2})
	w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Host: "h1", Times: 1, Err: sandboxer.Mark(sandboxer.Unavailable, errLost)})
	x := w.metered()
	p := &process{}
	if len(dies) > 0 {
		p.dies = dies[0]
	}
	if err := story(w.start(p)); err != nil && len(dies) == 0 {
		t.Fatal(err)
	}
	steps = p.steps
	p.kill()
	for _, at := range dies[min(1, len(dies)):] {
		p := &process{dies: at}
		_, _ = w.tryStart(p) // how far it comes is not known
		p.kill()
	}
	w.journal.take()
	pass(time.Second)

	m := w.open()
	pass(6 * time.Minute) // what was kept is inspected, and what a lost call may still make has had its time
	if diff := cmp.Diff(w.backend.Live(), w.live(m), cmpEmpty); diff != "" {
		t.Errorf("at the backend, and on record (-backend +record):\n%s\nafter: %q", diff, w.journal.take())
	}
	w.removeAll(m)
	if slices.Contains(caps, sandboxer.CapMeter) {
		if diff := cmp.Diff(w.everMade(), x.ofSandboxes(), cmpEmpty); diff != "" {
			t.Errorf("made, and billed (-made +billed):\n%s", diff)
		}
		w.wantStored(x)
	}
	return steps
}

// removeAll removes what there is, checks that nothing is left of it, and closes m.
func (w *world) removeAll(m *manager.Manager) {
	w.t.Helper()
	for sb := range m.List(context.Background(), manager.Filter{}) {
		if _, err := sb.Teardown(context.Background()); err != nil {
			w.t.Error(err)
		}
	}
	for s := range m.Snapshots(context.Background(), manager.Filter{}) {
		if err := m.DeleteSnapshot(context.Background(), s.ID); err != nil {
			w.t.Error(err)
		}
	}
	w.wantLive()
	if n := w.slots(); n != 0 {
		w.t.Errorf("%d slots are still taken", n)
	}
	if err := m.Close(); err != nil {
		w.t.Error(err)
	}
}

// everMade are the keys of the bills of everything that ever existed at the backend.
func (w *world) everMade() []string {
	made := map[string]bool{}
	for _, c := range w.backend.Calls() {
		if (c.Op == sandboxer.OpProvision || c.Op == sandboxer.OpRestore) && c.Err == nil {
			made[c.Name+"/1"] = true
		}
	}
	return slices.Sorted(maps.Keys(made))
}
