package manager_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// TestPlacement: which host a sandbox is put on.
func TestPlacement(t *testing.T) {
	t.Parallel()
	hosts := []sandboxer.Host{
		{ID: "small", MaxSandboxes: 2, Labels: map[string]string{"disk": "ssd", "zone": "a"}},
		{ID: "large", MaxSandboxes: 10, Labels: map[string]string{"disk": "ssd", "zone": "b"}},
		{ID: "spinning", MaxSandboxes: 10, Labels: map[string]string{"disk": "hdd", "zone": "a"}},
	}
	for name, c := range map[string]struct {
		selector map[string]string
		pin      string
		n        int
		want     []string // hosts, in order
		code     sandboxer.Code
		text     []string
	}{
		"by labels":         {selector: map[string]string{"disk": "hdd"}, n: 2, want: []string{"spinning", "spinning"}},
		"by all labels":     {selector: map[string]string{"disk": "ssd", "zone": "b"}, n: 1, want: []string{"large"}},
		"labels nobody has": {selector: map[string]string{"gpu": "yes"}, code: sandboxer.FailedPrecondition, n: 1, text: []string{"gpu", "3 configured"}},
		"by load":           {selector: map[string]string{"disk": "ssd"}, n: 7, want: []string{"small", "large", "large", "large", "large", "large", "small"}},
		"pinned":            {pin: "spinning", n: 3, want: []string{"spinning", "spinning", "spinning"}},
		"pinned and full":   {pin: "small", n: 3, want: []string{"small", "small"}, code: sandboxer.ResourceExhausted, text: []string{"small", "full", "2"}},
		"pinned to nowhere": {pin: "larg", n: 1, code: sandboxer.InvalidArgument, text: []string{`"larg"`, `did you mean "large"`}},
		"all full":          {selector: map[string]string{"zone": "a", "disk": "ssd"}, n: 3, want: []string{"small", "small"}, code: sandboxer.ResourceExhausted, text: []string{"small", "full"}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t).withHosts(hosts...)
				w.profiles = []sandboxer.Profile{{ID: "profile.placed", Extension: "ext.fake", HostSelector: c.selector}}
				m := w.open()
				var got []string
				var last error
				for range c.n {
					req := ask("")
					req.Profile, req.Host = "profile.placed", c.pin
					sb, err := m.Create(context.Background(), req)
					if err != nil {
						last = err
						continue
					}
					s := status(t, m, sb.ID())
					got = append(got, s.Host)
					if s.Reachability.Host != s.Host {
						t.Errorf("reachable on %q, put on %q", s.Reachability.Host, s.Host)
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("hosts (-want +got):\n%s", diff)
				}
				wantCode(t, last, c.code)
				if c.text != nil {
					wantText(t, last, c.text...)
				}
			})
		})
	}
}

// TestAllHostsNamed: when no host could serve, the error names every one with its reason.
func TestAllHostsNamed(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1}, sandboxer.Host{ID: "h2"}, sandboxer.Host{ID: "h3"})
		m := w.open()
		full := ask("")
		full.Host = "h1"
		created(t, m, full)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Host: "h2", Err: errBusy})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Host: "h3", Err: sandboxer.Mark(sandboxer.Unavailable, errors.New("no network"))})
		_, err := m.Create(context.Background(), ask("a"))
		wantText(t, err, "h1", "is full", "h2", "restarting", "h3", "no network")
		wantCode(t, err, sandboxer.Unavailable)
		if sandboxer.IsRefused(err) {
			t.Error("said that nothing was done, although something was made on h3")
		}
		w.wantLive(string(listed(t, m, stateReady)[0]))
	})
}

