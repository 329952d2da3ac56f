package manager_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// TestNothingHangs: a backend that never answers holds no call for ever, although its caller gave it no deadline: the call
// ends at its limit, says which one and how to raise it, and nothing is left. It was seen to fail for each op without its
// line in Config.limit.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	create := func(m *manager.Manager) error {
		_, err := m.Create(ctx, ask("b"))
		return err
	}
	on := func(f func(*manager.Sandbox) error) func(*manager.Manager) error {
		return func(m *manager.Manager) error {
			sb, err := m.Get(ctx, "a")
			if err != nil {
				return err
			}
			return f(sb)
		}
	}
	for op, c := range map[sandboxer.Op]struct {
		field string
		call  func(*manager.Manager) error
		stays bool // a is there afterwards
	}{
		sandboxer.OpPreflight:    {"CallTimeout", create, true},
		sandboxer.OpEstimateCost: {"CallTimeout", create, true},
		sandboxer.OpProvision:    {"ProvisionTimeout", create, true},
		sandboxer.OpRestore: {"ProvisionTimeout", func(m *manager.Manager) error {
			req := ask("b")
			req.FromSnapshot = "s"
			_, err := m.Create(ctx, req)
			return err
		}, true},
		sandboxer.OpPause: {"ProvisionTimeout", on(func(sb *manager.Sandbox) error { return sb.Pause(ctx) }), true},
		sandboxer.OpResume: {"ProvisionTimeout", on(func(sb *manager.Sandbox) error {
			if err := sb.Pause(ctx); err != nil {
				return err
			}
			return sb.Resume(ctx)
		}), true},
		sandboxer.OpExtend: {"CallTimeout", on(func(sb *manager.Sandbox) error {
			_, err := sb.Extend(ctx, time.Now().Add(48*time.Hour))
			return err
		}), true},
		sandboxer.OpMeterActual: {"CallTimeout", on(func(sb *manager.Sandbox) error {
			_, err := sb.Meter(ctx)
			return err
		}), true},
		sandboxer.OpDial: {"CallTimeout", on(func(sb *manager.Sandbox) error {
			_, err := sb.Dial(ctx, "tcp", "localhost:80")
			return err
		}), true},
		sandboxer.OpExpose: {"CallTimeout", on(func(sb *manager.Sandbox) error {
			_, err := sb.Expose(ctx, 80)
			return err
		}), true},
		sandboxer.OpTeardown: {"", on(func(sb *manager.Sandbox) error {
			_, err := sb.Teardown(ctx)
			return err
		}), false},
		sandboxer.OpDeleteSnapshot: {"TeardownTimeout", func(m *manager.Manager) error { return m.DeleteSnapshot(ctx, "s") }, true},
		sandboxer.OpListSnapshots:  {"TeardownTimeout", func(m *manager.Manager) error { return m.DeleteSnapshot(ctx, "s") }, true},
	} {
		t.Run(string(op), func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.AllCapabilities()...)
				w.cfg.DefaultTTL = 24 * time.Hour
				m := w.open()
				sb := created(t, m, ask("a"))
				if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
					t.Fatal(err)
				}
				w.backend.Fail(fake.Fault{Op: op, Delay: 1000 * time.Hour, Times: 1})
				begun := time.Now()
				err := c.call(m)
				wantCode(t, err, sandboxer.DeadlineExceeded)
				if c.field != "" {
					wantText(t, err, "Config."+c.field, string(op))
				}
				if took := time.Since(begun); took < time.Minute || took > 40*time.Minute {
					t.Errorf("it took %v", took)
				}
				pass(time.Hour)
				want := []string{"a", "snapshot/s"}
				if !c.stays {
					want = want[1:]
				}
				if op == sandboxer.OpDeleteSnapshot || op == sandboxer.OpListSnapshots {
					want = want[:1]
				}
				w.wantLive(want...)
			})
		})
	}
}

// asking is a source of secrets that does not answer.
type asking struct{}

func (asking) Payer(ctx context.Context, _ sandboxer.SecretRef, _ sandboxer.Consumer) (sandboxer.Payer, error) {
	<-ctx.Done()
	return sandboxer.Payer{}, ctx.Err()
}

func (asking) Secret(ctx context.Context, _ sandboxer.SecretRef, _ sandboxer.Payer) (sandboxer.Secret, error) {
	<-ctx.Done()
	return sandboxer.Secret{}, ctx.Err()
}

// TestPayerHangs: who pays is asked for so long and no longer.
func TestPayerHangs(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.yaml["extensions/ext.paid.yaml"] = "id: ext.paid\ntitle: Paid\nhandler: fake\ncapabilities:\n  isolation_levels: [container]\n  pricing_model: free\nconfig:\n  key: env:KEY\n"
		w.yaml["profiles/profile.paid.yaml"] = "id: profile.paid\ntitle: Paid\nextension: ext.paid\n"
		w.cfg.Secrets = asking{}
		m := w.open()
		begun := time.Now()
		req := ask("a")
		req.Profile = "profile.paid"
		_, err := m.Create(context.Background(), req)
		wantCode(t, err, sandboxer.DeadlineExceeded)
		wantText(t, err, "who pays at ext.paid", "Config.CallTimeout")
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		if _, err := m.Estimate(context.Background(), req); !errors.Is(err, sandboxer.DeadlineExceeded) {
			t.Errorf("estimate: %v", err)
		}
	})
}

// TestInterceptorsAreNotCounted: what an interceptor waits for, such as its turn, is not the backend's time.
func TestInterceptorsAreNotCounted(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPreflight)
		var tries []sandboxer.Op
		w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			tries = append(tries, c.Op)
			if c.Op == sandboxer.OpPreflight {
				pass(2 * time.Minute)
				if err := next(ctx); err == nil {
					return errors.New("it answered")
				}
			}
			return next(ctx) // with a limit of its own
		}}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpPreflight, Delay: 1000 * time.Hour, Times: 1})
		created(t, w.open(), ask("a"))
		if n := len(tries); n < 3 || !slices.Contains(tries, sandboxer.OpWaitReady) {
			t.Errorf("calls: %q", tries)
		}
	})
}
