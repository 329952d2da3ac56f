package storetest

import (
	"context"
	"errors"
	"math"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func commitIsAllOrNothing(h *harness) {
	a, b, c, n := key("sandbox", "a"), key("sandbox", "b"), key("sandbox", "c"), key("counter", "n")
	rev := h.commit(put(a, 0, "old", "live"), add(n, 3, 0))
	want := h.get(a, b, c, n)
	for _, ms := range [][]store.Mutation{
		{put(b, 0, "new"), put(a, rev+7, "new"), put(c, 0, "new")},
		{put(a, rev, "new", "other"), add(n, 1, 0), check(b, rev)},
		{del(a, rev), put(b, 0, "new"), add(n, 4, 5)},
		{put(b, 0, "new"), del(c, rev)},
	} {
		if _, err := h.s.Commit(h.ctx(), ms...); err == nil {
			h.broken("Commit(%s) succeeded", show(ms))
		}
		h.same("what stands after a commit that was not applied", want, h.get(a, b, c, n))
		h.same("the scan after a commit that was not applied", want[:1], h.scan(store.Query{Kind: "sandbox"}))
		h.same("the scan by tag after a commit that was not applied", want[:1], h.scan(store.Query{Kind: "sandbox", Tag: "live"}))
	}
}

func expectIsChecked(h *harness) {
	k, gone := key("sandbox", "k"), key("sandbox", "gone")
	rev := h.commit(put(k, 0, "1"))
	for _, expect := range []int64{0, rev - 1, rev + 1} {
		if expect < 0 {
			continue
		}
		h.refused(sandboxer.Aborted, k, put(k, expect, "2"))
		h.refused(sandboxer.Aborted, k, del(k, expect))
		h.refused(sandboxer.Aborted, k, check(k, expect))
		h.refused(sandboxer.Aborted, k, put(key("sandbox", "other"), 0, ""), check(k, expect))
	}
	h.refused(sandboxer.Aborted, gone, put(gone, rev, "2"))
	h.refused(sandboxer.Aborted, gone, del(gone, rev))
	h.refused(sandboxer.Aborted, gone, check(gone, rev))
	h.commit(check(k, rev), check(gone, 0), check(key("sandbox", "any"), store.AnyRev))
	h.commit(del(gone, store.AnyRev))
	h.commit(del(gone, 0))
	h.same("a record that was only checked", rev, h.get(k)[0].Rev)
	rev = h.commit(put(k, rev, "2"))
	rev2 := h.commit(put(k, store.AnyRev, "3"))
	h.refused(sandboxer.Aborted, k, put(k, rev, "4"))
	h.same("the record", []store.Record{{Key: k, Rev: rev2, Body: []byte("3")}}, h.get(k))
	h.commit(del(k, rev2))
	h.same("the deleted record", []store.Record{{Key: k}}, h.get(k))
	h.commit(put(gone, store.AnyRev, "made with AnyRev"))
}

func revIsThatOfAllThatWasPut(h *harness) {
	a, b, n := key("sandbox", "a"), key("place", "b"), key("counter", "n")
	rev := h.commit(put(a, 0, "1"), put(b, 0, "2"), add(n, 1, 0))
	for _, r := range h.get(a, b, n) {
		if r.Rev != rev || rev < 1 {
			h.broken("Commit returned rev %d, and %s has rev %d", rev, r.Key, r.Rev)
		}
	}
	next := h.commit(add(n, 1, 0))
	if got := h.get(n)[0].Rev; next <= rev || got != next {
		h.broken("an Add committed at rev %d, after %d, left the counter at rev %d", next, rev, got)
	}
	h.refused(sandboxer.Aborted, n, check(n, rev))
	if got := h.get(a)[0].Rev; got != rev {
		h.broken("%s was not part of a commit and went from rev %d to %d", a, rev, got)
	}
}

func revIsNeverReused(h *harness) {
	k, other := key("sandbox", "k"), key("sandbox", "other")
	seen := int64(0)
	fresh := func(rev int64) int64 {
		h.Helper()
		if rev <= seen {
			h.broken("rev %d was given out after %d", rev, seen)
		}
		seen = rev
		return rev
	}
	for range 20 {
		rev := fresh(h.commit(put(k, 0, "again")))
		h.commit(del(k, rev))
		h.refused(sandboxer.Aborted, k, put(k, rev, "written over what is gone"))
		fresh(h.commit(put(other, store.AnyRev, "")))
		if h.reopen != nil {
			h.s = h.reopen(h, h.s)
		}
	}
}

func verbsChangeOnlyTheirs(h *harness) {
	k := key("counter", "k")
	h.commit(add(k, 5, 0))
	rev := h.commit(put(k, store.AnyRev, "body", "b", "a"))
	h.same("a counter that got a body", []store.Record{{Key: k, Rev: rev, Tags: []string{"b", "a"}, Body: []byte("body"), N: 5}}, h.get(k))
	rev = h.commit(add(k, -7, 0))
	h.same("a record that was added to", []store.Record{{Key: k, Rev: rev, Tags: []string{"b", "a"}, Body: []byte("body"), N: -2}}, h.get(k))
	rev = h.commit(put(k, rev, ""))
	h.same("a record whose tags and body were taken away", []store.Record{{Key: k, Rev: rev, N: -2}}, h.get(k))
	h.commit(del(k, rev))
	rev = h.commit(add(k, 1, 0))
	h.same("a counter after it was deleted", []store.Record{{Key: k, Rev: rev, N: 1}}, h.get(k))
}

func addsAddUp(h *harness) {
	n, k := key("counter", "n"), key("sandbox", "k")
	h.refused(sandboxer.ResourceExhausted, n, add(n, 4, 3))
	h.same("a counter whose first Add was refused", []store.Record{{Key: n}}, h.get(n))
	h.commit(add(n, 3, 3))
	h.refused(sandboxer.ResourceExhausted, n, add(n, 1, 3))
	h.refused(sandboxer.ResourceExhausted, n, put(k, 0, ""), add(n, 1, 3))
	h.commit(add(n, -1, 1)) // still above Max, but going down
	h.commit(add(n, 0, 1))
	h.refused(sandboxer.ResourceExhausted, n, add(n, 1, 1))
	h.commit(add(n, 5, 0))
	rev := h.commit(add(n, 2, 0), add(n, 3, 0), put(k, 0, ""), add(n, -1, 0))
	h.same("a counter after several Adds in one commit", []store.Record{{Key: n, Rev: rev, N: 11}}, h.get(n))
	h.refused(sandboxer.ResourceExhausted, n, add(n, 2, 14), add(n, 2, 100))
	h.commit(add(n, 20, 14), add(n, -17, 0)) // together 3, up to 14
	h.same("the counter", int64(14), h.get(n)[0].N)
	h.refused(sandboxer.ResourceExhausted, n, add(n, math.MaxInt64, 0))
	h.commit(add(n, math.MinInt64, 0))
	h.refused(sandboxer.ResourceExhausted, n, add(n, -100, 0))
	h.same("the counter", int64(math.MinInt64+14), h.get(n)[0].N)
}

func wrongMutationsAreRefused(h *harness) {
	k := key("sandbox", "k")
	h.commit(put(k, 0, "old"))
	long := func(n int) string { return strings.Repeat("x", n) }
	manyTags := make([]string, store.MaxTags+1)
	for i := range manyTags {
		manyTags[i] = long(i + 1)
	}
	good := put(key("sandbox", "good"), store.AnyRev, "")
	many := make([]store.Mutation, store.MaxMutations+1)
	for i := range many {
		many[i] = add(key("counter", "n"), 1, 0)
	}
	for name, ms := range map[string][]store.Mutation{
		"no mutation":               {},
		"too many mutations":        many,
		"no verb":                   {good, {Key: key("sandbox", "x")}},
		"unknown verb":              {good, {Do: 9, Key: key("sandbox", "x")}},
		"no kind":                   {good, put(key("", "x"), 0, "")},
		"no ID":                     {good, put(key("sandbox", ""), 0, "")},
		"a long kind":               {good, put(key(long(store.MaxKind+1), "x"), 0, "")},
		"a long ID":                 {good, put(key("sandbox", long(store.MaxID+1)), 0, "")},
		"NUL in a kind":             {good, put(key("sand\x00box", "x"), 0, "")},
		"NUL in an ID":              {good, put(key("sandbox", "\x00"), 0, "")},
		"an empty tag":              {good, put(key("sandbox", "x"), 0, "", "")},
		"a tag twice":               {good, put(key("sandbox", "x"), 0, "", "a", "b", "a")},
		"NUL in a tag":              {good, put(key("sandbox", "x"), 0, "", "a\x00b")},
		"a long tag":                {good, put(key("sandbox", "x"), 0, "", long(store.MaxTag+1))},
		"many tags":                 {good, put(key("sandbox", "x"), 0, "", manyTags...)},
		"a large body":              {good, put(key("sandbox", "x"), 0, long(store.MaxBody+1))},
		"an Expect below AnyRev":    {good, put(key("sandbox", "x"), -2, "")},
		"a key put twice":           {good, put(key("sandbox", "x"), 0, ""), put(key("sandbox", "x"), 0, "")},
		"a key checked and put":     {good, check(k, store.AnyRev), put(k, store.AnyRev, "")},
		"a key put and added to":    {good, put(k, store.AnyRev, ""), add(k, 1, 0)},
		"a key added to and gone":   {good, add(k, 1, 0), del(k, store.AnyRev)},
		"a negative Max":            {good, add(key("counter", "x"), 1, -1)},
		"an Add with Expect":        {good, {Do: store.Add, Key: key("counter", "x"), Delta: 1, Expect: 1}},
		"an Add with a body":        {good, {Do: store.Add, Key: key("counter", "x"), Delta: 1, Body: []byte("x")}},
		"a Check with a body":       {good, {Do: store.Check, Key: k, Expect: store.AnyRev, Body: []byte("x")}},
		"a Delete with tags":        {good, {Do: store.Delete, Key: k, Expect: store.AnyRev, Tags: []string{"x"}}},
		"a Put with a Delta":        {good, {Do: store.Put, Key: k, Expect: store.AnyRev, Delta: 1}},
		"a Delete with a Max":       {good, {Do: store.Delete, Key: k, Expect: store.AnyRev, Max: 1}},
		"a key twice in a long one": append(append(many[:0:0], distinct(40)...), put(key("place", "7"), 0, "")),
	} {
		if _, err := h.s.Commit(h.ctx(), ms...); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			h.broken("a commit with %s: code %q, want invalid_argument (error: %v)", name, sandboxer.CodeOf(err), err)
		}
		if got := h.get(good.Key)[0]; got.Rev != 0 {
			h.broken("a commit with %s was refused, and applied in part", name)
		}
	}
}

