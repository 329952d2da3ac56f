package manager_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

func listed(t *testing.T, m *manager.Manager, f manager.Filter) (ids []sandboxer.ID) {
	t.Helper()
	for sb, err := range m.List(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, sb.ID())
	}
	return ids
}

// TestList: every field of a filter, alone and together.
func TestList(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2"})
		w.profiles = []sandboxer.Profile{{ID: "profile.other", Extension: "ext.fake"}}
		m := w.open()
		for _, r := range []sandboxer.CreateRequest{
			{ID: "a", Profile: "profile.fake", Host: "h1", Consumer: sandboxer.Consumer{ID: "ci", Tenant: "blue", Run: "1"}, Labels: map[string]string{"k": "v", "l": ""}},
			{ID: "b", Profile: "profile.fake", Host: "h2", Consumer: sandboxer.Consumer{ID: "ci", Tenant: "red", Run: "2"}},
			{ID: "c", Profile: "profile.other", Host: "h2", Consumer: sandboxer.Consumer{ID: "agent", Tenant: "blue"}, Labels: map[string]string{"k": "w"}},
		} {
			created(t, m, r)
		}
		sb, err := m.Get(context.Background(), "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			f    manager.Filter
			want string
		}{
			{"all", manager.Filter{}, "a b c"},
			{"ids", manager.Filter{IDs: []sandboxer.ID{"c", "none", "a"}}, "c a"},
			{"ids and more", manager.Filter{IDs: []sandboxer.ID{"c", "a"}, Consumer: "ci"}, "a"},
			{"consumer", manager.Filter{Consumer: "ci"}, "a b"},
			{"tenant", manager.Filter{Tenant: "blue"}, "a c"},
			{"a tenant that is the beginning of another", manager.Filter{Tenant: "blu"}, ""},
			{"run", manager.Filter{Run: "2"}, "b"},
			{"profile", manager.Filter{Profile: "profile.other"}, "c"},
			{"extension", manager.Filter{Extension: "ext.fake"}, "a b c"},
			{"other extension", manager.Filter{Extension: "ext.none"}, ""},
			{"host", manager.Filter{Host: "h2"}, "b c"},
			{"host and tenant", manager.Filter{Host: "h2", Tenant: "blue"}, "c"},
			{"states", manager.Filter{States: []sandboxer.State{sandboxer.StateReady}}, "a c"},
			{"ended", manager.Filter{States: []sandboxer.State{sandboxer.StateGone, sandboxer.StateFailed}}, "b"},
			{"label", manager.Filter{Labels: map[string]string{"k": "v"}}, "a"},
			{"empty label", manager.Filter{Labels: map[string]string{"l": ""}}, "a"},
			{"label that is missing", manager.Filter{Labels: map[string]string{"m": ""}}, ""},
		} {
			var got []string
			for _, id := range listed(t, m, c.f) {
				got = append(got, string(id))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
		for range m.List(context.Background(), manager.Filter{}) {
			break // leaving early is fine
		}
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		for _, err := range m.List(dead, manager.Filter{}) {
			wantCode(t, err, sandboxer.Canceled)
		}
	})
}

// TestLongTenant: the longest consumer that is valid can be stored and found.
func TestLongTenant(t *testing.T) {
	t.Parallel()
	m := newWorld(t).open()
	long := strings.Repeat("x", 256)
	req := ask("a")
	req.Consumer = sandboxer.Consumer{ID: long, Tenant: long, Run: long}
	created(t, m, req)
	other := ask("b")
	other.Consumer = sandboxer.Consumer{ID: "b", Tenant: long[:255] + "y"}
	created(t, m, other)
	if diff := cmp.Diff([]sandboxer.ID{"a"}, listed(t, m, manager.Filter{Tenant: long})); diff != "" {
		t.Errorf("of the tenant (-want +got):\n%s", diff)
	}
}

// TestGet: what is on record is found, and what is not is said to be missing.
func TestGet(t *testing.T) {
	t.Parallel()
	m := newWorld(t).open()
	created(t, m, ask("a"))
	sb, err := m.Get(context.Background(), "a")
	if err != nil || sb.ID() != "a" || !sb.Supports(sandboxer.CapExec) || sb.Supports(sandboxer.CapPause) {
		t.Errorf("got %+v, %v", sb, err)
	}
	_, err = m.Get(context.Background(), "none")
	wantCode(t, err, sandboxer.NotFound)
	wantText(t, err, "none")
	_, err = m.Get(context.Background(), "NO ID")
	wantCode(t, err, sandboxer.InvalidArgument)
}

