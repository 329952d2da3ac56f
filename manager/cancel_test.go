package manager_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// cancelledByCreate are the calls that a create makes.
var cancelledByCreate = []sandboxer.Op{
	sandboxer.OpEstimateCost, sandboxer.OpPreflight, sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpRestore,
}

// TestCancelCreate ends the caller's context inside every call that a create makes, before and after its effect: Create
// returns within TeardownTimeout, and nothing is left. It was seen to fail when what was made is removed under the caller's
// own context, and when a look-up that the caller's end cut short is taken for absence.
func TestCancelCreate(t *testing.T) {
	t.Parallel()
	everything := sandboxer.AllCapabilities()
	for _, op := range cancelledByCreate {
		for name, effect := range map[string]fake.Effect{"before": fake.Before, "after": fake.After, "after, with a handle": fake.AfterWithHandle} {
			for caps, set := range map[string][]sandboxer.Capability{
				"everything":   everything,
				"no Finder":    without(everything, sandboxer.CapFind),
				"no Inspector": without(everything, sandboxer.CapFind, sandboxer.CapInspect),
			} {
				t.Run(string(op)+" "+name+" "+caps, func(t *testing.T) {
					simulate(t, func(t *testing.T) {
						w := newWorld(t, set...)
						m := w.open()
						req := ask("a")
						var live []string
						if op == sandboxer.OpRestore {
							src := created(t, m, ask("source"))
							snap, err := src.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"})
							if err != nil {
								t.Fatal(err)
							}
							req.FromSnapshot, live = snap.ID, []string{"snapshot/snap", "source"}
						}
						w.backend.Fail(fake.Fault{Op: op, Hang: true, Effect: effect, Times: 1})
						calls := w.backend.Count(op)
						ctx, cancel := context.WithCancel(context.Background())
						done := make(chan error, 1)
						go func() {
							_, err := m.Create(ctx, req)
							done <- err
						}()
						pass(time.Second)
						if w.backend.Count(op) != calls+1 {
							t.Fatalf("%s is not under way", op)
						}
						cancel()
						begun := time.Now()
						err := <-done
						wantCode(t, err, sandboxer.Canceled)
						if took := time.Since(begun); took > time.Minute {
							t.Errorf("returned %v after it was cancelled", took)
						}
						w.wantLive(live...)
						for sb, err := range m.List(context.Background(), manager.Filter{IDs: []sandboxer.ID{"a"}}) {
							if err != nil {
								t.Fatal(err)
							}
							wantState(t, m, sb.ID(), sandboxer.StateFailed)
						}
					})
				})
			}
		}
	}
}

func without(caps []sandboxer.Capability, less ...sandboxer.Capability) []sandboxer.Capability {
	var out []sandboxer.Capability
next:
	for _, c := range caps {
		for _, l := range less {
			if c == l {
				continue next
			}
		}
		out = append(out, c)
	}
	return out
}

// TestDeadContext: nothing begins under a context that has ended, except a removal.
func TestDeadContext(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.journal.take()
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := m.Create(dead, ask("b"))
		wantCode(t, err, sandboxer.Canceled)
		if !sandboxer.IsRefused(err) {
			t.Errorf("%v: not said that nothing was done", err)
		}
		w.wantJournal()
		if _, err := sb.Teardown(dead); err != nil {
			t.Error(err)
		}
		w.wantLive()
		wantState(t, m, "a", sandboxer.StateGone)
	})
}

