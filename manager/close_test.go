package manager_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestClose: live sandboxes live on, a create in flight is cancelled and cleaned up, new work is refused.
func TestClose(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.AllCapabilities()...)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Hang: true})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpExec, Hang: true})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshot, Hang: true, Effect: fake.After})
		inFlight, exec, snap := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := m.Create(context.Background(), ask("b"))
			inFlight <- err
		}()
		go func() {
			_, err := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"true"}})
			exec <- err
		}()
		go func() {
			_, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
			snap <- err
		}()
		pass(time.Second)
		begun := time.Now()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("Close took %v", took)
		}
		for _, c := range []chan error{inFlight, exec, snap} {
			err := <-c
			wantCode(t, err, sandboxer.Canceled)
			wantText(t, err, "closed")
		}
		w.wantLive("a")
		w.backend.Heal()
		ctx := context.Background()
		for name, do := range map[string]func() error{
			"create": func() error { _, err := m.Create(ctx, ask("c")); return err },
			"run": func() error {
				return m.Run(ctx, ask("c"), func(context.Context, *manager.Sandbox) error { return nil })
			},
			"exec":     func() error { _, err := sb.Output(ctx, "true"); return err },
			"pause":    func() error { return sb.Pause(ctx) },
			"resume":   func() error { return sb.Resume(ctx) },
			"extend":   func() error { _, err := sb.Extend(ctx, time.Now().Add(9*time.Hour)); return err },
			"snapshot": func() error { _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{}); return err },
			"delete":   func() error { return m.DeleteSnapshot(ctx, "snap") },
			"transfer": func() error { _, err := m.TransferSnapshot(ctx, "snap", "h"); return err },
			"expose":   func() error { _, err := sb.Expose(ctx, 80); return err },
			"teardown": func() error { _, err := sb.Teardown(ctx); return err },
			"meter":    func() error { _, err := sb.Meter(ctx); return err },
			"estimate": func() error { _, err := m.Estimate(ctx, ask("")); return err },
			"reap":     func() error { _, err := m.Reap(ctx, manager.ReapOptions{}); return err },
			"abandon":  func() error { return m.Abandon(ctx, "a", "because") },
		} {
			err := do()
			if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s after Close: %v, want FailedPrecondition: closed", name, err)
			}
		}
		if err := m.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		wantState(t, m, "a", sandboxer.StateReady) // what is on record can still be read
		wantState(t, m, "b", sandboxer.StateFailed)
		w.wantLive("a")
	})
}

// TestCloseIsBounded: what a backend that hangs does not let go stays an intent, and the next Manager removes it.
func TestCloseIsBounded(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.TeardownTimeout = 10 * time.Second
		m := w.open()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Hang: true})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Hang: true})
		for range 100 {
			go func() { _, _ = m.Create(context.Background(), ask("")) }()
		}
		synctest.Wait()
		begun := time.Now()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("Close took %v", took)
		}
		w.backend.Heal()
		m = w.open()
		w.wantLive()
		if n := len(m.Recovery().Settled); n != 100 {
			t.Errorf("%d settled, want 100", n)
		}
	})
}

// TestCloseInMemory: a store that remembers nothing leaves nothing, and one sandbox that cannot be removed does not keep the
// others.
func TestCloseInMemory(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]int{"all well": 0, "some hang": 20} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapSnapshot)
				w.store.durable = false
				w.cfg.TeardownTimeout = 10 * time.Second
				m, err := manager.New(context.Background(), w.config())
				if err != nil {
					t.Fatal(err)
				}
				sb := created(t, m, ask("a"))
				if _, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{}); err != nil {
					t.Fatal(err)
				}
				var group sync.WaitGroup
				made := make([]*manager.Sandbox, 100)
				for i := range made {
					group.Go(func() { made[i] = created(t, m, ask("")) })
				}
				group.Wait()
				w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Hang: true})
				go func() { _, _ = m.Create(context.Background(), ask("b")) }()
				synctest.Wait()
				for _, sb := range made[:left] {
					w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, ID: sb.ID(), Hang: true})
				}
				begun := time.Now()
				err = m.Close()
				if took := time.Since(begun); took > 11*time.Second {
					t.Errorf("Close took %v", took)
				}
				if n := len(w.backend.Live()); n != left || (err != nil) != (left > 0) {
					t.Errorf("%d live and %v, want %d", n, err, left)
				}
			})
		})
	}
}

// TestCloserComesLast: an adapter that wants to be closed is, after its last call, also when New fails.
func TestCloserComesLast(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.backend.Adapter(plain...)
		build := a.New
		var closed []*closer
		a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			ext, err := build(ctx, s)
			c := &closer{Extension: ext}
			closed = append(closed, c)
			return c, err
		}
		w.adapters = []sandboxer.Adapter{a}
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Delay: 5 * time.Second})
		go func() { _, _ = sb.Teardown(context.Background()) }()
		synctest.Wait()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if n := closed[0].times; n != 1 {
			t.Errorf("closed %d times, want once", n)
		}
		w.wantLive()

		features := regexp.MustCompile(`(?m)^  features: .*\n`)
		w.adapters[0].Manifest = features.ReplaceAll(a.Manifest, nil)
		w.profiles = []sandboxer.Profile{{ID: "profile.impossible", Extension: "ext.fake", Requires: []sandboxer.Capability{sandboxer.CapPause}}}
		_, err := manager.New(context.Background(), w.config())
		wantCode(t, err, sandboxer.InvalidArgument)
		if len(closed) != 2 || closed[1].times != 1 {
			t.Error("an extension was not closed when New failed")
		}
		w.profiles = nil
		w.adapters[0].Manifest = features.ReplaceAll(a.Manifest, []byte("  features: [pause]\n"))
		_, err = manager.New(context.Background(), w.config())
		wantCode(t, err, sandboxer.InvalidArgument)
		if len(closed) != 3 || closed[2].times != 1 {
			t.Error("an extension that declares too much was not closed")
		}
	})
}

type closer struct {
	sandboxer.Extension
	times int
}

func (c *closer) Unwrap() sandboxer.Extension { return c.Extension }

func (c *closer) Close() error {
	c.times++
	return nil
}

func (c *closer) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	rep, err := c.Extension.Teardown(ctx, t)
	if c.times > 0 {
		err = errors.New("called after Close")
	}
	return rep, err
}

// TestOneManager: a second Manager would take the first one's creates for what a crash left.
func TestOneManager(t *testing.T) {
	t.Parallel()
	reg, err := registry.New(registry.WithAdapters(fake.New().Adapter()))
	if err != nil {
		t.Fatal(err)
	}
	st := store.Memory()
	first, err := manager.New(t.Context(), manager.Config{Registry: reg, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	_, err = manager.New(t.Context(), manager.Config{Registry: reg, Store: st})
	wantCode(t, err, sandboxer.FailedPrecondition)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := manager.New(t.Context(), manager.Config{Registry: reg, Store: st})
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}