// TestRun: the sandbox is gone when Run returns, whatever fn does; the error joins fn's and the removal's.
func TestRun(t *testing.T) {
	t.Parallel()
	errFn := errors.New("fn failed")
	for name, c := range map[string]struct {
		fn     func(context.CancelFunc) error
		fault  fake.Fault
		panics bool
		want   []error
	}{
		"succeeds":               {fn: func(context.CancelFunc) error { return nil }},
		"fails":                  {fn: func(context.CancelFunc) error { return errFn }, want: []error{errFn}},
		"cancels":                {fn: func(cancel context.CancelFunc) error { cancel(); return errFn }, want: []error{errFn}},
		"panics":                 {fn: func(context.CancelFunc) error { panic("fn") }, panics: true},
		"cannot be created":      {fault: fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: 1}, want: []error{sandboxer.InvalidArgument}},
		"fails, and its removal": {fn: func(context.CancelFunc) error { return errFn }, fault: fake.Fault{Op: sandboxer.OpTeardown, Err: errLost, Times: 1}, want: []error{errFn, errLost}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				if c.fault.Op != "" {
					w.backend.Fail(c.fault)
				}
				m := w.open()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				err := func() (err error) {
					defer func() {
						if r := recover(); (r != nil) != c.panics {
							t.Errorf("recovered %v", r)
						}
					}()
					return m.Run(ctx, ask("a"), func(_ context.Context, sb *manager.Sandbox) error {
						wantState(t, m, sb.ID(), sandboxer.StateReady)
						return c.fn(cancel)
					})
				}()
				if len(c.want) == 0 && err != nil {
					t.Error(err)
				}
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("%v is not %v", err, want)
					}
				}
				pass(time.Minute)
				w.wantLive()
			})
		})
	}
}

// TestAbandon: an operator ends what cannot be removed, and only that. The record says who gave up what, and the slot is free.
func TestAbandon(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1})
		m := w.open()
		ctx := context.Background()
		sb := created(t, m, ask("a"))
		err := m.Abandon(ctx, "a", "the machine was scrapped")
		wantCode(t, err, sandboxer.FailedPrecondition)
		wantText(t, err, "ready", "Teardown")
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost})
		_, _ = sb.Teardown(ctx) // fails
		pass(time.Minute)
		wantCode(t, m.Abandon(ctx, "a", ""), sandboxer.InvalidArgument)
		wantCode(t, m.Abandon(ctx, "none", "gone"), sandboxer.NotFound)
		_, err = m.Create(ctx, ask("b"))
		wantCode(t, err, sandboxer.ResourceExhausted)
		if err := m.Abandon(ctx, "a", "the machine was scrapped"); err != nil {
			t.Fatal(err)
		}
		s := status(t, m, "a")
		if s.State != sandboxer.StateGone || s.EndedAt.IsZero() || s.Tries < 3 || !s.NextTry.IsZero() {
			t.Errorf("status %+v", s)
		}
		wantText(t, errors.New(s.Reason), "the machine was scrapped", "connection reset")
		created(t, m, ask("b"))
		n := w.backend.Count(sandboxer.OpTeardown)
		pass(time.Hour / 2)
		if more := w.backend.Count(sandboxer.OpTeardown); more != n {
			t.Errorf("%d more calls of Teardown for what was abandoned", more-n)
		}
		wantCode(t, m.Abandon(ctx, "a", "again"), sandboxer.FailedPrecondition)
		w.backend.Heal()
	})
}

// TestAbandonNeverReady: what was never ready ends as gone too. A create under its ID would make a second resource beside one
// that may still exist.
func TestAbandonNeverReady(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		ctx := context.Background()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Err: errLost})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost})
		_, err := m.Create(ctx, ask("a"))
		var orphan *sandboxer.OrphanError
		if !errors.As(err, &orphan) {
			t.Fatalf("%v is no OrphanError", err)
		}
		if err := m.Abandon(ctx, "a", "the machine was scrapped"); err != nil {
			t.Fatal(err)
		}
		w.backend.Heal()
		if s := status(t, m, "a"); s.State != sandboxer.StateGone {
			t.Errorf("it is %s", s.State)
		}
		_, err = m.Create(ctx, ask("a"))
		wantCode(t, err, sandboxer.FailedPrecondition)
		w.backend.Vanish("a") // somebody scrapped it
	})
}
