// Package storetest is what every [store.Store] must pass. The author of a store calls Run in a test:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) store.Store { return mystore.New(t.TempDir()) })
//	}
//
// Each failure names the rule that was broken and why the Manager needs it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Option adds to what Run tests.
type Option func(*config)

type config struct {
	reopen func(t testing.TB, s store.Store) store.Store
	hang   time.Duration // how long one call may take beside another; 0: besidePatience
}

// WithReopen has the rules of a durable store tested too. reopen closes s and opens what it held once more.
func WithReopen(reopen func(t testing.TB, s store.Store) store.Store) Option {
	return func(c *config) { c.reopen = reopen }
}

// Run tests a store by every rule of the interface. open returns a new, empty one each time; what has to be closed,
// t.Cleanup closes.
func Run(t *testing.T, open func(t testing.TB) store.Store, opts ...Option) {
	t.Helper()
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.run(t, open, &c)
		})
	}
}

// rule is one thing that a store promises.
type rule struct {
	name    string
	why     string
	durable bool // needs reopen
	check   func(h *harness)
}

func (r rule) run(t testing.TB, open func(t testing.TB) store.Store, c *config) {
	t.Helper()
	h := &harness{TB: t, rule: r, open: open, reopen: c.reopen, hang: besidePatience}
	if c.hang > 0 {
		h.hang = c.hang
	}
	h.s = open(t)
	info := h.info()
	switch {
	case r.durable && c.reopen == nil && info.Durable:
		h.broken("Info says that the store is durable, so Run needs WithReopen to test it")
	case r.durable && c.reopen == nil:
		return
	case r.durable && !info.Durable:
		h.broken("Info says that the store is not durable, and WithReopen says that it is")
	}
	r.check(h)
}

// patience is how long anything may take before it counts as hanging.
const patience = 30 * time.Second

// besidePatience is how long a call may take that another may keep waiting for ever. It is short, so that the rule is reported
// long before a test's own time is over, and long for one commit on a busy disk.
const besidePatience = 10 * time.Second

// harness is what a rule works with.
type harness struct {
	testing.TB
	rule   rule
	s      store.Store
	open   func(t testing.TB) store.Store
	reopen func(t testing.TB, s store.Store) store.Store
	hang   time.Duration
}

// broken reports the rule as broken and ends it.
func (h *harness) broken(format string, args ...any) {
	h.Helper()
	h.Fatalf("%s\n\trule: %s\n\twhy:  %s", fmt.Sprintf(format, args...), h.rule.name, h.rule.why)
}

// wrong reports the rule as broken from a goroutine of its own, which then has to end.
func (h *harness) wrong(format string, args ...any) {
	h.Helper()
	h.Errorf("%s\n\trule: %s\n\twhy:  %s", fmt.Sprintf(format, args...), h.rule.name, h.rule.why)
}

func (h *harness) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.Context()), patience)
	h.Cleanup(cancel)
	return ctx
}

// commit commits what has to succeed.
func (h *harness) commit(ms ...store.Mutation) int64 {
	h.Helper()
	rev, err := h.s.Commit(h.ctx(), ms...)
	if err != nil {
		h.broken("Commit(%s): %v", show(ms), err)
	}
	return rev
}

// refused commits what has to be refused with code, naming key unless that is empty.
func (h *harness) refused(code sandboxer.Code, key store.Key, ms ...store.Mutation) {
	h.Helper()
	_, err := h.s.Commit(h.ctx(), ms...)
	if got := sandboxer.CodeOf(err); got != code {
		h.broken("Commit(%s): code %q, want %q (error: %v)", show(ms), got, code, err)
	}
	var named *store.Error
	if key != (store.Key{}) && (!errors.As(err, &named) || named.Key != key) {
		h.broken("Commit(%s): the error %v is no *store.Error that names %s", show(ms), err, key)
	}
}

func (h *harness) get(keys ...store.Key) []store.Record {
	h.Helper()
	rs, err := h.s.Get(h.ctx(), keys...)
	if err != nil {
		h.broken("Get(%v): %v", keys, err)
	}
	if len(rs) != len(keys) {
		h.broken("Get of %d keys returned %d records", len(keys), len(rs))
	}
	return rs
}

func (h *harness) scan(q store.Query) []store.Record {
	h.Helper()
	var rs []store.Record
	for r, err := range h.s.Scan(h.ctx(), q) {
		if err != nil {
			h.broken("Scan(%+v): %v", q, err)
		}
		rs = append(rs, r)
	}
	return rs
}

func (h *harness) info() store.Info {
	h.Helper()
	info, err := h.s.Info(h.ctx())
	if err != nil {
		h.broken("Info: %v", err)
	}
	return info
}

// same compares what the store returned with what it should have.
func (h *harness) same(what string, want, got any) {
	h.Helper()
	if diff := cmp.Diff(want, got, sameRecords); diff != "" {
		h.broken("%s is wrong (-want +got):\n%s", what, diff)
	}
}

// sameRecords: nil and empty are the same.
var sameRecords = cmp.Options{
	cmp.Transformer("tags", func(tags []string) []string { return append(make([]string, 0, len(tags)), tags...) }),
	cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) }),
}

func show(ms []store.Mutation) string {
	s := ""
	for i, m := range ms {
		if i == 5 {
			return s + fmt.Sprintf(" and %d more", len(ms)-i)
		}
		if i > 0 {
			s += ", "
		}
		verb := map[store.Verb]string{store.Check: "Check", store.Put: "Put", store.Delete: "Delete", store.Add: "Add"}[m.Do]
		s += fmt.Sprintf("%s %s", verb, m.Key)
		if m.Do == store.Add {
			s += fmt.Sprintf(" %+d", m.Delta)
			if m.Max != 0 {
				s += fmt.Sprintf(" up to %d", m.Max)
			}
			continue
		}
		s += fmt.Sprintf(" expecting %d", m.Expect)
	}
	return s
}

// Short forms, as the rules are full of them.

func key(kind, id string) store.Key { return store.Key{Kind: kind, ID: id} }

func put(k store.Key, expect int64, body string, tags ...string) store.Mutation {
	return store.Mutation{Do: store.Put, Key: k, Expect: expect, Body: []byte(body), Tags: tags}
}

func check(k store.Key, expect int64) store.Mutation {
	return store.Mutation{Do: store.Check, Key: k, Expect: expect}
}

func del(k store.Key, expect int64) store.Mutation {
	return store.Mutation{Do: store.Delete, Key: k, Expect: expect}
}

func add(k store.Key, delta, limit int64) store.Mutation {
	return store.Mutation{Do: store.Add, Key: k, Delta: delta, Max: limit}
}
