package manager_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// TestRetry: a create is tried again only where the backend refused, and only for what passes by itself.
func TestRetry(t *testing.T) {
	t.Parallel()
	refused := func(c sandboxer.Code) error { return sandboxer.Refused(c, errors.New("no")) }
	for name, c := range map[string]struct {
		err   error
		hint  time.Duration
		calls int
	}{
		"unavailable":                 {err: refused(sandboxer.Unavailable), calls: 4},
		"exhausted":                   {err: refused(sandboxer.ResourceExhausted), calls: 4},
		"aborted":                     {err: refused(sandboxer.Aborted), calls: 4},
		"a hint is waited for":        {err: refused(sandboxer.ResourceExhausted), hint: 7 * time.Second, calls: 4},
		"a long hint is handed on":    {err: refused(sandboxer.ResourceExhausted), hint: time.Minute, calls: 1},
		"invalid":                     {err: refused(sandboxer.InvalidArgument), calls: 1},
		"unauthenticated":             {err: refused(sandboxer.Unauthenticated), calls: 1},
		"permission":                  {err: refused(sandboxer.PermissionDenied), calls: 1},
		"budget":                      {err: refused(sandboxer.BudgetExceeded), calls: 1},
		"exists":                      {err: refused(sandboxer.AlreadyExists), calls: 1},
		"internal":                    {err: refused(sandboxer.Internal), calls: 1},
		"unavailable, but no refusal": {err: sandboxer.Mark(sandboxer.Unavailable, errLost), calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: c.err, RetryAfter: c.hint})
				m := w.open()
				begun := time.Now()
				_, err := m.Create(context.Background(), ask("a"))
				took := time.Since(begun)
				wantCode(t, err, sandboxer.CodeOf(c.err))
				if n := w.backend.Count(sandboxer.OpProvision); n != c.calls {
					t.Errorf("%d calls of Provision, want %d", n, c.calls)
				}
				if got := sandboxer.RetryAfterOf(err); got != c.hint {
					t.Errorf("RetryAfter %v, want the backend's %v", got, c.hint)
				}
				if waits := c.calls - 1; took < time.Duration(waits)*c.hint || took > time.Duration(waits)*(c.hint+800*time.Millisecond) {
					t.Errorf("took %v", took)
				}
				w.wantLive()
				wantState(t, m, "a", sandboxer.StateFailed)
			})
		})
	}
}

// TestRetriesConfig: the number of tries is the host application's, however large.
func TestRetriesConfig(t *testing.T) {
	t.Parallel()
	for retries, calls := range map[int]int{-1: 1, 0: 4, 1: 2, 100: 101} {
		t.Run(strconv.Itoa(retries), func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.cfg.Retries = retries
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy})
				_, err := w.open().Create(context.Background(), ask("a"))
				wantCode(t, err, sandboxer.Unavailable)
				if n := w.backend.Count(sandboxer.OpProvision); n != calls {
					t.Errorf("%d calls of Provision, want %d", n, calls)
				}
			})
		})
	}
}

// TestFullJitter: callers that were refused together do not come back together.
func TestFullJitter(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy, Times: 200})
		begun := time.Now()
		done := make(chan struct{}, 200)
		for range cap(done) {
			go func() {
				_, _ = m.Create(context.Background(), ask(""))
				done <- struct{}{}
			}()
		}
		for range cap(done) {
			<-done
		}
		early, late := 0, 0
		for _, c := range w.backend.Calls() {
			switch after := c.At.Sub(begun); {
			case c.Op != sandboxer.OpProvision || after == 0:
			case after <= 51*time.Millisecond:
				early++
			case after <= 101*time.Millisecond:
				late++
			default:
				t.Errorf("a first retry after %v, want at most 101ms", after)
			}
		}
		if early < 50 || late < 50 {
			t.Errorf("%d retries in the first 50 ms and %d in the second, want them spread", early, late)
		}
	})
}

// TestUnknownThenRefused: a create that was refused and tried again is not tried a third time when the second reply is lost.
func TestUnknownThenRefused(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Effect: fake.After, Times: 1})
		m := w.open()
		_, err := m.Create(context.Background(), ask("a"))
		wantCode(t, err, sandboxer.Unavailable)
		if n := w.backend.Count(sandboxer.OpProvision); n != 2 {
			t.Errorf("%d calls of Provision, want 2", n)
		}
		w.wantLive()
	})
}

// TestRemovalIsPutOff: a removal comes back when the backend has said that it should, and in an hour where it has said anything
// beyond that. It was seen to fail where the word was believed without bounds: one of a year was the end of the removal.
func TestRemovalIsPutOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ hint, want time.Duration }{
		"for a while":   {20 * time.Minute, 20 * time.Minute},
		"for a year":    {365 * 24 * time.Hour, time.Hour},
		"into the past": {-time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapSnapshot)
				m := w.open()
				ctx := context.Background()
				req := ask("a")
				req.TTL = sandboxer.NoTTL
				sb := created(t, m, req)
				if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
					t.Fatal(err)
				}
				for _, op := range []sandboxer.Op{sandboxer.OpTeardown, sandboxer.OpDeleteSnapshot} {
					w.backend.Fail(fake.Fault{Op: op, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), RetryAfter: c.hint, Times: 1})
				}
				if _, err := sb.Teardown(ctx); err == nil {
					t.Error("no error")
				}
				if err := m.DeleteSnapshot(ctx, "s"); err == nil {
					t.Error("no error")
				}
				if got := time.Until(status(t, m, "a").NextTry); got < c.want || got > c.want+5*time.Second {
					t.Errorf("the next try comes in %v, want %v", got, c.want)
				}
				pass(c.want - time.Second)
				if c.want > 0 {
					w.wantLive("a", "snapshot/s")
				}
				pass(time.Minute)
				w.wantLive()
			})
		})
	}
}
