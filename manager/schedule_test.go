package manager

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeap: whatever the order in which entries come, they leave in the order of their instants.
func TestHeap(t *testing.T) {
	t.Parallel()
	const n = 100_000
	s := newSchedule(&sync.WaitGroup{}, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		s.push(entry{at: rnd.Int64N(n / 2), id: strconv.Itoa(i)}) // many in one instant
	}
	seen := make(map[string]bool, n)
	last := int64(-1)
	for range n {
		e := s.pop()
		if e.at < last || seen[e.id] {
			t.Fatalf("entry %s is due at %d and came after %d, or twice", e.id, e.at, last)
		}
		last, seen[e.id] = e.at, true
	}

	var model []int64 // against a sorted list, with entries that come and go in between
	for range 20_000 {
		if len(model) == 0 || len(model) < 500 && rnd.IntN(5) < 3 {
			at := rnd.Int64N(1000)
			s.push(entry{at: at})
			i, _ := slices.BinarySearch(model, at)
			model = slices.Insert(model, i, at)
			continue
		}
		if got := s.pop().at; got != model[0] {
			t.Fatalf("the entry of %d came first, want that of %d", got, model[0])
		}
		model = model[1:]
	}
	if len(s.heap) != len(model) {
		t.Errorf("%d entries are left, want %d", len(s.heap), len(model))
	}
}

// TestSchedule: every entry is handled once, at its instant and not before, whatever comes in between.
func TestSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group sync.WaitGroup
		begun := time.Now()
		var mu sync.Mutex
		handled := map[string]time.Duration{}
		s := newSchedule(&group, func(_ job, id string) {
			mu.Lock()
			defer mu.Unlock()
			if _, twice := handled[id]; twice {
				t.Errorf("%s was handled twice", id)
			}
			handled[id] = time.Since(begun)
		})
		due := map[string]time.Duration{}
		add := func(id string, after time.Duration) {
			due[id] = after
			s.add(begun.Add(after), jobExpire, id)
		}
		add("last", time.Hour)
		add("first", time.Second)
		add("middle", time.Minute)
		add("past", -time.Hour)
		time.Sleep(30 * time.Second) //nolint:forbidigo // virtual time
		add("sooner than what is waited for", 45*time.Second)
		add("now", 30*time.Second)
		for i := range 1000 {
			add(strconv.Itoa(i), 30*time.Minute)
		}
		time.Sleep(2 * time.Hour) //nolint:forbidigo // virtual time
		synctest.Wait()
		due["past"] = 0
		mu.Lock()
		defer mu.Unlock()
		if len(handled) != len(due) {
			t.Errorf("%d handled, want %d", len(handled), len(due))
		}
		for id, after := range due {
			if handled[id] != after {
				t.Errorf("%s was handled after %v, want %v", id, handled[id], after)
			}
		}
		s.stop()
		group.Wait()
		s.add(time.Now(), jobExpire, "after the end")
		synctest.Wait()
		if _, ok := handled["after the end"]; ok {
			t.Error("an entry was handled after stop")
		}
	})
}

// TestScheduleIsBounded: however much is due at once, only so many are handled at a time, and stop does not wait for the rest.
func TestScheduleIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group sync.WaitGroup
		var now, most, all atomic.Int64
		s := newSchedule(&group, func(job, string) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Minute) //nolint:forbidigo // virtual time
			now.Add(-1)
			all.Add(1)
		})
		for range 10 * maxWorkers {
			s.add(time.Now(), jobRetry, "x")
		}
		synctest.Wait()
		if n := now.Load(); n != maxWorkers {
			t.Errorf("%d at once, want %d", n, maxWorkers)
		}
		time.Sleep(5*time.Minute + time.Second) //nolint:forbidigo // virtual time
		s.stop()
		group.Wait()
		if n, m := all.Load(), most.Load(); n != 6*maxWorkers || m != maxWorkers {
			t.Errorf("%d handled, at most %d at once; want %d and %d", n, m, 6*maxWorkers, maxWorkers)
		}
	})
}

// BenchmarkDueAtOnce has a million entries due in one instant, and reports how long until the last is handed out, and what
// an entry takes while it waits.
func BenchmarkDueAtOnce(b *testing.B) {
	const n = 1_000_000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "sbx-" + strconv.Itoa(i)
	}
	for b.Loop() {
		var group sync.WaitGroup
		var left atomic.Int64
		left.Store(n)
		done := make(chan struct{})
		s := newSchedule(&group, func(job, string) {
			if left.Add(-1) == 0 {
				close(done)
			}
		})
		before := heapBytes()
		at := time.Now().Add(2 * time.Second)
		for _, id := range ids {
			s.add(at, jobExpire, id)
		}
		b.ReportMetric(float64(heapBytes()-before)/n, "B/entry")
		<-done
		b.ReportMetric(time.Since(at).Seconds(), "s-until-the-last")
		s.stop()
		group.Wait()
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
