package manager_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// TestLostReply: the reply of Provision is lost. What it made, if anything, is found by name before anything else is tried;
// one resource at most, and none that nobody has. It was seen to fail when whatever Find fails with is taken for absence, and when
// a lost reply of an extension without a Finder is (a second call of Provision).
func TestLostReply(t *testing.T) {
	t.Parallel()
	finder := []sandboxer.Capability{sandboxer.CapFind}
	for name, c := range map[string]struct {
		caps   []sandboxer.Capability
		effect fake.Effect
		err    error
		lag    time.Duration
		code   sandboxer.Code
		took   time.Duration
		live   []string
	}{
		"it was made, and there is a Finder":        {caps: finder, effect: fake.After, err: errLost, live: []string{"a"}},
		"it was made, and cannot be found":          {effect: fake.After, err: errLost, code: sandboxer.Unknown},
		"it was not made, and there is a Finder":    {caps: finder, err: errLost, code: sandboxer.Unknown},
		"it was not made, and cannot be found":      {err: errLost, code: sandboxer.Unknown},
		"it shows itself only after a while":        {caps: finder, effect: fake.After, err: errLost, lag: 70 * time.Second, took: 70 * time.Second, live: []string{"a"}},
		"its absence is certain only after a while": {caps: finder, err: errLost, lag: 70 * time.Second, took: 70 * time.Second, code: sandboxer.Unknown},
		"absent for certain, and worth another try": {caps: finder, err: sandboxer.Mark(sandboxer.Unavailable, errLost), live: []string{"a"}},
		"unknown, and no Finder: never tried again": {err: sandboxer.Mark(sandboxer.Unavailable, errLost), code: sandboxer.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				w.backend.Behave(fake.Behaviour{ListLag: c.lag})
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: c.err, Effect: c.effect, Times: 1})
				m := w.open()
				begun := time.Now()
				_, err := m.Create(context.Background(), ask("a"))
				wantCode(t, err, c.code)
				if took := time.Since(begun); took < c.took || took > c.took+5*time.Second {
					t.Errorf("took %v, want %v", took, c.took)
				}
				w.wantLive(c.live...)
				want := sandboxer.StateReady
				if c.code != "" {
					want = sandboxer.StateFailed
				}
				wantState(t, m, "a", want)
			})
		})
	}
}

// TestSettling: while the outcome is not known the state says so, and the reason why.
func TestSettling(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapFind)
		w.backend.Behave(fake.Behaviour{ListLag: time.Minute})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Times: 1})
		m := w.open()
		done := make(chan error, 1)
		go func() {
			_, err := m.Create(context.Background(), ask("a"))
			done <- err
		}()
		pass(time.Second)
		s := status(t, m, "a")
		if s.State != sandboxer.StateUnknown {
			t.Errorf("state %s, want unknown", s.State)
		}
		wantText(t, errors.New(s.Reason), "not known", "connection reset")
		_, err := m.Create(context.Background(), ask("b"))
		if err != nil {
			t.Error(err) // others do not wait for it
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantState(t, m, "a", sandboxer.StateReady)
	})
}

// TestNotSettledInTime: an outcome that stays unknown ends the create, and is settled in the background: it stays orphaned
// until absence is certain, and is removed if it shows itself.
func TestNotSettledInTime(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]fake.Effect{"nothing was made": fake.Before, "it was made": fake.After} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapFind)
				w.cfg.ReadyTimeout = 20 * time.Second
				w.backend.Behave(fake.Behaviour{ListLag: 10 * time.Minute})
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: effect, Times: 1})
				m := w.open()
				_, err := m.Create(context.Background(), ask("a"))
				var orphan *sandboxer.OrphanError
				if !errors.As(err, &orphan) {
					t.Fatalf("%v is no OrphanError", err)
				}
				s := status(t, m, "a")
				if s.State != sandboxer.StateOrphaned || time.Until(s.NextTry) < 9*time.Minute {
					t.Errorf("%s, next try in %v; want orphaned, and the backend's word waited for", s.State, time.Until(s.NextTry))
				}
				pass(15 * time.Minute)
				wantState(t, m, "a", sandboxer.StateFailed)
				w.wantLive()
			})
		})
	}
}

// TestLateArrival: what a backend makes only after everything was torn down is found and removed: by the Manager itself where
// its extension can find, and by the reaper where it can only list. It was seen to fail when a removal by name is believed
// without looking whether the name is found, and when the reaper leaves alone what a record that has ended names.
func TestLateArrival(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		caps  []sandboxer.Capability
		every time.Duration // how often the reaper comes
	}{
		"with a Finder": {[]sandboxer.Capability{sandboxer.CapFind}, -1},
		"listed":        {[]sandboxer.Capability{sandboxer.CapList}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				w.cfg.ReapInterval = c.every
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Late: 2 * time.Minute, Times: 1})
				m := w.open()
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := m.Create(ctx, ask("a")); err == nil {
					t.Fatal("no error")
				}
				pass(time.Hour)
				w.wantLive()
				wantState(t, m, "a", sandboxer.StateFailed)
			})
		})
	}
}

