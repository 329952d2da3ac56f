package manager_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
)

// TestStoreFails: the store fails at every commit of a sandbox's life, in every way that it can: refused (a full disk), with
// a reply that is lost although all was applied, and so that nothing can even be read back. No resource is left that nobody
// has, no record stays in between, no slot is kept, and the ID can be used again; all without another process.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	kinds := map[string]wrong{
		"full":           {Err: errFull},
		"unknown":        {Err: errDisk},
		"lost":           {Err: errDisk, Applied: true},
		"blind":          {Err: errDisk, Blinds: true},
		"lost and blind": {Err: errDisk, Applied: true, Blinds: true},
		"lost, a moment": {Err: errDisk, Applied: true, Blinks: true},
		"a moment":       {Err: errDisk, Blinks: true},
	}
	refuse := []fake.Fault{{Op: sandboxer.OpProvision, Err: errBad, Times: 1}}
	never := []fake.Fault{{Op: sandboxer.OpWaitReady, Err: errBad, Times: 1}}
	stuck := append([]fake.Fault{{Op: sandboxer.OpTeardown, Err: errLost, Times: 1}}, never...)
	lost := []fake.Fault{{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Times: 1}}
	moves := []fake.Fault{{Op: sandboxer.OpWaitReady, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Times: 1}}
	for name, c := range map[string]struct {
		point  string
		skip   int
		faults []fake.Fault
	}{
		"the intent":               {point: "commit provisioning"},
		"ready":                    {point: "commit ready"},
		"unknown":                  {point: "commit unknown", faults: lost},
		"failed after a refusal":   {point: "commit failed", faults: refuse},
		"tearing down":             {point: "commit tearing_down", faults: never},
		"failed after a removal":   {point: "commit failed", faults: never},
		"orphaned":                 {point: "commit orphaned", faults: stuck},
		"the intent of the second": {point: "commit provisioning", skip: 1, faults: moves},
	} {
		for kind, how := range kinds {
			t.Run(name+", "+kind, func(t *testing.T) {
				simulate(t, func(t *testing.T) {
					w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1}, sandboxer.Host{ID: "h2", MaxSandboxes: 1})
					for _, f := range c.faults {
						w.backend.Fail(f)
					}
					m := w.open()
					how := how
					how.Point, how.Skip, how.Times = c.point, c.skip, 3
					w.store.fail(how)
					_, err := m.Create(context.Background(), ask("a"))
					if err != nil {
						wantCode(t, err, sandboxer.CodeOf(err))
					}
					pass(time.Second)
					w.store.heal()
					pass(15 * time.Minute)
					if err == nil {
						wantState(t, m, "a", sandboxer.StateReady)
					} else {
						w.wantLive()
						if n := w.slots(); n != 0 {
							t.Errorf("%d slots are taken by nothing\n%q", n, w.journal.take())
						}
					}
					created(t, m, ask("a"))
					if diff := cmp.Diff(w.live(m), w.backend.Live()); diff != "" {
						t.Errorf("on record, and at the backend (-record +backend):\n%s", diff)
					}
				})
			})
		}
	}
}

// TestStoreFailsLater is the same for what happens to a sandbox that is ready.
func TestStoreFailsLater(t *testing.T) {
	t.Parallel()
	for kind, how := range map[string]wrong{
		"full":           {Err: errFull},
		"lost":           {Err: errDisk, Applied: true},
		"lost and blind": {Err: errDisk, Applied: true, Blinds: true},
		"lost, a moment": {Err: errDisk, Applied: true, Blinks: true},
	} {
		for _, point := range []string{"commit tearing_down", "commit gone"} {
			for _, by := range []string{"request", "time"} {
				t.Run(point+", "+kind+", by "+by, func(t *testing.T) {
					simulate(t, func(t *testing.T) {
						w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1})
						m := w.open()
						sb := created(t, m, ask("a"))
						how := how
						how.Point, how.Times = point, 3
						w.store.fail(how)
						if by == "request" {
							_, _ = sb.Teardown(context.Background()) // what became of it is asked below
						} else {
							pass(time.Hour)
						}
						pass(time.Minute)
						w.store.heal()
						pass(2 * time.Hour)
						w.wantLive()
						wantState(t, m, "a", sandboxer.StateGone)
						if n := w.slots(); n != 0 {
							t.Errorf("%d slots are taken by nothing\n%q", n, w.journal.take())
						}
					})
				})
			}
		}
	}
}

// TestUnwritableStore: nothing is created that could not be remembered, and the error says what to do about it.
func TestUnwritableStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.open()
	w.store.fail(wrong{Point: "commit", Err: errFull})
	_, err := m.Create(context.Background(), ask("a"))
	wantCode(t, err, sandboxer.Unavailable)
	wantText(t, err, "nothing was created", "could not be stored", "no space left on device")
	if !sandboxer.IsRefused(err) {
		t.Error("not said that nothing was done")
	}
	w.wantLive()
	w.wantJournal("commit provisioning a")
	_, err = m.Get(context.Background(), "a")
	wantCode(t, err, sandboxer.NotFound)
	w.store.heal()
	created(t, m, ask("a"))
}

// TestSecondProcess: a store file that another Manager works on is not opened.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	st, err := boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	cfg := w.config()
	cfg.Store = st
	m, err := manager.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	created(t, m, ask("a"))
	_, err = boltstore.Open(t.Context(), path)
	if !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("%v, want FailedPrecondition", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = m.Get(context.Background(), "a")
	wantText(t, err, "clos")

	st, err = boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close() //nolint:errcheck // read only from here
	cfg.Store = st
	m, err = manager.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantState(t, m, "a", sandboxer.StateReady)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	w.wantLive("a")
}

// TestStoreFailsWhilePaused: where it could not be stored that a sandbox is paused, or runs again, that is looked at when the
// store takes it. It was seen to fail on a retry that only removes.
func TestStoreFailsWhilePaused(t *testing.T) {
	t.Parallel()
	for kind, how := range map[string]wrong{"full": {Err: errFull}, "lost": {Err: errDisk, Applied: true, Blinds: true}, "blind": {Err: errDisk, Blinds: true}} {
		for _, point := range []string{"commit paused", "commit ready"} {
			t.Run(point+", "+kind, func(t *testing.T) {
				simulate(t, func(t *testing.T) {
					w := newWorld(t, sandboxer.CapPause, sandboxer.CapInspect)
					m := w.open()
					sb := created(t, m, ask("a"))
					how := how
					how.Point, how.Times = point, 1
					want := sandboxer.StatePaused
					if point == "commit ready" {
						if err := sb.Pause(context.Background()); err != nil {
							t.Fatal(err)
						}
						want = sandboxer.StateReady
					}
					w.store.fail(how)
					var err error
					if want == sandboxer.StatePaused {
						err = sb.Pause(context.Background())
					} else {
						err = sb.Resume(context.Background())
					}
					if err == nil {
						t.Error("no error, although it could not be stored")
					}
					w.store.heal()
					pass(time.Minute)
					wantState(t, m, "a", want)
				})
			})
		}
	}
}
