package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

var body = make([]byte, 400)

// BenchmarkFloor is what the disk allows: 512 bytes written over what is there, and synced.
func BenchmarkFloor(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 1<<20)
	if _, err := f.WriteAt(block, 0); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(block[:512], int64(i%2048)*512); err != nil {
			b.Fatal(err)
		}
		if err := datasync(f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit commits what a create does: a new record with tags and two counters, then the same record changed.
func BenchmarkCommit(b *testing.B) {
	for _, name := range []string{"memory", "bolt"} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				st := store.Memory()
				if name == "bolt" {
					s, err := boltstore.Open(b.Context(), filepath.Join(b.TempDir(), "db"))
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = s.Close() }()
					st = s
				}
				var n atomic.Int64
				b.SetParallelism(callers)
				if callers == 1 {
					for b.Loop() {
						create(b, st, n.Add(1))
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							create(b, st, n.Add(1))
						}
					})
				}
				b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

func create(b *testing.B, st store.Store, n int64) {
	ctx := context.Background()
	k := store.Key{Kind: "sandbox", ID: fmt.Sprintf("sbx-%012d", n)}
	rev, err := st.Commit(ctx,
		store.Mutation{Do: store.Put, Key: k, Tags: []string{"live", "host=h1", "tenant=t"}, Body: body},
		store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: fmt.Sprint("host/", n%4)}, Delta: 1, Max: 1 << 40},
	)
	if err == nil {
		_, err = st.Commit(ctx, store.Mutation{Do: store.Put, Key: k, Expect: rev, Tags: []string{"live", "host=h1", "tenant=t"}, Body: body})
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen opens a store of 100,000 records, which checks all of it, and reports what an open one keeps on the heap.
func BenchmarkOpen(b *testing.B) {
	const records = 100_000
	path := filepath.Join(b.TempDir(), "db")
	s, err := boltstore.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < records; i += 1000 {
		ms := make([]store.Mutation, 1000)
		for j := range ms {
			ms[j] = store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: fmt.Sprintf("sbx-%012d", i+j)},
				Tags: []string{"live", "host=h1", "tenant=t"}, Body: body}
		}
		if _, err := s.Commit(b.Context(), ms...); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	var heap uint64
	for b.Loop() {
		before := heapInUse()
		if s, err = boltstore.Open(b.Context(), path); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if now := heapInUse(); now > before {
			heap = max(heap, now-before)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	b.ReportMetric(float64(heap)/records, "heap-B/record")
	b.ReportMetric(float64(info.Size())/records, "file-B/record")
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
