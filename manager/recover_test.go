package manager_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// crashed makes a ready sandbox "kept" and one, "a", whose process died while it waited for it.
func crashed(t *testing.T, w *world) {
	t.Helper()
	p := &process{}
	m := w.start(p)
	created(t, m, ask("kept"))
	w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, ID: "a", Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _, _ = m.Create(ctx, ask("a")) }()
	synctest.Wait()
	p.kill()
	w.journal.take()
}

// TestRecovery: New settles what a crash left before it returns, keeps what is live, and says what it did. It was seen to fail
// when an unfinished create is ended without a teardown, when what is ready is removed as well, and when what is kept is not
// counted.
func TestRecovery(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		crashed(t, w)
		m := w.open()
		w.wantLive("kept")
		w.wantJournal("commit tearing_down a", "teardown a", "commit failed a")
		want := manager.RecoveryReport{Kept: 1, Settled: []sandboxer.ID{"a"}}
		if diff := cmp.Diff(want, m.Recovery()); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		s := status(t, m, "a")
		if s.State != sandboxer.StateFailed || s.Attempts[0].Code != sandboxer.Aborted {
			t.Errorf("%s, attempt ended with %q; want failed with aborted", s.State, s.Attempts[0].Code)
		}
		wantText(t, errors.New(s.Reason), "process", "ended")
		sb, err := m.Get(context.Background(), "kept")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"true"}}); err != nil {
			t.Errorf("what was kept does not work: %v", err)
		}
		created(t, m, ask("a")) // another attempt, since nothing is left
		w.wantLive("a-2", "kept")
	})
}

// TestRecoverInBackground: what cannot be settled in RecoverTimeout keeps New no longer; it shows as orphaned, and goes on.
func TestRecoverInBackground(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fake.Fault{
		"hangs": {Op: sandboxer.OpTeardown, Hang: true},
		"fails": {Op: sandboxer.OpTeardown, Err: sandboxer.Mark(sandboxer.Unavailable, errLost)},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.cfg.RecoverTimeout = 10 * time.Second
				crashed(t, w)
				w.backend.Fail(fault)
				begun := time.Now()
				m := w.open()
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("New took %v", took)
				}
				if diff := cmp.Diff(manager.RecoveryReport{Kept: 1, Orphaned: []sandboxer.ID{"a"}}, m.Recovery()); diff != "" {
					t.Errorf("report (-want +got):\n%s", diff)
				}
				if s := status(t, m, "a"); s.State != sandboxer.StateOrphaned || s.NextTry.IsZero() || s.Reason == "" {
					t.Errorf("status %+v", s)
				}
				w.wantLive("a", "kept")
				pass(time.Minute)
				w.backend.Heal()
				pass(time.Hour)
				wantState(t, m, "a", sandboxer.StateFailed)
				wantState(t, m, "kept", sandboxer.StateGone) // its time to live is an hour
				w.wantLive()
			})
		})
	}
}

// TestManyToRecover: one backend that hangs does not multiply RecoverTimeout.
func TestManyToRecover(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot)
		w.cfg.RecoverTimeout = 10 * time.Second
		p := &process{}
		m := w.start(p)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, id := range []sandboxer.ID{"s1", "s2", "s3"} {
			sb := created(t, m, ask(id))
			w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshot, Hang: true, Effect: fake.After, Times: 1})
			go func() { _, _ = sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap-" + string(id)}) }()
			synctest.Wait()
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Hang: true})
		for range 50 {
			go func() { _, _ = m.Create(ctx, ask("")) }()
		}
		synctest.Wait()
		p.kill()
		w.backend.Heal()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Hang: true})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Hang: true})
		begun := time.Now()
		m = w.open()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("New took %v", took)
		}
		r := m.Recovery()
		if r.Kept != 3 || len(r.Orphaned) != 50 || len(r.Snapshots) != 3 {
			t.Errorf("kept %d, orphaned %d, snapshots %d; want 3, 50 and 3", r.Kept, len(r.Orphaned), len(r.Snapshots))
		}
		w.backend.Heal()
		pass(30 * time.Minute)
		w.wantLive("s1", "s2", "s3")
	})
}

