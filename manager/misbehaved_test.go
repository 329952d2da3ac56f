package manager_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// odd is an extension with methods of its own in place of the fake's.
type odd struct {
	sandboxer.Extension
	lists     func(q sandboxer.ListQuery) sandboxer.Instance
	provision func(ctx context.Context, inner sandboxer.Extension, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error)
}

func (o *odd) Unwrap() sandboxer.Extension { return o.Extension }

func (o *odd) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if o.provision != nil {
		return o.provision(ctx, o.Extension, req)
	}
	return o.Extension.Provision(ctx, req)
}

func (o *odd) List(_ context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	if o.lists == nil {
		return nil
	}
	return func(yield func(sandboxer.Instance, error) bool) { yield(o.lists(q), nil) }
}

// odd makes the world's backend o, around the fake.
func (w *world) odd(o *odd) *world {
	a := w.backend.Adapter(w.caps...)
	inner := a.New
	a.New = func(ctx context.Context, s sandboxer.Settings) (_ sandboxer.Extension, err error) {
		o.Extension, err = inner(ctx, s)
		return o, err
	}
	w.adapters = []sandboxer.Adapter{a}
	return w
}

// TestListedWithoutAHandle: what is listed with a handle that no record could be made of is named, and nothing else is done
// with it; the store can be opened again. Each was seen to end the process, or to spoil the store, where any handle was taken.
func TestListedWithoutAHandle(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]sandboxer.HandleRef{
		"no attempt":        {ID: "good", Extension: "ext.fake"},
		"too late":          {ID: "good", Extension: "ext.fake", Attempt: 1000},
		"no extension":      {ID: "good", Attempt: 1},
		"another host":      {ID: "good", Extension: "ext.fake", Attempt: 1, Host: "elsewhere"},
		"an ID that is not": {ID: "../x", Extension: "ext.fake", Attempt: 1},
		"nothing":           {},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapList)
				w.odd(&odd{lists: func(q sandboxer.ListQuery) sandboxer.Instance {
					labels := map[string]string{sandboxer.LabelOwner: q.Labels[sandboxer.LabelOwner], sandboxer.LabelID: string(ref.ID), sandboxer.LabelName: ref.Name()}
					return sandboxer.Instance{Handle: sandboxer.BareHandle(ref), Labels: labels, State: sandboxer.StateReady, CreatedAt: time.Now().Add(-24 * time.Hour)}
				}})
				m := w.open()
				created(t, m, ask("a"))
				report, err := m.Reap(context.Background(), manager.ReapOptions{})
				if err != nil || len(report.Incomplete) != 1 || len(report.Orphaned) != 0 {
					t.Errorf("%+v, %v", report, err)
				}
				if n := w.backend.Count(sandboxer.OpTeardown); n != 0 {
					t.Errorf("%d removals", n)
				}
				w.wantLive("a")
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				wantState(t, w.open(), "a", sandboxer.StateReady)
			})
		})
	}
}

// TestNoListing: a listing that is nil is none.
func TestNoListing(t *testing.T) {
	simulate(t, func(t *testing.T) {
		m := newWorld(t, sandboxer.CapList).odd(&odd{}).open()
		if report, err := m.Reap(context.Background(), manager.ReapOptions{}); err != nil || len(report.Incomplete) != 1 {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

// upset makes one call of op go wrong.
func upset(op sandboxer.Op, after bool, how func()) sandboxer.Interceptor {
	var done atomic.Bool
	return func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
		if c.Op != op {
			return next(ctx)
		}
		if !after && done.CompareAndSwap(false, true) {
			how()
		}
		err := next(ctx)
		if after && done.CompareAndSwap(false, true) {
			how()
		}
		return err
	}
}

// TestPanics: a panic of an adapter is an error, and what was made is removed as after any other.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, op := range []sandboxer.Op{sandboxer.OpPreflight, sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpExec, sandboxer.OpSnapshot, sandboxer.OpPause, sandboxer.OpTeardown} {
		for when, after := range map[string]bool{"before": false, "after": true} {
			t.Run(string(op)+" "+when, func(t *testing.T) {
				simulate(t, func(t *testing.T) {
					w := newWorld(t, sandboxer.CapExec, sandboxer.CapSnapshot, sandboxer.CapPause, sandboxer.CapInspect, sandboxer.CapPreflight)
					w.cfg.Interceptors = []sandboxer.Interceptor{upset(op, after, func() { panic("a bug") })}
					m := w.open()
					sb, err := m.Create(context.Background(), ask("a"))
					if err == nil {
						_, execErr := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"true"}})
						_, snapErr := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "s"})
						pauseErr := sb.Pause(context.Background())
						_, downErr := sb.Teardown(context.Background())
						err = errors.Join(execErr, snapErr, pauseErr, downErr)
					}
					if !errors.Is(err, sandboxer.Internal) || !strings.Contains(err.Error(), "panicked: a bug") {
						t.Errorf("the error is %v", err)
					}
					_ = m.DeleteSnapshot(context.Background(), "s") // where there is one
					pass(time.Minute)
					w.wantLive()
				})
			})
		}
	}
}

