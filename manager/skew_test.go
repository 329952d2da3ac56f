package manager_test

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// skewed is an extension whose backend's clock is wrong by so much: every time that it tells is.
type skewed struct {
	sandboxer.Extension
	sandboxer.Snapshotter
	sandboxer.Meterer
	by time.Duration
}

func (x skewed) Unwrap() sandboxer.Extension { return x.Extension }

// HasCapability passes on what the extension can do.
func (x skewed) HasCapability(c sandboxer.Capability) bool {
	return slices.Contains(sandboxer.Capabilities(x.Extension), c)
}

// shifted is t on the backend's clock.
func (x skewed) shifted(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(x.by)
}

func (x skewed) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	r, err := x.Extension.WaitReady(ctx, t)
	r.ExpiresAt = x.shifted(r.ExpiresAt)
	return r, err
}

func (x skewed) instance(in sandboxer.Instance) sandboxer.Instance {
	in.CreatedAt, in.ExpiresAt = x.shifted(in.CreatedAt), x.shifted(in.ExpiresAt)
	return in
}

func (x skewed) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	inner, _ := sandboxer.As[sandboxer.Inspector](x.Extension)
	in, err := inner.Inspect(ctx, t)
	return x.instance(in), err
}

func (x skewed) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	inner, _ := sandboxer.As[sandboxer.Lister](x.Extension)
	return func(yield func(sandboxer.Instance, error) bool) {
		for in, err := range inner.List(ctx, q) {
			if !yield(x.instance(in), err) {
				return
			}
		}
	}
}

func (x skewed) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		for s, err := range x.Snapshotter.ListSnapshots(ctx, q) {
			s.CreatedAt = x.shifted(s.CreatedAt)
			if !yield(s, err) {
				return
			}
		}
	}
}

func (x skewed) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	r, err := x.Meterer.MeterActual(ctx, t)
	r.From, r.To = x.shifted(r.From), x.shifted(r.To)
	return r, err
}

// skew sets the clock of the world's backend.
func (w *world) skew(by time.Duration) {
	a := w.backend.Adapter(w.caps...)
	build := a.New
	a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
		ext, err := build(ctx, s)
		snapper, _ := sandboxer.As[sandboxer.Snapshotter](ext)
		meter, _ := sandboxer.As[sandboxer.Meterer](ext)
		return skewed{ext, snapper, meter, by}, err
	}
	w.adapters = []sandboxer.Adapter{a}
}

// onSkewedClocks runs f with a backend whose clock is right, and as far before and behind as the docs allow.
func onSkewedClocks(t *testing.T, f func(t *testing.T, by time.Duration)) {
	t.Helper()
	t.Parallel()
	for name, by := range map[string]time.Duration{"right": 0, "slow": -10 * time.Minute, "fast": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) { f(t, by) })
		})
	}
}

// TestSkewedGrace: whatever the backend's clock says, the reaper leaves alone what is younger than its grace, and removes what
// is older than that by twice the skew. It was seen to fail with a skew of five minutes (what a slow clock makes look old is
// removed while it is young) and of fifteen (what a fast clock makes look young stays).
func TestSkewedGrace(t *testing.T) {
	onSkewedClocks(t, func(t *testing.T, by time.Duration) {
		w := newWorld(t, sandboxer.CapList, sandboxer.CapSnapshot)
		w.skew(by)
		m := w.open()
		sb := created(t, m, ask("a"))
		if _, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "forgotten"}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Store.Commit(context.Background(), store.Mutation{Do: store.Delete, Key: store.Key{Kind: "snapshot", ID: "forgotten"}, Expect: store.AnyRev}); err != nil {
			t.Fatal(err)
		}
		w.backend.Plant("ext.fake", "", "stray", stamped(owner(t, w.store), "stray"))
		pass(5*time.Minute - time.Second)
		reap(t, m, manager.ReapOptions{})
		w.wantLive("a", "snapshot/forgotten", "stray")
		pass(20*time.Minute + 2*time.Second)
		reap(t, m, manager.ReapOptions{})
		w.wantLive("a")
	})
}

// TestSkewedEnd: what cannot be removed is given up only when the backend has ended it by itself, whatever its clock says
// that that is. It was seen to fail with a skew of five minutes (on a slow clock it is given up while it lives) and of
// fifteen (on a fast one it is not given up in time).
func TestSkewedEnd(t *testing.T) {
	onSkewedClocks(t, func(t *testing.T, by time.Duration) {
		w := newWorld(t, sandboxer.CapExtend)
		w.skew(by)
		m := w.open()
		begun := time.Now()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: sandboxer.Mark(sandboxer.Unavailable, errLost)})
		ends := 61 * time.Minute // a minute behind the Manager's own
		try := func(at time.Duration) error {
			pass(at - time.Since(begun))
			_, err := sb.Teardown(context.Background())
			return err
		}
		if err := try(ends - time.Second); err == nil {
			t.Error("it was given up while it lives")
		}
		w.wantLive("a")
		wantState(t, m, "a", sandboxer.StateOrphaned)
		if err := try(ends + 20*time.Minute + time.Second); err != nil {
			t.Errorf("it ended 20 minutes ago, and is not given up: %v", err)
		}
		w.wantLive()
		wantState(t, m, "a", sandboxer.StateGone)
	})
}

// TestSkewedBill: what is found to live on behind its end is billed from there on, and as read, whatever the backend's clock
// says. It was seen to fail with a skew of five minutes: on a slow or a fast clock it was taken for another sandbox, and
// billed twice, and a reading from a fast clock was called an estimate.
func TestSkewedBill(t *testing.T) {
	onSkewedClocks(t, func(t *testing.T, by time.Duration) {
		w := newWorld(t, sandboxer.CapList, sandboxer.CapMeter)
		w.skew(by)
		x := w.metered()
		m := w.open()
		sb := created(t, m, ask("a"))
		pass(time.Minute)
		w.backend.Break(fake.TeardownLies)
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.backend.Mend()
		w.wantLive("a") // nobody can look
		pass(30 * time.Minute)
		reap(t, m, manager.ReapOptions{})
		w.wantLive()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		var total sandboxer.Money
		for key, r := range x.got {
			if r.Estimated {
				t.Errorf("%s is an estimate", key)
			}
			sum, err := total.Add(r.Total)
			if err != nil {
				t.Fatal(err)
			}
			total = sum
		}
		if len(x.got) != 2 || total != w.backend.Costs()["a"] {
			t.Errorf("%d records of %v, want 2 of what it has cost, %v: %q", len(x.got), total, w.backend.Costs()["a"], x.keys())
		}
	})
}
