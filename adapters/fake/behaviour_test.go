package fake_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

var errLost = sandboxer.Mark(sandboxer.Unknown, errors.New("connection reset"))

func find(t testing.TB, ext sandboxer.Extension, id sandboxer.ID, since time.Time) (sandboxer.Handle, error) {
	return as[sandboxer.Finder](t, ext).Find(t.Context(), request(id), since)
}

func names(t testing.TB, ext sandboxer.Extension) (out []string, err error) {
	for in, err := range as[sandboxer.Lister](t, ext).List(t.Context(), sandboxer.ListQuery{}) {
		if err != nil {
			return out, err
		}
		out = append(out, in.Handle.Ref().Name())
	}
	return out, nil
}

// TestLateCreate: the reply is lost, and the sandbox appears 70 s after the call.
func TestLateCreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		b.Fail(fake.Fault{Op: sandboxer.OpProvision, Times: 1, Err: errLost, Effect: fake.After, Late: 70 * time.Second})
		since := time.Now()
		h, err := ext.Provision(t.Context(), request("one"))
		if !errors.Is(err, sandboxer.Unknown) || !h.IsZero() {
			t.Fatalf("Provision: %v, %v", h, err)
		}
		_, err = find(t, ext, "one", since)
		wantCode(t, err, sandboxer.Unknown)
		if got := sandboxer.RetryAfterOf(err); got != 70*time.Second {
			t.Errorf("RetryAfter %v", got)
		}
		ref := sandboxer.BareHandle(request("one").Ref())
		if r, err := ext.Teardown(t.Context(), target(ref)); err != nil || len(r.Removed) > 0 {
			t.Errorf("the service says 404 before it appears: %+v, %v", r, err)
		}
		time.Sleep(70 * time.Second)
		if h, err := find(t, ext, "one", since); err != nil || !h.HasState() {
			t.Errorf("it has not appeared: %v, %v", h, err)
		}
		if r, err := ext.Teardown(t.Context(), target(ref)); err != nil || len(r.Removed) != 1 {
			t.Errorf("Teardown: %+v, %v", r, err)
		}
		wantLive(t, b)
	})
}

func TestListLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		b.Behave(fake.Behaviour{ListLag: time.Minute})
		since := time.Now()
		sbx := made(t, ext, "one")
		if got, err := names(t, ext); err != nil || len(got) > 0 {
			t.Errorf("listed %v, %v", got, err)
		}
		for _, id := range []sandboxer.ID{"one", "two"} {
			_, err := find(t, ext, id, since)
			wantCode(t, err, sandboxer.Unknown)
		}
		_, err := ext.Teardown(t.Context(), bare(sbx.Handle))
		wantCode(t, err, sandboxer.Unknown)
		if sandboxer.RetryAfterOf(err) != time.Minute {
			t.Errorf("RetryAfter %v", sandboxer.RetryAfterOf(err))
		}
		time.Sleep(time.Minute)
		if got, err := names(t, ext); err != nil || len(got) != 1 {
			t.Errorf("listed %v, %v", got, err)
		}
		_, err = find(t, ext, "two", since)
		wantCode(t, err, sandboxer.NotFound)
		if _, err := ext.Teardown(t.Context(), bare(sbx.Handle)); err != nil {
			t.Error(err)
		}
		wantLive(t, b)
	})
}