func distinct(n int) []store.Mutation {
	ms := make([]store.Mutation, n)
	for i := range ms {
		ms[i] = put(key("place", string(rune('0'+i))), store.AnyRev, "")
	}
	return ms
}

func limitsCanBeReached(h *harness) {
	k := key(strings.Repeat("k", store.MaxKind), strings.Repeat("\xff", store.MaxID))
	tags := make([]string, store.MaxTags)
	for i := range tags {
		tags[i] = string(rune('A'+i)) + strings.Repeat("t", store.MaxTag-3)
	}
	body := strings.Repeat("\x00\xff body", store.MaxBody/7)
	rev := h.commit(put(k, 0, body, tags...))
	want := []store.Record{{Key: k, Rev: rev, Tags: tags, Body: []byte(body)}}
	h.same("the largest record", want, h.get(k))
	h.same("the largest record by its last tag", want, h.scan(store.Query{Kind: k.Kind, Tag: tags[len(tags)-1]}))
	ms := make([]store.Mutation, store.MaxMutations)
	for i := range ms {
		ms[i] = put(key("outbox", "o"+strings.Repeat("0", i%7)+string(rune(0x4e00+i))), 0, "x", "t")
	}
	rev = h.commit(ms...)
	got := h.scan(store.Query{Kind: "outbox", Tag: "t"})
	if len(got) != len(ms) || got[0].Rev != rev || got[len(got)-1].Rev != rev {
		h.broken("a commit of %d records left %d", len(ms), len(got))
	}
}