// TestNeverOvershoots: however many callers come at once, no host ever holds more than its MaxSandboxes, and every slot is
// used.
func TestNeverOvershoots(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 5}, sandboxer.Host{ID: "h2", MaxSandboxes: 7})
		w.backend.Behave(fake.Behaviour{ReadyAfter: time.Second})
		var most, now [2]atomic.Int64
		at := map[string]int{"h1": 0, "h2": 1}
		w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			i := at[c.Host]
			switch c.Op {
			case sandboxer.OpProvision:
				n := now[i].Add(1)
				for m := most[i].Load(); n > m && !most[i].CompareAndSwap(m, n); m = most[i].Load() {
				}
			case sandboxer.OpTeardown:
				defer now[i].Add(-1)
			}
			return next(ctx)
		}}
		m := w.open()
		var group sync.WaitGroup
		var ok, full atomic.Int64
		for range 64 {
			group.Go(func() {
				_, err := m.Create(context.Background(), ask(""))
				switch {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, sandboxer.ResourceExhausted):
					full.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if ok.Load() != 12 || full.Load() != 52 || most[0].Load() != 5 || most[1].Load() != 7 {
			t.Errorf("%d made and %d refused, at most %d and %d at once; want 12, 52, 5 and 7", ok.Load(), full.Load(), most[0].Load(), most[1].Load())
		}
		if n := w.slots(); n != 12 {
			t.Errorf("%d slots taken, want 12", n)
		}
	})
}

// TestSlotIsFreed: at every end of a sandbox its slot is free again.
func TestSlotIsFreed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault fake.Fault
		fails bool
	}{
		"torn down":        {},
		"refused":          {fault: fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: 1}, fails: true},
		"never ready":      {fault: fake.Fault{Op: sandboxer.OpWaitReady, Err: errBad, Times: 1}, fails: true},
		"refused at first": {fault: fake.Fault{Op: sandboxer.OpPreflight, Err: errBad, Times: 1}, fails: true},
		"removed later":    {fault: fake.Fault{Op: sandboxer.OpTeardown, Err: errLost, Times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapPreflight).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1})
				if c.fault.Op != "" {
					w.backend.Fail(c.fault)
				}
				m := w.open()
				sb, err := m.Create(context.Background(), ask("a"))
				if (err != nil) != c.fails {
					t.Fatal(err)
				}
				if err == nil {
					_, _ = sb.Teardown(context.Background()) // in one case it is to fail
					pass(time.Minute)
				}
				created(t, m, ask("b"))
				if n := w.slots(); n != 1 {
					t.Errorf("%d slots taken, want 1", n)
				}
			})
		})
	}
}

// TestNoHosts: an extension without hosts takes no pin, and one with hosts needs some.
func TestNoHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := ask("a")
	req.Host = "h1"
	_, err := w.open().Create(context.Background(), req)
	wantCode(t, err, sandboxer.InvalidArgument)
	wantText(t, err, "h1", "no hosts")
}

// TestEstimateShowsFullHosts: a host where a create would be ResourceExhausted is said to be full. It was seen to fail where
// Skipped was left empty, which means that the create would go there.
func TestEstimateShowsFullHosts(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "small", MaxSandboxes: 1}, sandboxer.Host{ID: "large", MaxSandboxes: 3}, sandboxer.Host{ID: "open"})
		m := w.open()
		skipped := func(pin string) map[string]string {
			t.Helper()
			req := ask("")
			req.Host = pin
			qs, err := m.Estimate(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]string{}
			for _, q := range qs {
				out[q.Host] = q.Skipped
			}
			return out
		}
		want := func(what string, want, got map[string]string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		want("empty", map[string]string{"small": "", "large": "", "open": ""}, skipped(""))
		req := ask("a")
		req.Host = "small"
		sb := created(t, m, req)
		full := "resource_exhausted: host small is full (1 sandboxes)"
		want("one is full", map[string]string{"small": full, "large": "", "open": ""}, skipped(""))
		want("the full one is asked for", map[string]string{"small": full}, skipped("small"))
		req.ID = "b"
		_, err := m.Create(t.Context(), req)
		wantCode(t, err, sandboxer.ResourceExhausted)
		if _, err := sb.Teardown(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("a place is free again", map[string]string{"small": ""}, skipped("small"))
	})
}
