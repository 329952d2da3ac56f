package storetest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func countersNeverCollide(h *harness) {
	const callers, each, limit = 64, 20, 1000
	n := key("counter", "n")
	var added, full atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				_, err := h.s.Commit(h.Context(), add(n, 1, limit), put(key("sandbox", fmt.Sprint(c, "-", i)), 0, ""))
				switch sandboxer.CodeOf(err) {
				case "":
					added.Add(1)
				case sandboxer.ResourceExhausted:
					full.Add(1)
				default:
					h.wrong("an Add failed with %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if h.Failed() {
		return
	}
	got := h.get(n)[0].N
	records := len(h.scan(store.Query{Kind: "sandbox"}))
	if got != limit || added.Load() != limit || full.Load() != callers*each-limit || records != limit {
		h.broken("%d callers with %d Adds each, up to %d: the counter is %d, %d succeeded with %d records, %d were refused",
			callers, each, limit, got, added.Load(), records, full.Load())
	}
}

func conflictsAreTheirOwn(h *harness) {
	const callers, each = 32, 30
	taken := key("sandbox", "taken")
	h.commit(put(taken, 0, ""))
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				k := key("sandbox", fmt.Sprint(c, "-", i))
				if c%2 == 0 {
					if _, err := h.s.Commit(h.Context(), put(k, 0, ""), put(taken, 0, "")); sandboxer.CodeOf(err) != sandboxer.Aborted {
						h.wrong("a commit with a conflict returned %v, want aborted", err)
					}
				} else if rev, err := h.s.Commit(h.Context(), put(k, 0, "")); err != nil || rev < 1 {
					h.wrong("a commit without a conflict failed beside some that had one: rev %d, %v", rev, err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := len(h.scan(store.Query{Kind: "sandbox"})), callers/2*each+1; got != want {
		h.broken("%d records were committed, and %d are there", want, got)
	}
}

func compareAndSwapLosesNothing(h *harness) {
	const callers, each = 8, 40
	k := key("sandbox", "k")
	h.commit(put(k, 0, "0"))
	revs := make(chan int64, callers*each)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				for {
					rs, err := h.s.Get(h.Context(), k)
					if err != nil {
						h.wrong("Get: %v", err)
						return
					}
					n, err := strconv.Atoi(string(rs[0].Body))
					if err != nil {
						h.wrong("the record holds %q, which nobody wrote", rs[0].Body)
						return
					}
					rev, err := h.s.Commit(h.Context(), put(k, rs[0].Rev, strconv.Itoa(n+1)))
					if err == nil {
						revs <- rev
						break
					}
					if sandboxer.CodeOf(err) != sandboxer.Aborted {
						h.wrong("Commit: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	close(revs)
	seen := make(map[int64]bool)
	for rev := range revs {
		if seen[rev] {
			h.broken("rev %d was given out twice", rev)
		}
		seen[rev] = true
	}
	if got, want := string(h.get(k)[0].Body), strconv.Itoa(callers*each); got != want && !h.Failed() {
		h.broken("%s increments by compare-and-swap, and the record holds %s", want, got)
	}
}
