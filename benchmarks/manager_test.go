package benchmarks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// counting counts the commits of a store.
type counting struct {
	store.Store
	commits atomic.Int64
}

func (c *counting) Commit(ctx context.Context, ms ...store.Mutation) (int64, error) {
	c.commits.Add(1)
	return c.Store.Commit(ctx, ms...)
}

// durable opens a Manager over the fake and a boltstore on the disk that SANDBOXER_BENCH_DIR or the temporary directory is on.
func durable(b *testing.B, caps ...sandboxer.Capability) (*manager.Manager, *counting) {
	b.Helper()
	st, err := boltstore.Open(b.Context(), filepath.Join(benchDir(b), "store.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	c := &counting{Store: st}
	reg, err := registry.New(registry.WithAdapters(fake.New().Adapter(caps...)))
	if err != nil {
		b.Fatal(err)
	}
	m, err := manager.New(b.Context(), manager.Config{Registry: reg, Store: c, ReapInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close() })
	return m, c
}

func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("SANDBOXER_BENCH_DIR"), "sandboxer-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

var request = sandboxer.CreateRequest{Profile: "profile.fake", Consumer: sandboxer.Consumer{ID: "bench"}}

func create(b *testing.B, m *manager.Manager) {
	if _, err := m.Create(context.Background(), request); err != nil {
		b.Error(err)
	}
}

// BenchmarkCreate makes sandboxes one after the other, each beside two raw appends with fdatasync on the same disk, so that
// both see the same disk in the same moment. It reports the ratio and the commits of one Create.
func BenchmarkCreate(b *testing.B) {
	m, st := durable(b)
	raw, err := os.Create(filepath.Join(benchDir(b), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close() //nolint:errcheck // a benchmark's scratch file
	record := make([]byte, 512)
	before := st.commits.Load()
	var ours, floor time.Duration
	for b.Loop() {
		begun := time.Now()
		create(b, m)
		ours += time.Since(begun)
		begun = time.Now()
		for range 2 {
			if _, err := raw.Write(record); err != nil {
				b.Fatal(err)
			}
			if err := dataSync(raw); err != nil {
				b.Fatal(err)
			}
		}
		floor += time.Since(begun)
	}
	b.ReportMetric(float64(st.commits.Load()-before)/float64(b.N), "commits/create")
	b.ReportMetric(float64(ours)/float64(floor), "x-two-fdatasyncs")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/create")
}

// BenchmarkCreate64 makes sandboxes from 64 callers at once. What the disk allows is measured before and after: they wait for
// two fdatasyncs each, 64 at a time at best.
func BenchmarkCreate64(b *testing.B) {
	m, _ := durable(b)
	before := syncTime(b)
	b.ResetTimer()
	begun := time.Now()
	createMany(b, m, 64, b.N)
	took := time.Since(begun)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/took.Seconds(), "creates/s")
	b.ReportMetric((before+syncTime(b)).Seconds()*1e6/2, "us/fdatasync")
}

// syncTime is how long the disk takes to make 16 KiB durable in blocks that a file has.
func syncTime(b *testing.B) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(benchDir(b), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a benchmark's scratch file
	const rounds = 100
	page := make([]byte, 16<<10)
	var took time.Duration
	for i := range 2 * rounds {
		begun := time.Now()
		if _, err := f.WriteAt(page, int64(i%rounds)*int64(len(page))); err != nil {
			b.Fatal(err)
		}
		if err := dataSync(f); err != nil {
			b.Fatal(err)
		}
		if i >= rounds { // the first round gave it its blocks
			took += time.Since(begun)
		}
	}
	return took / rounds
}

func createMany(b *testing.B, m *manager.Manager, callers, n int) {
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				create(b, m)
			}
		})
	}
	group.Wait()
}

// BenchmarkIdle measures what an idle sandbox with a time to live costs the Manager's process: heap and goroutines.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				idle(b, n)
			}
		})
	}
}

func idle(b *testing.B, n int) {
	// The backend is elsewhere in real life: its memory stands in both readings of the heap.
	backend := fake.New()
	reg, err := registry.New(registry.WithAdapters(backend.Adapter(sandboxer.CapFind)))
	if err != nil {
		b.Fatal(err)
	}
	st, err := boltstore.Open(b.Context(), filepath.Join(benchDir(b), "store.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close() //nolint:errcheck // a benchmark's scratch file
	cfg := manager.Config{Registry: reg, Store: st, ReapInterval: -1, DefaultTTL: 24 * time.Hour}
	m, err := manager.New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	idleGoroutines := runtime.NumGoroutine()
	begun := time.Now()
	createMany(b, m, 256, n)
	b.ReportMetric(float64(n)/time.Since(begun).Seconds(), "creates/s")
	b.ReportMetric(float64(runtime.NumGoroutine()-idleGoroutines), "goroutines-more")
	if err := m.Close(); err != nil { // the sandboxes live on; a new Manager holds what it needs of them and no more
		b.Fatal(err)
	}
	base := heap()
	begun = time.Now()
	m, err = manager.New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(begun).Seconds(), "s-to-recover")
	b.ReportMetric(float64(heap()-base)/float64(n), "B/record")
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	runtime.KeepAlive(backend)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