// TestTeardownIsBounded: a backend that never answers keeps a removal no longer than TeardownTimeout, in whatever call it
// hangs, and what it could not do is done later.
func TestTeardownIsBounded(t *testing.T) {
	t.Parallel()
	for _, op := range []sandboxer.Op{sandboxer.OpMeterActual, sandboxer.OpTeardown, sandboxer.OpInspect, sandboxer.OpFind} {
		t.Run(string(op), func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.AllCapabilities()...)
				w.cfg.TeardownTimeout = 20 * time.Second
				m := w.open()
				sb := created(t, m, ask("a"))
				w.backend.Fail(fake.Fault{Op: op, Hang: true})
				begun := time.Now()
				_, err := sb.Teardown(context.Background())
				if took := time.Since(begun); took > 21*time.Second {
					t.Errorf("returned after %v", took)
				}
				if op == sandboxer.OpMeterActual || op == sandboxer.OpInspect {
					w.wantLive() // the removal itself did not have to wait for that
				}
				if op != sandboxer.OpFind { // nobody needs to find what is known
					wantCode(t, err, sandboxer.DeadlineExceeded)
					wantState(t, m, "a", sandboxer.StateOrphaned)
				}
				w.backend.Heal()
				pass(time.Hour)
				w.wantLive()
				wantState(t, m, "a", sandboxer.StateGone)
			})
		})
	}
}

// TestTeardownPreempts: a removal does not wait for what is done with the sandbox; that ends instead.
func TestTeardownPreempts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op sandboxer.Op
		do func(context.Context, *manager.Manager, *manager.Sandbox) error
	}{
		"snapshot": {sandboxer.OpSnapshot, func(ctx context.Context, _ *manager.Manager, sb *manager.Sandbox) error {
			_, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
			return err
		}},
		"pause": {sandboxer.OpPause, func(ctx context.Context, _ *manager.Manager, sb *manager.Sandbox) error { return sb.Pause(ctx) }},
		"extend": {sandboxer.OpExtend, func(ctx context.Context, _ *manager.Manager, sb *manager.Sandbox) error {
			_, err := sb.Extend(ctx, time.Now().Add(10*time.Hour))
			return err
		}},
		"exec": {sandboxer.OpExec, func(ctx context.Context, _ *manager.Manager, sb *manager.Sandbox) error {
			_, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}})
			return err
		}},
		"create": {sandboxer.OpWaitReady, func(ctx context.Context, m *manager.Manager, _ *manager.Sandbox) error {
			_, err := m.Create(ctx, ask("b"))
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.AllCapabilities()...)
				m := w.open()
				sb := created(t, m, ask("a"))
				w.backend.Fail(fake.Fault{Op: c.op, Hang: true, Times: 1})
				busy := make(chan error, 1)
				go func() { busy <- c.do(context.Background(), m, sb) }()
				pass(time.Second)
				if name == "create" {
					var err error
					if sb, err = m.Get(context.Background(), "b"); err != nil {
						t.Fatal(err)
					}
				}
				begun := time.Now()
				if _, err := sb.Teardown(context.Background()); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("the removal waited %v", took)
				}
				err := <-busy
				wantCode(t, err, sandboxer.Aborted)
				wantText(t, err, "torn down")
				if name == "create" {
					w.wantLive("a")
				} else {
					w.wantLive()
				}
			})
		})
	}
}

// TestTeardownsTogether: callers that remove the same sandbox at once do not get into each other's way.
func TestTeardownsTogether(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Delay: 10 * time.Second})
		results := make(chan error, 64)
		for range cap(results) {
			go func() {
				_, err := sb.Teardown(context.Background())
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := w.backend.Count(sandboxer.OpTeardown); n != 1 {
			t.Errorf("%d calls of Teardown, want 1", n)
		}
		wantState(t, m, "a", sandboxer.StateGone)
	})
}

// TestTeardownBeforeTheQueue: what waits for its turn behind a call that a removal ends does not come before the removal.
func TestTeardownBeforeTheQueue(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshot, Hang: true})
		busy := make(chan error, 8)
		for range cap(busy) {
			go func() {
				_, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
				busy <- err
			}()
		}
		pass(time.Second)
		begun := time.Now()
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("the removal waited %v", took)
		}
		for range cap(busy) {
			if err := <-busy; err == nil {
				t.Error("a snapshot of what was being removed succeeded")
			}
		}
		w.wantLive()
	})
}

// used is a call about a ready sandbox, and the state that it is in afterwards when its effect came first.
type used struct {
	do    func(context.Context, *manager.Sandbox) error
	first func(*testing.T, *world, *manager.Sandbox) // before it
	state sandboxer.State                            // of what first left; Defaults to ready
	after sandboxer.State                            // Defaults to state
}