func endedContextCommitsNothing(h *harness) {
	k := key("sandbox", "k")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancelLate := context.WithTimeout(context.Background(), -1)
	defer cancelLate()
	for code, ctx := range map[sandboxer.Code]context.Context{sandboxer.Canceled: canceled, sandboxer.DeadlineExceeded: late} {
		_, err := h.s.Commit(ctx, put(k, 0, ""))
		if sandboxer.CodeOf(err) != code || !errors.Is(err, ctx.Err()) {
			h.broken("Commit under an ended context: %v, want %s", err, code)
		}
		if got := h.get(k)[0]; got.Rev != 0 {
			h.broken("Commit under an ended context failed, and was applied")
		}
		if _, err := h.s.Get(ctx, k); sandboxer.CodeOf(err) != code {
			h.broken("Get under an ended context: %v, want %s", err, code)
		}
		var scanned error
		for _, err := range h.s.Scan(ctx, store.Query{Kind: "sandbox"}) {
			scanned = err
		}
		if sandboxer.CodeOf(scanned) != code {
			h.broken("Scan under an ended context: %v, want %s", scanned, code)
		}
	}
}

func nothingIsShared(h *harness) {
	k := key("sandbox", "k")
	body, tags := []byte("body"), []string{"tag"}
	h.commit(store.Mutation{Do: store.Put, Key: k, Body: body, Tags: tags})
	spoil := func(body []byte, tags []string) {
		for i := range body {
			body[i] = 'X'
		}
		for i := range tags {
			tags[i] = "X"
		}
	}
	want := []store.Record{{Key: k, Rev: h.get(k)[0].Rev, Body: []byte("body"), Tags: []string{"tag"}}}
	spoil(body, tags)
	h.same("the record after the caller reused its buffers", want, h.get(k))
	got := h.get(k, k)
	spoil(got[0].Body, got[0].Tags)
	h.same("one of two copies after the other was written to", want, got[1:])
	h.same("the record after a copy was written to", want, h.get(k))
	for _, r := range h.scan(store.Query{Kind: "sandbox"}) {
		spoil(r.Body, r.Tags)
	}
	h.same("the record after a scanned copy was written to", want, h.scan(store.Query{Kind: "sandbox", Tag: "tag"}))
}