func TestPartialListing(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	for _, id := range []sandboxer.ID{"a", "b", "c", "d"} {
		made(t, ext, id)
	}
	b.Fail(fake.Fault{Op: sandboxer.OpList, Times: 1, Err: errLost, Effect: fake.After})
	got, err := names(t, ext)
	wantCode(t, err, sandboxer.Unknown)
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
	b.Fail(fake.Fault{Op: sandboxer.OpList, Times: 1, Err: errLost})
	if got, err := names(t, ext); err == nil || len(got) > 0 {
		t.Errorf("listed %v, %v", got, err)
	}
	b.Behave(fake.Behaviour{Unlisted: func(name string) bool { return name == "c" }})
	got, err = names(t, ext)
	if diff := cmp.Diff([]string{"a", "b", "d"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestAnotherKey(t *testing.T) {
	t.Parallel()
	b := fake.New()
	b.Behave(fake.Behaviour{Credential: "env:KEY"})
	ext := open(t, b.Adapter())
	req := request("one")
	_, err := ext.Provision(t.Context(), req)
	wantCode(t, err, sandboxer.Unauthenticated)
	req.Secret = key("v1")
	h, err := ext.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	sbx := target(h)
	sbx.Secret = key("v2")
	_, err = as[sandboxer.Inspector](t, ext).Inspect(t.Context(), sbx)
	wantCode(t, err, sandboxer.NotFound)
	_, err = ext.Teardown(t.Context(), sbx)
	wantCode(t, err, sandboxer.NotFound)
	other := request("one")
	other.Secret = key("v2")
	_, err = as[sandboxer.Finder](t, ext).Find(t.Context(), other, time.Now())
	wantCode(t, err, sandboxer.NotFound)
	wantLive(t, b, "one")
	b.Revoke("v1")
	sbx.Secret = key("v1")
	_, err = ext.Teardown(t.Context(), sbx)
	wantCode(t, err, sandboxer.Unauthenticated)
	wantLive(t, b, "one")
}

// TestLingering: the delete succeeds, and the sandbox lives on for a while.
func TestLingering(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		sbx := made(t, ext, "one")
		b.Fail(fake.Fault{Op: sandboxer.OpTeardown, Times: 1, Linger: time.Minute})
		if _, err := ext.Teardown(t.Context(), sbx); err != nil {
			t.Fatal(err)
		}
		if in, err := as[sandboxer.Inspector](t, ext).Inspect(t.Context(), sbx); err != nil {
			t.Errorf("Inspect while it lingers: %+v, %v", in, err)
		}
		time.Sleep(time.Minute)
		_, err := as[sandboxer.Inspector](t, ext).Inspect(t.Context(), sbx)
		wantCode(t, err, sandboxer.NotFound)
		wantLive(t, b)
	})
}

func TestRefusedWithHint(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	b.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: sandboxer.Refused(sandboxer.ResourceExhausted, errors.New("429")), RetryAfter: 3 * time.Second})
	for range 3 {
		_, err := ext.Provision(t.Context(), request("one"))
		wantCode(t, err, sandboxer.ResourceExhausted)
		if !sandboxer.IsRefused(err) || sandboxer.RetryAfterOf(err) != 3*time.Second {
			t.Errorf("refused %v, RetryAfter %v", sandboxer.IsRefused(err), sandboxer.RetryAfterOf(err))
		}
	}
	b.Heal()
	made(t, ext, "one")
}

func TestRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		gate := make(chan struct{})
		b.Fail(fake.Fault{Op: sandboxer.OpProvision, Release: gate})
		done := make(chan error, 1)
		go func() { _, err := ext.Provision(t.Context(), request("one")); done <- err }()
		synctest.Wait()
		wantLive(t, b)
		if calls := b.Calls(); len(calls) != 1 || calls[0].Ended || calls[0].Name != "one" || calls[0].Op != sandboxer.OpProvision {
			t.Errorf("calls %+v", calls)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantLive(t, b, "one")
		if calls := b.Calls(); !calls[0].Ended || calls[0].Err != nil {
			t.Errorf("calls %+v", calls)
		}
	})
}

func TestNativeLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		ready := func(x fake.Behaviour, until time.Time) time.Time {
			t.Helper()
			b.Behave(x)
			req := request("one")
			req.ExpiresAt = until
			h, err := ext.Provision(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			r, err := ext.WaitReady(t.Context(), target(h))
			if err != nil {
				t.Fatal(err)
			}
			in, err := as[sandboxer.Inspector](t, ext).Inspect(t.Context(), target(h))
			if err != nil || !in.ExpiresAt.Equal(r.ExpiresAt) {
				t.Errorf("inspected %v, reachable %v, %v", in.ExpiresAt, r.ExpiresAt, err)
			}
			return r.ExpiresAt
		}
		hour := time.Now().Add(time.Hour)
		if got := ready(fake.Behaviour{}, hour); !got.Equal(hour) {
			t.Errorf("granted %v", got)
		}
		time.Sleep(time.Hour - time.Second)
		wantLive(t, b, "one")
		time.Sleep(time.Second)
		wantLive(t, b)
		if got := ready(fake.Behaviour{ExpiryMargin: time.Minute}, time.Now().Add(time.Hour)); !got.Equal(time.Now().Add(61 * time.Minute)) {
			t.Errorf("granted %v", got)
		}
		b.Vanish("one")
		if got := ready(fake.Behaviour{MaxLifetime: time.Minute}, time.Time{}); !got.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("granted %v", got)
		}
	})
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	b := fake.New()
	b.Behave(fake.Behaviour{Capacity: 2})
	ext := open(t, b.Adapter())
	made(t, ext, "a")
	last := made(t, ext, "b")
	made(t, ext, "b")
	_, err := ext.Provision(t.Context(), request("c"))
	wantCode(t, err, sandboxer.ResourceExhausted)
	if !sandboxer.IsRefused(err) {
		t.Error("not refused")
	}
	other := request("c")
	other.Host.ID = "another"
	if _, err := ext.Provision(t.Context(), other); err != nil {
		t.Error(err)
	}
	if _, err := ext.Teardown(t.Context(), last); err != nil {
		t.Error(err)
	}
	made(t, ext, "c")
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	b := fake.New()
	b.Behave(fake.Behaviour{Checkpoint: true})
	ext := open(t, b.Adapter())
	var kept sandboxer.Handle
	req := request("one")
	req.Checkpoint = func(_ context.Context, h sandboxer.Handle) error { kept = h; return nil }
	h, err := ext.Provision(t.Context(), req)
	if err != nil || kept != h {
		t.Errorf("kept %v of %v, %v", kept, h, err)
	}
	full := errors.New("disk full")
	req = request("two")
	req.Checkpoint = func(context.Context, sandboxer.Handle) error { return full }
	h, err = ext.Provision(t.Context(), req)
	if !errors.Is(err, full) || !h.HasState() {
		t.Errorf("after a failed checkpoint: %v, %v", h, err)
	}
}

