package manager_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// TestHugeErrors: what a backend says may be as long as it likes, such as the whole output of a build. The record of what it
// is about can still be stored at every step, and the sandbox ends. It was seen to fail without clip: a record of more than
// store.MaxBody can never be stored again, so that its sandbox stays provisioning, or orphaned, for ever.
func TestHugeErrors(t *testing.T) {
	t.Parallel()
	huge := sandboxer.Mark(sandboxer.Internal, errors.New("it went wrong: "+strings.Repeat("output €\n", 200_000)+"the end"))
	for name, c := range map[string]struct {
		faults []fake.Fault
		tries  int
	}{
		"refused":     {faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: sandboxer.Refused(sandboxer.Internal, huge), Times: 1}}},
		"unknown":     {faults: []fake.Fault{{Op: sandboxer.OpProvision, Err: huge, Times: 1, Effect: fake.After}}},
		"never ready": {faults: []fake.Fault{{Op: sandboxer.OpWaitReady, Err: huge, Times: 1}}},
		"stuck": {faults: []fake.Fault{
			{Op: sandboxer.OpWaitReady, Err: huge, Times: 1}, {Op: sandboxer.OpTeardown, Err: huge, Times: 2},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t).withHosts(sandboxer.Host{ID: "h1", MaxSandboxes: 1})
				for _, f := range c.faults {
					w.backend.Fail(f)
				}
				m := w.open()
				_, err := m.Create(context.Background(), ask("a"))
				wantText(t, err, "it went wrong", "the end")
				pass(15 * time.Minute)
				wantState(t, m, "a", sandboxer.StateFailed)
				w.wantLive()
				if n := w.slots(); n != 0 {
					t.Errorf("%d slots are taken by nothing", n)
				}
				if s := status(t, m, "a"); len(s.Reason) > 16<<10 || !strings.Contains(s.Reason, "it went wrong") {
					t.Errorf("the reason has %d bytes: %.100s", len(s.Reason), s.Reason)
				}
			})
		})
	}
}

// TestManyAttempts: an ID may be tried for ever; its record does not grow for ever, numbers go on, and the name of an attempt
// that is forgotten is still no other sandbox's. It was seen to fail without remember and without had.
func TestManyAttempts(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		const tries = 150
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBad, Times: tries})
		for range tries {
			if _, err := m.Create(context.Background(), ask("a")); err == nil {
				t.Fatal("created")
			}
		}
		created(t, m, ask("a"))
		s := status(t, m, "a")
		if n := len(s.Attempts); n < 50 || n > 100 {
			t.Errorf("%d attempts are remembered", n)
		}
		if last := s.Attempts[len(s.Attempts)-1]; last.N != tries+1 || last.Name != "a-151" {
			t.Errorf("the last attempt is %+v", last)
		}
		w.wantLive("a-151")
		_, err := m.Create(context.Background(), ask("a-2"))
		wantCode(t, err, sandboxer.AlreadyExists)
		_, err = m.Create(context.Background(), ask("a-150"))
		wantCode(t, err, sandboxer.AlreadyExists)
		created(t, m, ask("a-152"))
	})
}

// TestManySkipped: places that are passed over push no attempt that was begun out of the record.
func TestManySkipped(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		first := sandboxer.Profile{ID: "profile.first", Title: "First", Extension: "ext.fake", Isolation: sandboxer.IsolationVM, Burst: &sandboxer.BurstPolicy{}}
		for i := range 150 {
			p := sandboxer.Profile{ID: fmt.Sprintf("profile.target-%d", i), Title: "Target", Extension: "ext.fake"}
			if i == 149 {
				p.Isolation = sandboxer.IsolationVM // the others are too weak
			}
			first.Burst.To = append(first.Burst.To, sandboxer.BurstTarget{Profile: p.ID})
			w.profiles = append(w.profiles, p)
		}
		w.profiles = append(w.profiles, first)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy, Times: 1})
		m := w.open()
		req := ask("a")
		req.Profile = first.ID
		created(t, m, req)
		s := status(t, m, "a")
		if last := s.Attempts[len(s.Attempts)-1]; last.N != 2 || s.Attempts[0].N != 1 || len(s.Attempts) > 100 {
			t.Errorf("%d attempts, the first %+v, the last %+v", len(s.Attempts), s.Attempts[0], last)
		}
		w.wantLive("a-2")
	})
}

// bulky is an adapter that hands out more than any record can keep.
type bulky struct {
	sandboxer.Extension
	handle, reach, cleanup int
}

func (b bulky) Unwrap() sandboxer.Extension { return b.Extension }

func (b bulky) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	h, err := b.Extension.Provision(ctx, req)
	if err != nil || b.handle == 0 {
		return h, err
	}
	return req.Handle(1, strings.Repeat("x", b.handle))
}

func (b bulky) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	r, err := b.Extension.WaitReady(ctx, t)
	r.SSH = strings.Repeat("x", b.reach)
	return r, err
}

func (b bulky) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	rep, err := b.Extension.Teardown(ctx, t)
	for range b.cleanup {
		rep.Removed = append(rep.Removed, strings.Repeat("volume ", 200))
	}
	return rep, err
}

// TestBulkyBackend: what an adapter hands out and no record can keep is an error that names the adapter, and leaves nothing;
// what it says of a removal is shortened. It was seen to fail without checkState, checkReach and clipLines.
func TestBulkyBackend(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bulky{
		"handle": {handle: 2 << 20}, "handle that nearly fits": {handle: 900 << 10}, "reachability": {reach: 2 << 20}, "cleanup": {cleanup: 5000},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				a := w.backend.Adapter(w.caps...)
				build := a.New
				a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
					x, err := build(ctx, s)
					b.Extension = x
					return b, err
				}
				w.adapters = []sandboxer.Adapter{a}
				m := w.open()
				sb, err := m.Create(context.Background(), ask("a"))
				if b.cleanup == 0 {
					wantCode(t, err, sandboxer.Internal)
					wantText(t, err, "ext.fake returned a", "bytes")
					wantState(t, m, "a", sandboxer.StateFailed)
				} else if _, err := sb.Teardown(context.Background()); err != nil {
					t.Error(err)
				}
				w.wantLive()
				for _, l := range w.journal.take() {
					if strings.Contains(l, "orphaned") {
						t.Errorf("on the way: %s", l)
					}
				}
			})
		})
	}
}

// TestHugeIntent: a create whose record would have no room for its end is refused before anything exists.
func TestHugeIntent(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		for _, size := range []int{2 << 20, 900 << 10, 500 << 10} { // in the request, and in the attempt
			req := ask("a")
			req.Inputs = sandboxer.Inputs{"files": map[string]any{"f": strings.Repeat("x", size)}}
			_, err := m.Create(context.Background(), req)
			wantCode(t, err, sandboxer.InvalidArgument)
			wantText(t, err, "nothing was created", "Inputs")
		}
		w.wantLive()
		req := ask("b")
		req.Inputs = sandboxer.Inputs{"files": map[string]any{"f": strings.Repeat("x", 350<<10)}}
		created(t, m, req)
	})
}