// TestFoundAfterTeardown: a removal by name that says it is done is believed only when the name is not found any more.
func TestFoundAfterTeardown(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapFind)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Hang: true, Effect: fake.After, Times: 1})
		w.backend.Break(fake.TeardownLies)
		m := w.open()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := m.Create(ctx, ask("a"))
		var orphan *sandboxer.OrphanError
		if !errors.As(err, &orphan) {
			t.Fatalf("%v is no OrphanError", err)
		}
		wantText(t, orphan.Cleanup, "still finds")
		wantState(t, m, "a", sandboxer.StateOrphaned)
		w.backend.Mend()
		pass(time.Minute)
		wantState(t, m, "a", sandboxer.StateFailed)
		w.wantLive()
	})
}

// TestCheckpoint: the handle of a creation in several steps is durable before Provision returns, and a lost reply needs no
// look-up then.
func TestCheckpoint(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Behave(fake.Behaviour{Checkpoint: true})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Times: 1})
		m := w.open()
		_, err := m.Create(context.Background(), ask("a"))
		wantCode(t, err, sandboxer.Unknown)
		w.wantJournal("commit provisioning a", "provision a", "commit provisioning a", "commit tearing_down a", "teardown a", "commit failed a")
		w.wantLive()
		w.store.fail(wrong{Point: "commit provisioning b", Skip: 1, Times: 1, Err: errFull})
		_, err = m.Create(context.Background(), ask("b"))
		wantCode(t, err, sandboxer.Unavailable)
		wantText(t, err, "no space left")
		w.wantLive()
	})
}

// TestForeignHandle: an adapter that returns somebody else's handle is told so, and nothing of that other is touched.
func TestForeignHandle(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		created(t, m, ask("other"))
		stolen := sandboxer.BareHandle(sandboxer.HandleRef{ID: "other", Attempt: 1, Extension: "ext.fake"})
		m2 := foreign(t, w, stolen)
		_, err := m2.Create(context.Background(), ask("a"))
		wantCode(t, err, sandboxer.Internal)
		wantText(t, err, "ProvisionRequest.Handle")
		w.wantLive("other")
	})
}

// foreign opens a Manager, with a store of its own, over an adapter whose Provision returns h.
func foreign(t *testing.T, w *world, h sandboxer.Handle) *manager.Manager {
	t.Helper()
	a := w.backend.Adapter(plain...)
	build := a.New
	a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
		ext, err := build(ctx, s)
		return &thief{Extension: ext, h: h}, err
	}
	w2 := newWorld(t)
	w2.adapters = []sandboxer.Adapter{a}
	return w2.open()
}

type thief struct {
	sandboxer.Extension
	h sandboxer.Handle
}

func (x *thief) Unwrap() sandboxer.Extension { return x.Extension }

func (x *thief) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	_, err := x.Extension.Provision(ctx, req)
	return x.h, err
}

// delayed is a backend that knows only its listing: what was asked of it may still appear for longest, so that absence is
// certain only then.
type delayed struct{ sandboxer.Extension }

const longest = 70 * time.Second

func (x delayed) Unwrap() sandboxer.Extension { return x.Extension }

// HasCapability passes on what the extension can do, that Find makes no Finder of what is none.
func (x delayed) HasCapability(c sandboxer.Capability) bool {
	return slices.Contains(sandboxer.Capabilities(x.Extension), c)
}

func (x delayed) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	f, _ := sandboxer.As[sandboxer.Finder](x.Extension)
	if h, err := f.Find(ctx, req, since); err == nil {
		return h, nil
	}
	if left := time.Until(since.Add(longest)); left > 0 {
		return sandboxer.Handle{}, &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: left, Err: errors.New("not certain yet")}
	}
	return sandboxer.Handle{}, sandboxer.Refused(sandboxer.NotFound, errors.New("no such sandbox"))
}

// TestLateArrivalOfASecondCall: a call that follows one of which nothing came is not on record by itself; where the process
// dies in it, what it makes is waited for from then on, and not from when the first was begun. It was seen to fail where
// recovery asked with the Since of the first: the sandbox appeared behind a record that said failed.
func TestLateArrivalOfASecondCall(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapFind)
		a := w.backend.Adapter(w.caps...)
		build := a.New
		a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			ext, err := build(ctx, s)
			return delayed{ext}, err
		}
		w.adapters = []sandboxer.Adapter{a}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Times: 1, Err: sandboxer.Mark(sandboxer.Unavailable, errLost)})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Times: 1, Hang: true, Effect: fake.After, Late: longest - 10*time.Second})
		p := &process{}
		m := w.start(p)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { _, _ = m.Create(ctx, ask("a")) }()
		pass(longest + 5*time.Second)
		if n := w.backend.Count(sandboxer.OpProvision); n != 2 {
			t.Fatalf("asked %d times, want a second time once it was certain that the first made nothing", n)
		}
		p.kill()
		w.backend.Heal()
		m = w.open()
		wantState(t, m, "a", sandboxer.StateOrphaned)
		pass(10 * time.Minute)
		w.wantLive()
		wantState(t, m, "a", sandboxer.StateFailed)
	})
}

// TestRemovalIsVerifiedByName: a backend that can be asked by name only is asked by name whether a sandbox is gone. It was
// seen to fail where a sandbox with a handle was only ever inspected: a removal that did nothing was believed.
func TestRemovalIsVerifiedByName(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapFind)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Break(fake.TeardownLies)
		_, err := sb.Teardown(context.Background())
		wantCode(t, err, sandboxer.Unavailable)
		wantText(t, err, "still finds it")
		wantState(t, m, "a", sandboxer.StateOrphaned)
		w.backend.Mend()
		pass(time.Minute)
		w.wantLive()
		wantState(t, m, "a", sandboxer.StateGone)
	})
}
