package storetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func getAnswersInOrder(h *harness) {
	a, b, gone := key("sandbox", "a"), key("snapshot", "a"), key("sandbox", "gone")
	revA := h.commit(put(a, 0, "sandbox", "t"))
	revB := h.commit(put(b, 0, "snapshot"))
	ra := store.Record{Key: a, Rev: revA, Body: []byte("sandbox"), Tags: []string{"t"}}
	rb := store.Record{Key: b, Rev: revB, Body: []byte("snapshot")}
	h.same("Get", []store.Record{rb, {Key: gone}, ra, rb}, h.get(b, gone, a, b))
	h.same("Get of nothing", 0, len(h.get()))
}

func getIsOneView(h *harness) {
	a, b := key("sandbox", "a"), key("place", "b")
	h.commit(put(a, 0, "0"), put(b, 0, "0"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				body := strconv.Itoa(i)
				if _, err := h.s.Commit(h.Context(), put(a, store.AnyRev, body), put(b, store.AnyRev, body)); err != nil {
					h.wrong("Commit: %v", err)
					return
				}
			}
		})
	}
	defer func() { close(stop); wg.Wait() }()
	for range 500 {
		rs := h.get(a, b)
		if rs[0].Rev != rs[1].Rev || string(rs[0].Body) != string(rs[1].Body) {
			h.broken("two records that are only ever written together were read as rev %d %q and rev %d %q",
				rs[0].Rev, rs[0].Body, rs[1].Rev, rs[1].Body)
		}
	}
}

func scanSelects(h *harness) {
	ids := []string{"a", "a/1", "a/2", "ab", "b", "b-1", "\xff", "\xff\xff", "ä"}
	for i, id := range ids {
		tags := []string{"all"}
		if i%2 == 0 {
			tags = append(tags, "even")
		}
		h.commit(put(key("sandbox", id), 0, id, tags...))
	}
	// What lies next to it in an index must not come along.
	h.commit(put(key("sandbo", "xa"), 0, "", "all"), put(key("sandboxa", "b"), 0, "", "all"), put(key("sandbox", "zz"), 0, "", "all2", "al", "even=1"))
	all := slices.Clone(ids)
	slices.Sort(all)
	all = slices.Insert(all, slices.Index(all, "ä"), "zz")
	slices.Sort(all)
	match := func(ids []string, keep func(string) bool) (out []string) {
		for _, id := range ids {
			if keep(id) {
				out = append(out, id)
			}
		}
		return out
	}
	tagged := map[string][]string{"": all, "all": match(all, func(id string) bool { return id != "zz" })}
	tagged["even"] = match(all, func(id string) bool { return slices.Index(ids, id)%2 == 0 && id != "zz" })
	tagged["none"], tagged["al"] = nil, []string{"zz"}
	for tag, base := range tagged {
		for _, prefix := range []string{"", "a", "a/", "b", "zzz", "\xff"} {
			for _, after := range []string{"", "a", "a/1", "a/15", "b", "\xff", "\xff\xff\xff"} {
				for _, limit := range []int{0, 1, 2, 100} {
					q := store.Query{Kind: "sandbox", Tag: tag, Prefix: prefix, After: after, Limit: limit}
					want := match(base, func(id string) bool {
						return len(id) >= len(prefix) && id[:len(prefix)] == prefix && id > after
					})
					if limit > 0 && len(want) > limit {
						want = want[:limit]
					}
					var got []string
					for _, r := range h.scan(q) {
						got = append(got, r.Key.ID)
						if r.Key.Kind != "sandbox" || r.Rev == 0 || (r.Key.ID != "zz" && string(r.Body) != r.Key.ID) {
							h.broken("Scan(%+v) yielded %+v", q, r)
						}
					}
					h.same(fmt.Sprintf("Scan(%+v)", q), want, got)
				}
			}
		}
	}
}

func scanFollowsTags(h *harness) {
	k := key("sandbox", "k")
	byTag := func(want ...string) {
		h.Helper()
		for _, tag := range []string{"live", "host=1", "host=2"} {
			n := len(h.scan(store.Query{Kind: "sandbox", Tag: tag}))
			if has := slices.Contains(want, tag); (n == 1) != has || n > 1 {
				h.broken("the record has the tags %q, and a scan for %q found it %d times", want, tag, n)
			}
		}
	}
	rev := h.commit(put(k, 0, "", "live", "host=1"))
	byTag("live", "host=1")
	rev = h.commit(put(k, rev, "", "host=2", "live"))
	byTag("live", "host=2")
	h.commit(add(k, 1, 0))
	byTag("live", "host=2")
	h.commit(put(k, store.AnyRev, ""))
	byTag()
	h.commit(put(k, store.AnyRev, "", "live"))
	byTag("live")
	h.commit(del(k, store.AnyRev))
	byTag()
	h.commit(put(k, 0, "", "host=1"))
	byTag("host=1")
	if rev < 1 {
		h.broken("rev %d", rev)
	}
}

// many is more than any store reads at a time.
const many = 1500

func (h *harness) fill() {
	h.Helper()
	for i := 0; i < many; i += 500 {
		ms := make([]store.Mutation, 500)
		for j := range ms {
			ms[j] = put(key("sandbox", fmt.Sprintf("%06d", i+j)), 0, strconv.Itoa(i+j), "live", fmt.Sprint("mod=", j%3))
		}
		h.commit(ms...)
	}
}

