package manager_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

var (
	errBusy = sandboxer.Refused(sandboxer.Unavailable, errors.New("the backend is restarting"))
	errBad  = sandboxer.Refused(sandboxer.InvalidArgument, errors.New("no such image"))
	errLost = errors.New("connection reset by peer")
)

// TestCommits holds every row of the table of a sandbox's life to exactly its commits and calls, in their order: before a
// call that can start spending, after one that can only stop it, both around Teardown.
func TestCommits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		caps   []sandboxer.Capability
		retry  int
		faults []fake.Fault
		code   sandboxer.Code
		want   []string
	}{
		"first choice": {
			want: []string{"commit provisioning a", "provision a", "wait-ready a", "commit ready a"},
		},
		"refused for good": {
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errBad}},
			code:   sandboxer.InvalidArgument,
			want:   []string{"commit provisioning a", "provision a", "commit failed a"},
		},
		"refused once, tried again": {
			retry:  1,
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errBusy, Times: 1}},
			want:   []string{"commit provisioning a", "provision a", "provision a", "wait-ready a", "commit ready a"},
		},
		"failed with a handle": {
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.AfterWithHandle}},
			code:   sandboxer.Unknown,
			want:   []string{"commit provisioning a", "provision a", "commit tearing_down a", "teardown a", "commit failed a"},
		},
		"a refusal beside a handle is void": {
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errBusy, Effect: fake.AfterWithHandle}},
			code:   sandboxer.Unavailable,
			want:   []string{"commit provisioning a", "provision a", "commit tearing_down a", "teardown a", "commit failed a"},
		},
		"unknown, without a Finder": {
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After}},
			code:   sandboxer.Unknown,
			want: []string{
				"commit provisioning a", "provision a", "commit unknown a", "commit tearing_down a", "teardown a", "commit failed a",
			},
		},
		"unknown, adopted by name": {
			caps:   []sandboxer.Capability{sandboxer.CapFind},
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After}},
			want:   []string{"commit provisioning a", "provision a", "commit unknown a", "find a", "wait-ready a", "commit ready a"},
		},
		"unknown, found absent": {
			caps:   []sandboxer.Capability{sandboxer.CapFind},
			faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: errLost}},
			code:   sandboxer.Unknown,
			want:   []string{"commit provisioning a", "provision a", "commit unknown a", "find a", "commit failed a"},
		},
		"never ready": {
			faults: []fake.Fault{{Op: sandboxer.OpWaitReady, Hang: true}},
			code:   sandboxer.DeadlineExceeded,
			want: []string{
				"commit provisioning a", "provision a", "wait-ready a", "commit tearing_down a", "teardown a", "commit failed a",
			},
		},
		"failed for good while waiting": {
			faults: []fake.Fault{{Op: sandboxer.OpWaitReady, Err: errBad}},
			code:   sandboxer.InvalidArgument,
			want: []string{
				"commit provisioning a", "provision a", "wait-ready a", "commit tearing_down a", "teardown a", "commit failed a",
			},
		},
		"teardown fails": {
			faults: []fake.Fault{{Op: sandboxer.OpWaitReady, Err: errBad}, {Op: sandboxer.OpTeardown, Err: errLost}},
			code:   sandboxer.InvalidArgument,
			want: []string{
				"commit provisioning a", "provision a", "wait-ready a", "commit tearing_down a", "teardown a", "commit orphaned a",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				w.cfg.Retries = -1
				if c.retry > 0 {
					w.cfg.Retries = c.retry
				}
				for _, f := range c.faults {
					w.backend.Fail(f)
				}
				m := w.open()
				_, err := m.Create(context.Background(), ask("a"))
				if c.code == "" && err != nil {
					t.Fatal(err)
				}
				wantCode(t, err, c.code)
				w.wantJournal(c.want...)
				w.backend.Heal()
				pass(time.Hour) // what is orphaned is removed meanwhile
				if c.code != "" {
					w.wantLive()
				}
			})
		})
	}
}

