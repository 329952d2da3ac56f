package manager_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// TestJoin: however many callers send the same request under one ID, one sandbox is made, and all get it.
// It was seen to fail when a second caller does not get the flight that is under way.
func TestJoin(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Behave(fake.Behaviour{ReadyAfter: time.Second})
		m := w.open()
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				sb, err := m.Create(context.Background(), ask("a"))
				if err != nil {
					t.Error(err)
				} else if sb.ID() != "a" {
					t.Errorf("got %s", sb.ID())
				}
			})
		}
		group.Wait()
		if n := w.backend.Count(sandboxer.OpProvision); n != 1 {
			t.Errorf("%d calls of Provision, want 1", n)
		}
		w.wantLive("a")
	})
}

// TestLeave: the caller that leaves last cancels the create; one that others wait beside does not.
func TestLeave(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Behave(fake.Behaviour{ReadyAfter: time.Minute})
		m := w.open()
		first, leaveFirst := context.WithCancel(context.Background())
		second, leaveSecond := context.WithCancel(context.Background())
		defer leaveSecond()
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{first, second} {
			go func() {
				_, err := m.Create(ctx, ask("a"))
				errs <- err
			}()
		}
		pass(time.Second)
		leaveFirst()
		err := <-errs
		wantCode(t, err, sandboxer.Canceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", err)
		}
		pass(time.Second)
		wantState(t, m, "a", sandboxer.StateProvisioning)
		w.wantLive("a")
		leaveSecond()
		begun := time.Now()
		wantCode(t, <-errs, sandboxer.Canceled)
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("clean-up took %v", took)
		}
		wantState(t, m, "a", sandboxer.StateFailed)
		w.wantLive()
	})
}

// TestLeaveAtTheEnd: who joined a create gets its sandbox also when it became ready in the moment in which the caller stopped
// waiting, or in which the store cannot be read: nobody else has it. It was seen to fail on a Create that reads the record under the
// caller's context, which left the sandbox to nobody.
func TestLeaveAtTheEnd(t *testing.T) {
	for name, at := range map[string]func(w *world, leave func()){
		"while it is stored": func(w *world, leave func()) { w.store.fail(wrong{Point: "commit ready", Before: leave}) },
		"before it is read": func(w *world, leave func()) {
			w.store.fail(wrong{Point: "commit ready", Before: func() { w.store.beforeReads(leave) }})
		},
		"nothing is read": func(w *world, _ func()) {
			w.store.fail(wrong{Point: "commit ready", Blinds: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.backend.Behave(fake.Behaviour{ReadyAfter: time.Minute})
				m := w.open()
				first, leaveFirst := context.WithCancel(context.Background())
				second, leaveSecond := context.WithCancel(context.Background())
				defer leaveSecond()
				go func() {
					_, err := m.Create(first, ask("a"))
					wantCode(t, err, sandboxer.Canceled)
				}()
				pass(time.Second)
				at(w, leaveSecond)
				done := make(chan error, 1)
				go func() {
					sb, err := m.Create(second, ask("a"))
					if err == nil && sb.ID() != "a" {
						t.Errorf("got %s", sb.ID())
					}
					done <- err
				}()
				pass(time.Second)
				leaveFirst()
				if err := <-done; err != nil {
					t.Error(err)
				}
				w.store.heal()
				wantState(t, m, "a", sandboxer.StateReady)
				w.wantLive("a")
			})
		})
	}
}

// TestComeBack: a caller that comes while an abandoned create is being cleaned up waits for that, and starts anew.
func TestComeBack(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Hang: true, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Delay: 10 * time.Second, Times: 1})
		m := w.open()
		ctx, leave := context.WithTimeout(context.Background(), time.Second)
		defer leave()
		go func() { _, _ = m.Create(ctx, ask("a")) }()
		pass(2 * time.Second)
		begun := time.Now()
		created(t, m, ask("a"))
		if took := time.Since(begun); took != 9*time.Second {
			t.Errorf("came back after %v, want when the clean-up was over", took)
		}
		w.wantLive("a-2")
		wantState(t, m, "a", sandboxer.StateReady)
	})
}