func scanHoldsNoLock(h *harness) {
	h.fill()
	for _, tag := range []string{"", "live"} {
		seen := 0
		last := ""
		q := store.Query{Kind: "sandbox", Tag: tag}
		h.scanBeside(q, func(r store.Record, beside func(what string, call func(context.Context) error) bool) bool {
			if r.Key.ID <= last {
				h.broken("Scan yielded %s after %s", r.Key.ID, last)
			}
			last = r.Key.ID
			if seen++; seen%100 != 1 {
				return true
			}
			// Each of these hangs or fails where the scan holds on to something.
			return beside("Commit", func(ctx context.Context) error {
				_, err := h.s.Commit(ctx, put(r.Key, r.Rev, string(r.Body), r.Tags...))
				return err
			}) && beside("Commit", func(ctx context.Context) error {
				_, err := h.s.Commit(ctx, put(key("other", r.Key.ID), store.AnyRev, ""), del(key("sandbox", fmt.Sprint("gone-", seen)), store.AnyRev))
				return err
			}) && beside("Get", func(ctx context.Context) error {
				_, err := h.s.Get(ctx, r.Key)
				return err
			}) && beside("another Scan", func(ctx context.Context) error {
				n := 0
				for _, err := range h.s.Scan(ctx, store.Query{Kind: "sandbox", Prefix: r.Key.ID}) {
					if err != nil {
						return err
					}
					n++
				}
				if n != 1 {
					return fmt.Errorf("it yielded %d records instead of one", n)
				}
				return nil
			})
		})
		if seen != many {
			h.broken("Scan yielded %d of %d records that were there all the time", seen, many)
		}
	}
	// What is deleted while the scan is at it must not come half.
	left := 0
	h.scanBeside(store.Query{Kind: "sandbox", Tag: "live"}, func(r store.Record, beside func(string, func(context.Context) error) bool) bool {
		if r.Rev == 0 || len(r.Tags) != 2 {
			h.broken("Scan yielded a record that was never committed: %+v", r)
		}
		if left++; left%10 != 0 {
			return true
		}
		next := key("sandbox", fmt.Sprintf("%06d", left+3))
		return beside("Commit", func(ctx context.Context) error {
			_, err := h.s.Commit(ctx, del(r.Key, store.AnyRev), del(next, store.AnyRev))
			return err
		})
	})
}

// scanBeside scans, and lets f call the store beside the scan that it is in. A call that fails or does not return breaks the
// rule, once the scan is left: what it holds is then free again, and no call hangs on.
func (h *harness) scanBeside(q store.Query, f func(r store.Record, beside func(what string, call func(context.Context) error) bool) bool) {
	h.Helper()
	ctx := h.ctx()
	wrong := ""
	var calls sync.WaitGroup
	beside := func(what string, call func(context.Context) error) bool {
		done := make(chan error, 1)
		calls.Go(func() { done <- call(ctx) })
		limit := time.NewTimer(h.hang)
		defer limit.Stop()
		select {
		case err := <-done:
			if err != nil {
				wrong = fmt.Sprintf("%s beside a scan: %v", what, err)
			}
		case <-limit.C:
			wrong = fmt.Sprintf("%s beside a scan had not returned after %v", what, h.hang)
		}
		return wrong == ""
	}
	for r, err := range h.s.Scan(ctx, q) {
		if err != nil {
			h.broken("Scan(%+v): %v", q, err)
		}
		if !f(r, beside) {
			break
		}
	}
	if wrong == "" {
		return
	}
	over := make(chan struct{})
	go func() { calls.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(h.hang):
	}
	h.broken("%s", wrong)
}

func scanPages(h *harness) {
	h.fill()
	for _, tag := range []string{"", "mod=1"} {
		want := h.scan(store.Query{Kind: "sandbox", Tag: tag})
		var got []store.Record
		q := store.Query{Kind: "sandbox", Tag: tag, Limit: 333}
		for {
			page := h.scan(q)
			got = append(got, page...)
			if len(page) < q.Limit {
				break
			}
			q.After = page[len(page)-1].Key.ID
		}
		h.same("a scan in pages", want, got)
	}
	n := 0
	for _, err := range h.s.Scan(h.ctx(), store.Query{Kind: "sandbox"}) {
		if err != nil {
			h.broken("Scan: %v", err)
		}
		if n++; n == 700 {
			break
		}
	}
	h.commit(put(key("sandbox", "000000"), store.AnyRev, "after a scan that was left early"))
}

func scanRefusesBadQueries(h *harness) {
	for _, q := range []store.Query{{}, {Tag: "live"}, {Kind: "sandbox", Limit: -1}, {Kind: "sand\x00box"}, {Kind: "sandbox", Tag: "a\x00b"}} {
		n := 0
		for _, err := range h.s.Scan(h.ctx(), q) {
			if n++; sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				h.broken("Scan(%+v): code %q, want invalid_argument", q, sandboxer.CodeOf(err))
			}
		}
		if n != 1 {
			h.broken("Scan(%+v) yielded %d times, want its error once", q, n)
		}
	}
}

func infoNamesTheStore(h *harness) {
	a, b := h.info(), h.info()
	other := h.open(h)
	c, err := other.Info(h.ctx())
	if err != nil {
		h.broken("Info: %v", err)
	}
	if a.ID == "" || a != b || c.ID == a.ID {
		h.broken("Info: %+v, then %+v; that of another store %+v", a, b, c)
	}
	for _, r := range a.ID {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') || len(a.ID) > 32 {
			h.broken("the store's ID %q cannot be part of every backend's labels: use at most 32 lower-case letters and digits", a.ID)
		}
	}
}
