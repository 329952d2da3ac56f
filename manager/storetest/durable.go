package storetest

import (
	"fmt"

	"github.com/sand-boxer/sandboxer/manager/store"
)

func everythingOutlivesTheProcess(h *harness) {
	before := h.info()
	a, b, n, gone := key("sandbox", "a"), key("place", "b"), key("counter", "n"), key("sandbox", "gone")
	var last int64
	for round := range 4 {
		h.commit(put(a, store.AnyRev, fmt.Sprint("body ", round), "live", fmt.Sprint("round=", round)), add(n, 3, 0), put(gone, 0, "", "live"))
		h.commit(put(b, store.AnyRev, "\x00\xff"))
		last = h.commit(del(gone, store.AnyRev))
		keys := []store.Key{a, b, n, gone}
		want := h.get(keys...)
		live := h.scan(store.Query{Kind: "sandbox", Tag: "live"})
		h.s = h.reopen(h, h.s)
		h.same("what was there before the store was opened again", want, h.get(keys...))
		h.same("the tag index after the store was opened again", live, h.scan(store.Query{Kind: "sandbox", Tag: "live"}))
		h.same("the tag index of an old tag", 0, len(h.scan(store.Query{Kind: "sandbox", Tag: fmt.Sprint("round=", round-1)})))
	}
	h.same("Info after the store was opened again", before, h.info())
	if rev := h.commit(put(gone, 0, "")); rev <= last {
		h.broken("after the store was opened again, rev %d was given out, which is not above %d", rev, last)
	}
}