// TestExited: a call that ends its goroutine, as a mock's does that was not expected, ends what waits for it and nothing else.
func TestExited(t *testing.T) {
	t.Parallel()
	for _, op := range []sandboxer.Op{sandboxer.OpProvision, sandboxer.OpWaitReady} {
		for when, after := range map[string]bool{"before": false, "after": true} {
			t.Run(string(op)+" "+when, func(t *testing.T) {
				simulate(t, func(t *testing.T) {
					w := newWorld(t)
					w.cfg.Interceptors = []sandboxer.Interceptor{upset(op, after, runtime.Goexit)}
					m := w.open()
					_, err := m.Create(context.Background(), ask("a"))
					wantCode(t, err, sandboxer.Internal)
					wantText(t, err, "Goexit")
					pass(time.Minute)
					w.wantLive()
					wantState(t, m, "a", sandboxer.StateFailed)
				})
			})
		}
	}
	t.Run("a copy", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t)
			sb := created(t, w.open(), ask("a"))
			done := make(chan error, 1)
			go func() { done <- sb.CopyIn(context.Background(), "", exits{}) }()
			if err := <-done; !errors.Is(err, sandboxer.Internal) {
				t.Errorf("a copy from a file system that exits: %v", err)
			}
		})
	})
	t.Run("removals", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t)
			exit := 200 // more than there are workers
			var mu sync.Mutex
			w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
				mu.Lock()
				exit--
				left := exit
				mu.Unlock()
				if c.Op == sandboxer.OpTeardown && left > 0 {
					runtime.Goexit()
				}
				return next(ctx)
			}}
			m := w.open()
			for _, id := range []sandboxer.ID{"a", "b"} {
				req := ask(id)
				req.TTL = time.Minute
				created(t, m, req)
			}
			pass(time.Hour)
			mu.Lock()
			exit = 0
			mu.Unlock()
			req := ask("c")
			req.TTL = time.Minute
			created(t, m, req)
			pass(2 * time.Minute)
			for _, id := range w.backend.Live() {
				if id == "c" {
					t.Error("an end that came later was not seen to")
				}
			}
		})
	})
}

// exits ends the goroutine that reads it.
type exits struct{ fstest.MapFS }

func (exits) Open(string) (fs.File, error) { runtime.Goexit(); return nil, nil }

func (exits) Stat(string) (fs.FileInfo, error) { runtime.Goexit(); return nil, nil }

func (exits) ReadDir(string) ([]fs.DirEntry, error) { runtime.Goexit(); return nil, nil }

// TestNoNext: an interceptor that answers for the extension is not believed.
func TestNoNext(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		var skipped atomic.Bool
		w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			if c.Op == sandboxer.OpTeardown && skipped.CompareAndSwap(false, true) {
				return nil
			}
			return next(ctx)
		}}
		sb := created(t, w.open(), ask("a"))
		_, err := sb.Teardown(context.Background())
		wantCode(t, err, sandboxer.Internal)
		pass(time.Minute)
		w.wantLive()
	})
}

// TestNil: what is missing is said.
func TestNil(t *testing.T) {
	simulate(t, func(t *testing.T) {
		sb := created(t, newWorld(t, sandboxer.CapFiles, sandboxer.CapSync).open(), ask("a"))
		wantCode(t, sb.CopyIn(context.Background(), "", nil), sandboxer.InvalidArgument)
		wantCode(t, sb.Sync(context.Background(), "", nil), sandboxer.InvalidArgument)
	})
}

// TestDoubtfulIsNoReasonToBuyElsewhere: where nobody can look whether a creation whose reply was lost comes after all, no other
// place is tried: it would be a second one. It was seen to fail where only the code of the error counted.
func TestDoubtfulIsNoReasonToBuyElsewhere(t *testing.T) {
	t.Parallel()
	lost := sandboxer.Mark(sandboxer.Unavailable, errLost)
	for name, c := range map[string]struct {
		caps  []sandboxer.Capability
		err   error
		other bool
	}{
		"lost, and nobody can look": {err: lost},
		"lost, and it can be seen":  {caps: []sandboxer.Capability{sandboxer.CapFind}, err: sandboxer.Mark(sandboxer.ResourceExhausted, errLost), other: true},
		"refused":                   {err: sandboxer.Refused(sandboxer.Unavailable, errors.New("busy")), other: true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				weak, _ := w.clouds()
				w.profiles = []sandboxer.Profile{
					{ID: "profile.first", Extension: "ext.fake", Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.weak"}}}},
					{ID: "profile.weak", Extension: "ext.weak"},
				}
				w.cfg.Retries = -1
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: c.err})
				m := w.open()
				req := ask("a")
				req.Profile = "profile.first"
				_, err := m.Create(context.Background(), req)
				if (err == nil) != c.other {
					t.Errorf("create: %v", err)
				}
				if got := len(weak.Live()) == 1; got != c.other {
					t.Errorf("at the other place: %v", weak.Live())
				}
			})
		})
	}
}

// TestHandleBesideARefusal: whoever returns a handle has made something, whatever is said of it.
func TestHandleBesideARefusal(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapList).odd(&odd{provision: func(ctx context.Context, inner sandboxer.Extension, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
			if _, err := inner.Provision(ctx, req); err != nil {
				return sandboxer.Handle{}, err
			}
			return sandboxer.BareHandle(req.Ref()), sandboxer.Refused(sandboxer.PermissionDenied, errors.New("no"))
		}})
		_, err := w.open().Create(context.Background(), ask("a"))
		wantCode(t, err, sandboxer.PermissionDenied)
		w.wantLive()
	})
}

// TestSnapshotBesideARefusal is the same of a snapshot.
func TestSnapshotBesideARefusal(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot)
		w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Op == sandboxer.OpSnapshot && err == nil {
				err = sandboxer.Refused(sandboxer.PermissionDenied, errors.New("not on a Sunday"))
			}
			return err
		}}
		sb := created(t, w.open(), ask("a"))
		_, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "s"})
		wantCode(t, err, sandboxer.PermissionDenied)
		w.wantLive("a")
	})
}