// TestNothingStopsNew: whatever is missing from today's configuration, New goes on; what it cannot reach stays on record
// and is removed when the configuration is back.
func TestNothingStopsNew(t *testing.T) {
	t.Parallel()
	host := sandboxer.Host{ID: "h1"}
	for name, c := range map[string]struct {
		hosts  []sandboxer.Host
		breaks func(w *world)
		mends  func(w *world)
		reason string
	}{
		"the extension is not registered": {
			breaks: func(w *world) {
				a := fake.New().InPlaceOf("other")
				w.adapters = []sandboxer.Adapter{a}
				w.yaml = map[string]string{"ext.other.yaml": "id: ext.other\ntitle: Other\nhandler: other\ncapabilities: {isolation_levels: [vm], pricing_model: free}\n"}
			},
			mends:  func(w *world) { w.adapters, w.yaml = nil, nil },
			reason: `"ext.fake"`,
		},
		"the host is gone": {
			hosts:  []sandboxer.Host{host},
			breaks: func(w *world) { w.hosts = []sandboxer.Host{{ID: "h2"}} },
			mends:  func(w *world) { w.hosts = []sandboxer.Host{host} },
			reason: `"h1"`,
		},
		"the key was revoked": {
			breaks: func(w *world) { w.backend.Behave(fake.Behaviour{Credential: "env:NO_SUCH_KEY_FOR_TESTS"}) },
			mends:  func(w *world) { w.backend.Behave(fake.Behaviour{}) },
			reason: "NO_SUCH_KEY_FOR_TESTS",
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapExec, sandboxer.CapInspect).withHosts(c.hosts...)
				crashed(t, w)
				c.breaks(w)
				m := w.open()
				if diff := cmp.Diff(manager.RecoveryReport{Kept: 1, Orphaned: []sandboxer.ID{"a"}}, m.Recovery()); diff != "" {
					t.Errorf("report (-want +got):\n%s", diff)
				}
				wantText(t, errors.New(status(t, m, "a").Reason), c.reason)
				pass(time.Minute)
				wantState(t, m, "kept", sandboxer.StateReady)
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				c.mends(w)
				w.backend.Heal()
				m = w.open()
				synctest.Wait()
				wantState(t, m, "a", sandboxer.StateFailed)
				wantState(t, m, "kept", sandboxer.StateReady)
				w.wantLive("kept")
			})
		})
	}
}

// TestKeptIsInspected: what was live before is looked at, and what is found is put on record.
func TestKeptIsInspected(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapInspect, sandboxer.CapPause)
		p := &process{}
		m := w.start(p)
		for _, id := range []sandboxer.ID{"vanished", "paused", "resumed", "running", "expired"} {
			req := ask(id)
			if id == "expired" {
				req.TTL = time.Minute
			}
			sb := created(t, m, req)
			if id == "resumed" {
				if err := sb.Pause(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		get := func(id sandboxer.ID) *manager.Sandbox {
			sb, err := m.Get(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			return sb
		}
		// The replies of a pause and of a resume are on their way when the process dies.
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpPause, Hang: true, Effect: fake.After, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpResume, Hang: true, Effect: fake.After, Times: 1})
		go func() { _ = get("paused").Pause(ctx) }()
		go func() { _ = get("resumed").Resume(ctx) }()
		synctest.Wait()
		p.kill()
		w.backend.Vanish("vanished")
		pass(5 * time.Minute)

		m = w.open()
		synctest.Wait()
		if n := m.Recovery().Kept; n != 5 {
			t.Errorf("%d kept, want 5", n)
		}
		wantState(t, m, "vanished", sandboxer.StateGone)
		wantState(t, m, "paused", sandboxer.StatePaused)
		wantState(t, m, "resumed", sandboxer.StateReady)
		wantState(t, m, "running", sandboxer.StateReady)
		wantText(t, errors.New(status(t, m, "vanished").Reason), "gone at the backend")
		pass(5 * time.Second)
		wantState(t, m, "expired", sandboxer.StateGone)
		if err := get("paused").Resume(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestStoreCannotBeRead: without its records a Manager does not begin.
func TestStoreCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := &process{}
	p.kill()
	cfg := w.config()
	cfg.Store = &memory{w.store, p}
	_, err := manager.New(context.Background(), cfg)
	wantText(t, err, "store cannot be read", "dead")
}