// TestOneResourceForEachAttempt goes through several hosts: each further attempt costs one commit more, and swaps the slot.
func TestOneResourceForEachAttempt(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1}, sandboxer.Host{ID: "h2", MaxSandboxes: 1}, sandboxer.Host{ID: "h3"})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Host: "h1", Err: errBusy})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Host: "h2", Err: sandboxer.Mark(sandboxer.Unavailable, errors.New("no network"))})
		m := w.open()
		created(t, m, ask("a"))
		w.wantJournal(
			"commit provisioning a +h1", "provision a on h1",
			"commit provisioning a +h2 -h1", "provision a-2 on h2", "wait-ready a-2 on h2",
			"commit tearing_down a", "teardown a-2 on h2",
			"commit provisioning a +h3 -h2", "provision a-3 on h3", "wait-ready a-3 on h3", "commit ready a",
		)
		w.wantLive("a-3")
		type place struct {
			N    int
			Name string
			Host string
			Code sandboxer.Code
		}
		var got []place
		for _, a := range status(t, m, "a").Attempts {
			got = append(got, place{a.N, a.Name, a.Host, a.Code})
		}
		want := []place{{1, "a", "h1", sandboxer.Unavailable}, {2, "a-2", "h2", sandboxer.Unavailable}, {3, "a-3", "h3", ""}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

// TestTeardownCommits: both sides of Teardown are durable.
func TestTeardownCommits(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapInspect)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.journal.take()
		rep, err := sb.Teardown(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"sandbox a"}, rep.Removed); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		w.wantJournal("commit tearing_down a", "teardown a", "inspect a", "commit gone a")
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Errorf("a second teardown: %v", err)
		}
		w.wantJournal()
		wantState(t, m, "a", sandboxer.StateGone)
	})
}

// TestOrphan: a removal that fails is shown with its reason, tries and next try, and tried again with growing pauses until
// it succeeds.
// It was seen to fail when a failed removal is not scheduled again.
func TestOrphan(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Times: 5})
		_, err := sb.Teardown(context.Background())
		wantCode(t, err, sandboxer.Unavailable)
		s := status(t, m, "a")
		if s.State != sandboxer.StateOrphaned || s.Tries != 1 || !s.NextTry.After(time.Now()) {
			t.Errorf("status %+v, want orphaned, one try, and the time of the next", s)
		}
		wantText(t, errors.New(s.Reason), "connection reset", "1")
		pauses := []time.Duration{time.Until(s.NextTry)}
		for tries := 2; tries <= 5; tries++ {
			pass(time.Until(s.NextTry))
			s = status(t, m, "a")
			if s.State != sandboxer.StateOrphaned || s.Tries != tries {
				t.Fatalf("%s after %d tries, want orphaned after %d", s.State, s.Tries, tries)
			}
			pauses = append(pauses, time.Until(s.NextTry))
		}
		for i, p := range pauses {
			most := 2 * time.Second << i
			if p < most/2 || p > most+time.Millisecond {
				t.Errorf("pause %d is %v, want between %v and %v", i+1, p, most/2, most)
			}
		}
		pass(time.Until(s.NextTry))
		wantState(t, m, "a", sandboxer.StateGone)
		w.wantLive()
	})
}

// TestOrphanError: a create whose clean-up fails says so, with the handle, the cause and what stood in the way.
func TestOrphanError(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy, Effect: fake.AfterWithHandle})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost, Times: 1})
		m := w.open()
		_, err := m.Create(context.Background(), ask("a"))
		var orphan *sandboxer.OrphanError
		if !errors.As(err, &orphan) {
			t.Fatalf("%v is no OrphanError", err)
		}
		if got := orphan.Handle.Ref().Name(); got != "a" || !errors.Is(orphan.Cleanup, errLost) {
			t.Errorf("orphan %q with %v, want a with %v", got, orphan.Cleanup, errLost)
		}
		var e *sandboxer.Error
		if errors.As(err, &e); e.NothingDone {
			t.Error("NothingDone is set, although something may be left")
		}
		wantState(t, m, "a", sandboxer.StateOrphaned)
		pass(time.Minute)
		wantState(t, m, "a", sandboxer.StateFailed)
		w.wantLive()
	})
}
