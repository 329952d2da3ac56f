package manager_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestExpireAtOnce: thousands of sandboxes whose time is over in one instant are removed by a bounded number of goroutines,
// each once, and meanwhile a create is served. It was seen to fail on a schedule without maxWorkers.
//
// It counts the goroutines of the process, and so no other test runs beside it.
func TestExpireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, most = 3000, 64
		w := newWorld(t)
		var now, peak, removed, goroutines atomic.Int64
		w.cfg.Interceptors = []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			if c.Op != sandboxer.OpTeardown {
				return next(ctx)
			}
			raise(&peak, now.Add(1))
			raise(&goroutines, int64(runtime.NumGoroutine()))
			pass1s()
			now.Add(-1)
			removed.Add(1)
			return next(ctx)
		}}
		m := w.open()
		before := int64(runtime.NumGoroutine())
		for i := range n {
			req := ask(sandboxer.ID(fmt.Sprintf("sbx-%d", i)))
			req.TTL = time.Hour
			created(t, m, req)
		}
		pass(time.Hour + 6*time.Second)
		req := ask("meanwhile")
		req.TTL = time.Hour
		created(t, m, req)
		pass(n / most * 2 * time.Second)
		w.wantLive("meanwhile")
		if got := removed.Load(); got != n {
			t.Errorf("%d removals, want %d", got, n)
		}
		if got := peak.Load(); got > most || got < 2 {
			t.Errorf("%d removals at once, want at most %d", got, most)
		}
		if more := goroutines.Load() - before; more > 5*most || more < most {
			t.Errorf("%d goroutines more, want %d to %d", more, most, 5*most)
		}
	})
}

func pass1s() { time.Sleep(time.Second) } //nolint:forbidigo // virtual time

func raise(most *atomic.Int64, n int64) {
	for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
	}
}

// BenchmarkExpireAtOnce has 10,000 sandboxes of the fake, in a store in memory, expire in one instant, and reports how many
// are removed in a second, and how many goroutines that takes.
func BenchmarkExpireAtOnce(b *testing.B) {
	for b.Loop() {
		expireAtOnce(b, 10_000)
	}
}

func expireAtOnce(b *testing.B, n int) {
	backend := fake.New()
	reg, err := registry.New(registry.WithAdapters(backend.Adapter(sandboxer.CapFind)))
	if err != nil {
		b.Fatal(err)
	}
	var last, peak, gone atomic.Int64
	done := make(chan struct{})
	m, err := manager.New(b.Context(), manager.Config{
		Registry: reg, Store: store.Memory(), ReapInterval: -1,
		Interceptors: []sandboxer.Interceptor{func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Op == sandboxer.OpTeardown {
				raise(&peak, int64(runtime.NumGoroutine()))
				if last.Store(time.Now().UnixNano()); gone.Add(1) == int64(n) {
					close(done)
				}
			}
			return err
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	}()
	create := func(ttl time.Duration) {
		req := ask("")
		req.TTL = ttl
		if _, err := m.Create(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	first, begun := n/20, time.Now()
	for range first { // which says when all will be there, however slow the machine is
		create(time.Hour)
	}
	end := time.Now().Add(3*time.Duration(n/first)*time.Since(begun) + time.Second)
	for range n {
		create(time.Until(end))
	}
	if time.Now().After(end) {
		b.Skip("this machine became too slow while the sandboxes were made: they did not expire together")
	}
	<-done
	b.ReportMetric(float64(n)/time.Unix(0, last.Load()).Sub(end).Seconds(), "removals/s")
	b.ReportMetric(float64(peak.Load()), "goroutines-at-most")
}