func TestNewerHandle(t *testing.T) {
	t.Parallel()
	ext := open(t, fake.New().Adapter())
	h, err := sandboxer.NewHandle(request("one").Ref(), 2, map[string]string{"new": "layout"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ext.Teardown(t.Context(), target(h))
	wantCode(t, err, sandboxer.FailedPrecondition)
	_, err = ext.WaitReady(t.Context(), target(h))
	wantCode(t, err, sandboxer.FailedPrecondition)
	_, err = ext.Teardown(t.Context(), sandboxer.Target{})
	wantCode(t, err, sandboxer.InvalidArgument)
}

func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	const n = 5000
	for range n {
		_, _ = ext.Provision(t.Context(), request("one"))
	}
	_, _ = ext.Teardown(t.Context(), target(sandboxer.BareHandle(request("one").Ref())))
	calls := b.Calls()
	if len(calls) != 4096 || calls[4095].Op != sandboxer.OpTeardown || b.Count(sandboxer.OpProvision) != n {
		t.Errorf("%d calls remembered, the last a %s; %d counted", len(calls), calls[len(calls)-1].Op, b.Count(sandboxer.OpProvision))
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		req := request("one")
		req.Profile.Resources = sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30}
		req.ExpiresAt = time.Now().Add(100 * time.Hour)
		h, err := ext.Provision(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		m, p, sbx := as[sandboxer.Meterer](t, ext), as[sandboxer.Pauser](t, ext), target(h)
		read := func(want string, final bool) {
			t.Helper()
			r, err := m.MeterActual(t.Context(), sbx)
			if err != nil || r.Total.String() != want || r.Final != final {
				t.Errorf("reading %v, final %v, %v; want %s, %v", r.Total, r.Final, err, want, final)
			}
		}
		read("0.001 USD", false)
		time.Sleep(time.Hour)
		read("0.1018 USD", false)
		q, err := m.EstimateCost(t.Context(), req.Profile, time.Hour)
		if err != nil || q.Total.String() != "0.1018 USD" || q.PriceList != fake.PriceList {
			t.Errorf("quote %+v, %v", q, err)
		}
		if err := p.Pause(t.Context(), sbx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		read("0.1018 USD", false)
		if _, err := p.Resume(t.Context(), sbx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1000 * time.Hour)
		read("9.9802 USD", true) // 99 h
		if _, err := ext.Teardown(t.Context(), sbx); err != nil {
			t.Fatal(err)
		}
		read("9.9802 USD", true)
	})
}

// TestSnapshotsLieToo: one appears late, one lives on after its deletion.
func TestSnapshotsLieToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		sbx, snaps := made(t, ext, "one"), as[sandboxer.Snapshotter](t, ext)
		b.Fail(fake.Fault{Op: sandboxer.OpSnapshot, Times: 1, Err: errLost, Effect: fake.After, Late: time.Minute})
		_, err := snaps.Snapshot(t.Context(), sbx, sandboxer.SnapshotRequest{ID: "late", Labels: map[string]string{sandboxer.LabelOwner: owner}})
		wantCode(t, err, sandboxer.Unknown)
		gone := sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "late"}}
		listed := func() (n int) {
			for _, err := range snaps.ListSnapshots(t.Context(), sandboxer.ListQuery{}) {
				if err != nil {
					t.Error(err)
				}
				n++
			}
			return n
		}
		if err := snaps.DeleteSnapshot(t.Context(), gone); err != nil || listed() != 0 {
			t.Errorf("before it appears: %v, %d listed", err, listed())
		}
		time.Sleep(time.Minute)
		if listed() != 1 {
			t.Error("it has not appeared")
		}
		b.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Times: 1, Linger: time.Minute})
		if err := snaps.DeleteSnapshot(t.Context(), gone); err != nil || listed() != 1 {
			t.Errorf("while it lingers: %v, %d listed", err, listed())
		}
		time.Sleep(time.Minute)
		if listed() != 0 {
			t.Error("it lingers for ever")
		}
		wantLive(t, b, "one")
	})
}