func cancelledByUse(t *testing.T) map[sandboxer.Op]used {
	t.Helper()
	dir := t.TempDir()
	tree := fstest.MapFS{"f": {Data: []byte("x")}}
	paused := func(t *testing.T, _ *world, sb *manager.Sandbox) {
		t.Helper()
		if err := sb.Pause(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	served := func(t *testing.T, w *world, sb *manager.Sandbox) {
		t.Helper()
		l, err := w.backend.Listen(sb.ID(), 80)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			if conn, err := l.Accept(); err == nil {
				_ = conn.Close()
			}
		}()
	}
	return map[sandboxer.Op]used{
		sandboxer.OpExec: {do: func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}})
			return err
		}},
		sandboxer.OpDial: {first: served, do: func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Dial(ctx, "tcp", "localhost:80")
			return err
		}},
		sandboxer.OpExpose:  {do: func(ctx context.Context, sb *manager.Sandbox) error { _, err := sb.Expose(ctx, 80); return err }},
		sandboxer.OpCopyIn:  {do: func(ctx context.Context, sb *manager.Sandbox) error { return sb.CopyIn(ctx, "", tree) }},
		sandboxer.OpCopyOut: {do: func(ctx context.Context, sb *manager.Sandbox) error { return sb.CopyOut(ctx, "", dir) }},
		sandboxer.OpSync:    {do: func(ctx context.Context, sb *manager.Sandbox) error { return sb.Sync(ctx, "synced", tree) }},
		sandboxer.OpSnapshot: {do: func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
			return err
		}},
		sandboxer.OpPause: {after: sandboxer.StatePaused, do: func(ctx context.Context, sb *manager.Sandbox) error { return sb.Pause(ctx) }},
		sandboxer.OpResume: {first: paused, state: sandboxer.StatePaused, after: sandboxer.StateReady,
			do: func(ctx context.Context, sb *manager.Sandbox) error { return sb.Resume(ctx) }},
		sandboxer.OpMeterActual: {do: func(ctx context.Context, sb *manager.Sandbox) error { _, err := sb.Meter(ctx); return err }},
		sandboxer.OpExtend: {do: func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Extend(ctx, time.Now().Add(10*time.Hour))
			return err
		}},
	}
}

// TestCancelUse ends the caller's context inside every call about a ready sandbox, before and after its effect: the call
// returns at once, the sandbox stays, and is on record as what it is. It was seen to fail when calls go on behind their
// caller (did not return), and when a pause whose reply is lost is looked at under the caller's context (the record says
// ready, the sandbox is paused).
func TestCancelUse(t *testing.T) {
	t.Parallel()
	for op, c := range cancelledByUse(t) {
		for name, effect := range map[string]fake.Effect{"before": fake.Before, "after": fake.After} {
			t.Run(string(op)+" "+name, func(t *testing.T) {
				simulate(t, func(t *testing.T) { c.cancel(t, op, effect) })
			})
		}
	}
}

func (c used) cancel(t *testing.T, op sandboxer.Op, effect fake.Effect) {
	w := newWorld(t, sandboxer.AllCapabilities()...)
	m := w.open()
	sb := created(t, m, ask("a"))
	state := cmp.Or(c.state, sandboxer.StateReady)
	if effect == fake.After {
		state = cmp.Or(c.after, state)
	}
	if c.first != nil {
		c.first(t, w, sb)
	}
	w.backend.Fail(fake.Fault{Op: op, Hang: true, Effect: effect, Times: 1})
	calls := w.backend.Count(op)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.do(ctx, sb) }()
	pass(time.Second)
	if w.backend.Count(op) != calls+1 {
		t.Fatalf("%s is not under way", op)
	}
	cancel()
	synctest.Wait()
	select {
	case err := <-done:
		wantCode(t, err, sandboxer.Canceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", err)
		}
	default:
		t.Error("did not return")
		<-done
	}
	pass(10 * time.Minute)
	if diff := gocmp.Diff([]string{"a"}, w.backend.Live()); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	wantState(t, m, "a", state)
}
