package manager_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/metering"
)

// TestRemovalThatCannotBegin: whoever asked for it may never ask again, so that it goes on in the background.
func TestRemovalThatCannotBegin(t *testing.T) {
	t.Parallel()
	t.Run("behind a call that does not end", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t, sandboxer.CapPause)
			w.cfg.Interceptors = []sandboxer.Interceptor{upset(sandboxer.OpPause, false, ninetySeconds)}
			m := w.open()
			sb := created(t, m, ask("a"))
			go func() { _ = sb.Pause(context.Background()) }() // it fails, being cancelled
			pass(time.Second)
			_, err := sb.Teardown(context.Background())
			wantCode(t, err, sandboxer.DeadlineExceeded)
			wantText(t, err, "in the background")
			if sandboxer.IsRefused(err) {
				t.Error("it says that nothing is done")
			}
			pass(5 * time.Minute)
			wantState(t, m, "a", sandboxer.StateGone)
			w.wantLive()
		})
	})
	t.Run("while the store does not answer", func(t *testing.T) {
		simulate(t, func(t *testing.T) {
			w := newWorld(t)
			m := w.open()
			sb := created(t, m, ask("a"))
			w.store.mu.Lock()
			w.store.blink = 1
			w.store.mu.Unlock()
			if _, err := sb.Teardown(context.Background()); err == nil || sandboxer.IsRefused(err) {
				t.Errorf("teardown: %v", err)
			}
			pass(time.Minute)
			wantState(t, m, "a", sandboxer.StateGone)
			w.wantLive()
		})
	})
}

func ninetySeconds() { time.Sleep(90 * time.Second) } //nolint:forbidigo // virtual time

// TestDoneButNotStored: an error of the store behind a call that was answered is no refusal.
func TestDoneButNotStored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     func(*manager.Sandbox) error
		before int // commits before the call, which succeed
	}{
		"pause": {func(sb *manager.Sandbox) error { return sb.Pause(context.Background()) }, 1},
		"extend": {func(sb *manager.Sandbox) error {
			_, err := sb.Extend(context.Background(), time.Now().Add(48*time.Hour))
			return err
		}, 1},
		"teardown": {func(sb *manager.Sandbox) error {
			_, err := sb.Teardown(context.Background())
			return err
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapPause, sandboxer.CapExtend)
				m := w.open()
				sb := created(t, m, ask("a"))
				w.store.fail(wrong{Point: "commit", Skip: c.before, Err: sandboxer.Refused(sandboxer.Unavailable, errors.New("full"))})
				if err := c.do(sb); err == nil || sandboxer.IsRefused(err) {
					t.Errorf("the error is %v, refused %v", err, sandboxer.IsRefused(err))
				}
				w.store.heal()
				pass(time.Minute)
			})
		})
	}
}

// TestCloseEndsRun: a Run does not outlive its Manager, and its sandbox does not outlive it.
func TestCloseEndsRun(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		begun, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- m.Run(context.Background(), ask("a"), func(ctx context.Context, _ *manager.Sandbox) error {
				close(begun)
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		<-begun
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		w.wantLive()
		wantText(t, <-ended, "the manager was closed")
		wantState(t, w.open(), "a", sandboxer.StateGone)
	})
}

// TestCloseGivesUp: an extension that does not heed the end of its context keeps Close for a while, and not for ever.
func TestCloseGivesUp(t *testing.T) {
	t.Parallel()
	for name, durable := range map[string]bool{"a store that stays": true, "a store in memory": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.store.durable = durable
				end := make(chan struct{})
				w.cfg.Interceptors = []sandboxer.Interceptor{upset(sandboxer.OpTeardown, false, func() { <-end })}
				m, err := manager.New(context.Background(), w.config())
				if err != nil {
					t.Fatal(err)
				}
				sb := created(t, m, ask("a"))
				created(t, m, ask("b"))
				go func() { _, _ = sb.Teardown(context.Background()) }()
				pass(time.Second)
				begun := time.Now()
				err = m.Close()
				wantCode(t, err, sandboxer.DeadlineExceeded)
				if took := time.Since(begun); took > 5*time.Minute {
					t.Errorf("it took %v", took)
				}
				close(end)
				pass(time.Minute)
			})
		})
	}
}

// TestDeadBackendHoldsNobody: what is due at a backend that answers is removed in time, however much is due at one that does
// not. It was seen to fail where all waited in one queue.
func TestDeadBackendHoldsNobody(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		weak, _ := w.clouds()
		w.profiles = []sandboxer.Profile{{ID: "profile.weak", Extension: "ext.weak"}}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Hang: true})
		m := w.open()
		for range 500 {
			req := ask("")
			req.TTL = time.Hour
			created(t, m, req)
		}
		pass(time.Minute)
		req := ask("b")
		req.Profile, req.TTL = "profile.weak", time.Hour
		created(t, m, req)
		pass(time.Hour + 3*time.Minute)
		if n := weak.Count(sandboxer.OpTeardown); n != 1 {
			t.Errorf("3 min after its end it was removed %d times", n)
		}
		w.backend.Heal()
		pass(time.Hour)
		w.wantLive()
	})
}

// stuck is an exporter, and an extension, that never returns before it is let go.
type stuck struct {
	sandboxer.Extension
	end     chan struct{}
	running atomic.Int32
	most    atomic.Int32 // that ran at once
}

func (x *stuck) Unwrap() sandboxer.Extension { return x.Extension }

func (x *stuck) Close() error { <-x.end; return nil }

func (x *stuck) Export(context.Context, []metering.Record) error {
	x.most.Store(max(x.most.Load(), x.running.Add(1)))
	defer x.running.Add(-1)
	<-x.end
	return nil
}

// TestCloseLeavesBehind: neither an exporter that ignores the end of its context nor an extension that does not close keeps
// Close for ever, and an exporter is called by one goroutine at a time also then. It was seen to fail where the last delivery,
// and the closing of extensions, had no bounds.
func TestCloseLeavesBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		exports, background bool
		text                string
	}{
		"an exporter":                   {exports: true, text: "delivery of meter records"},
		"an exporter in the background": {exports: true, background: true, text: "exporters"},
		"an extension":                  {text: "closing ext.fake"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter)
				x := &stuck{end: make(chan struct{})}
				if c.exports {
					meter, err := metering.New(metering.Config{Exporters: []metering.Exporter{x}, Interval: time.Minute})
					if err != nil {
						t.Fatal(err)
					}
					w.cfg.Meter = meter
				} else {
					a := w.backend.Adapter(w.caps...)
					build := a.New
					a.New = func(ctx context.Context, s sandboxer.Settings) (_ sandboxer.Extension, err error) {
						x.Extension, err = build(ctx, s)
						return x, err
					}
					w.adapters = []sandboxer.Adapter{a}
				}
				m, err := manager.New(context.Background(), w.config())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := created(t, m, ask("a")).Teardown(context.Background()); err != nil {
					t.Fatal(err)
				}
				if c.background {
					pass(2 * time.Minute)
				}
				begun := time.Now()
				free := time.AfterFunc(time.Hour, func() { close(x.end) })
				err = m.Close()
				wantCode(t, err, sandboxer.DeadlineExceeded)
				wantText(t, err, c.text, "left behind")
				if took := time.Since(begun); took > 10*time.Minute {
					t.Errorf("it took %v", took)
				}
				if free.Stop() {
					close(x.end)
				}
				synctest.Wait()
				if n := x.most.Load(); n > 1 {
					t.Errorf("%d exports at once", n)
				}
			})
		})
	}
}