// TestSameID goes through the table: what a create under an ID that exists gets, in each state of what exists.
func TestSameID(t *testing.T) {
	t.Parallel()
	other := ask("a")
	other.Labels = map[string]string{"team": "blue"}
	teardown := func(t *testing.T, m *manager.Manager) {
		sb, err := m.Get(context.Background(), "a")
		if err != nil {
			t.Error(err)
		}
		_, _ = sb.Teardown(context.Background()) // in one case it is to fail
	}
	for name, c := range map[string]struct {
		fault fake.Fault // of the first create
		then  func(*testing.T, *manager.Manager, *fake.Backend)
		code  sandboxer.Code
		retry bool // RetryAfter is set
		live  []string
	}{
		"ready": {live: []string{"a"}},
		"paused": {
			then: func(t *testing.T, m *manager.Manager, _ *fake.Backend) {
				sb, err := m.Get(context.Background(), "a")
				if err != nil {
					t.Fatal(err)
				}
				if err := sb.Pause(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			live: []string{"a"},
		},
		"failed and clean": {
			fault: fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: 1},
			live:  []string{"a-2"},
		},
		"failed after it was there": {
			fault: fake.Fault{Op: sandboxer.OpWaitReady, Err: errBad, Times: 1},
			live:  []string{"a-2"},
		},
		"gone": {
			then: func(t *testing.T, m *manager.Manager, _ *fake.Backend) { teardown(t, m) },
			code: sandboxer.FailedPrecondition,
		},
		"orphaned": {
			then: func(t *testing.T, m *manager.Manager, b *fake.Backend) {
				b.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost, Times: 1})
				teardown(t, m)
			},
			code: sandboxer.Aborted, retry: true,
			live: []string{"a"},
		},
		"tearing down": {
			then: func(t *testing.T, m *manager.Manager, b *fake.Backend) {
				b.Fail(fake.Fault{Op: sandboxer.OpTeardown, Delay: 10 * time.Second, Times: 1})
				go teardown(t, m)
				pass(time.Second)
			},
			code: sandboxer.Aborted, retry: true,
			live: []string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapPause)
				if c.fault.Op != "" {
					w.backend.Fail(c.fault)
				}
				m := w.open()
				if _, err := m.Create(context.Background(), ask("a")); (err != nil) != (c.fault.Op != "") {
					t.Fatal(err)
				}
				if c.then != nil {
					c.then(t, m, w.backend)
				}
				_, err := m.Create(context.Background(), other)
				wantCode(t, err, sandboxer.AlreadyExists)
				sb, err := m.Create(context.Background(), ask("a"))
				wantCode(t, err, c.code)
				if err == nil && sb.ID() != "a" {
					t.Errorf("got %s", sb.ID())
				}
				if got := sandboxer.RetryAfterOf(err) > 0; got != c.retry {
					t.Errorf("RetryAfter %v, want one: %v", sandboxer.RetryAfterOf(err), c.retry)
				}
				w.wantLive(c.live...)
				pass(time.Minute)
			})
		})
	}
}

// TestSameRequest: two requests are the same when all that matters is, however it was written down.
func TestSameRequest(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		big := ask("a")
		big.Inputs = sandboxer.Inputs{"files": map[string]any{"<&>.txt": "snow \u2603 \u2028"}}
		big.Consumer.Labels = map[string]string{"n": "9007199254740993"}
		created(t, m, big)
		again := big
		again.Inputs = sandboxer.Inputs{"files": map[string]string{"<&>.txt": "snow \u2603 \u2028"}}
		again.Labels = map[string]string{}
		created(t, m, again)
		for _, change := range []func(*sandboxer.CreateRequest){
			func(r *sandboxer.CreateRequest) { r.Consumer.Run = "2" },
			func(r *sandboxer.CreateRequest) { r.TTL = time.Minute },
			func(r *sandboxer.CreateRequest) { r.Inputs = nil },
			func(r *sandboxer.CreateRequest) { r.Profile = "profile.none" },
			func(r *sandboxer.CreateRequest) { r.FromSnapshot = "snap-1" },
		} {
			other := big
			change(&other)
			_, err := m.Create(context.Background(), other)
			wantCode(t, err, sandboxer.AlreadyExists)
		}
	})
}

// TestOtherRequestInFlight: the ID of a create under way is taken as well.
func TestOtherRequestInFlight(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Behave(fake.Behaviour{ReadyAfter: time.Minute})
		m := w.open()
		go func() { _, _ = m.Create(context.Background(), ask("a")) }()
		synctest.Wait()
		other := ask("a")
		other.TTL = time.Minute
		_, err := m.Create(context.Background(), other)
		wantCode(t, err, sandboxer.AlreadyExists)
		pass(time.Minute)
		wantState(t, m, "a", sandboxer.StateReady)
	})
}

// TestNamesNeverCollide: the name of an attempt is no other sandbox's ID, whichever was there first.
func TestNamesNeverCollide(t *testing.T) {
	t.Parallel()
	t.Run("the ID first", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t)
			m := w.open()
			created(t, m, ask("a-2"))
			w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: 1})
			_, err := m.Create(context.Background(), ask("a"))
			wantCode(t, err, sandboxer.InvalidArgument)
			created(t, m, ask("a"))
			w.wantLive("a-2", "a-3")
		})
	})
	t.Run("the attempt first", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t)
			m := w.open()
			w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: 1})
			_, err := m.Create(context.Background(), ask("a"))
			wantCode(t, err, sandboxer.InvalidArgument)
			created(t, m, ask("a"))
			_, err = m.Create(context.Background(), ask("a-2"))
			wantCode(t, err, sandboxer.AlreadyExists)
			wantText(t, err, "attempt 2", "a-2")
			created(t, m, ask("a-3"))
			w.wantLive("a-2", "a-3")
		})
	})
	t.Run("the ID between two attempts", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2", MaxSandboxes: 1000})
			w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, ID: "a", Err: errBusy, Times: 1})
			m := w.open()
			// a-2 comes in the moment before a's second attempt is committed under that name.
			w.store.fail(wrong{Point: "commit provisioning a +h2", Times: 1, Before: func() { created(t, m, ask("a-2")) }})
			created(t, m, ask("a"))
			w.wantLive("a-2", "a-3")
			wantState(t, m, "a", sandboxer.StateReady)
			wantState(t, m, "a-2", sandboxer.StateReady)
		})
	})
}

// TestBadID: an ID that not every backend can carry is refused before anything happens.
func TestBadID(t *testing.T) {
	t.Parallel()
	m := newWorld(t).open()
	for _, id := range []sandboxer.ID{"UPPER", "-a", "a_b", sandboxer.ID(strings.Repeat("x", 41))} {
		_, err := m.Create(context.Background(), ask(id))
		wantCode(t, err, sandboxer.InvalidArgument)
		if id == "-a" {
			wantText(t, err, `"-a"`, "hyphen")
		}
	}
}
