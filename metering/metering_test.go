package metering_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
)

// collector keeps the keys that it was given, and fails when told to.
type collector struct {
	batches [][]string
	fail    error // of the next Export
}

func (c *collector) Export(_ context.Context, rs []metering.Record) error {
	var keys []string
	for _, r := range rs {
		keys = append(keys, r.Key)
	}
	c.batches = append(c.batches, keys)
	err := c.fail
	c.fail = nil
	return err
}

func (c *collector) keys() []string { return slices.Concat(c.batches...) }

func record(t *testing.T, key string) metering.Record {
	t.Helper()
	price, err := sandboxer.ParseMoney("0.0000140 USD")
	if err != nil {
		t.Fatal(err)
	}
	line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", 61_500_000, price)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	return metering.Record{
		Key: key, Sandbox: "a", Attempt: 1, Profile: "profile.x", Extension: "ext.x", Consumer: sandboxer.Consumer{ID: "ci", Tenant: "blue"},
		Payer: sandboxer.Payer{Tenant: "blue", Key: "1"}, From: at, To: at.Add(time.Minute), Lines: []sandboxer.MeterLine{line}, Total: line.Amount, Final: true,
	}
}

// fill puts records into the outbox of a new store.
func fill(t *testing.T, keys ...string) store.Store {
	t.Helper()
	st := store.Memory()
	for _, k := range keys {
		m, err := metering.Outbox(record(t, k))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func pending(t *testing.T, st store.Store) int {
	t.Helper()
	n, err := metering.Pending(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDeliver: records reach every exporter in batches, whole, and leave the outbox then.
func TestDeliver(t *testing.T) {
	t.Parallel()
	var got []metering.Record
	var keys []string
	for i := range 7 {
		keys = append(keys, fmt.Sprintf("s-%d/1", i))
	}
	st := fill(t, keys...)
	one, two := &collector{}, exporterFunc(func(_ context.Context, rs []metering.Record) error {
		got = append(got, rs...)
		return nil
	})
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{one, two}, Batch: 3})
	if err != nil {
		t.Fatal(err)
	}
	if n := pending(t, st); n != 7 {
		t.Errorf("%d pending, want 7", n)
	}
	if n, err := m.Deliver(t.Context(), st); n != 7 || err != nil {
		t.Errorf("delivered %d, %v; want 7", n, err)
	}
	if diff := cmp.Diff([][]string{keys[:3], keys[3:6], keys[6:]}, one.batches); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(record(t, keys[0]), got[0], cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b })); diff != "" || len(got) != 7 {
		t.Errorf("%d records, the first (-want +got):\n%s", len(got), diff)
	}
	if n, err := m.Deliver(t.Context(), st); n != 0 || err != nil || pending(t, st) != 0 {
		t.Errorf("a second time: %d, %v, %d pending", n, err, pending(t, st))
	}
}

type exporterFunc func(context.Context, []metering.Record) error

func (f exporterFunc) Export(ctx context.Context, rs []metering.Record) error { return f(ctx, rs) }

// TestDeliverAgain: what one exporter did not take comes again, to all, under the same keys; what was delivered does not.
func TestDeliverAgain(t *testing.T) {
	t.Parallel()
	errDown := errors.New("the bank is closed")
	st := fill(t, "a/1", "b/1", "c/1")
	one, two := &collector{}, &collector{}
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{one, two}, Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	two.fail = errDown
	if n, err := m.Deliver(t.Context(), st); n != 0 || !errors.Is(err, errDown) {
		t.Errorf("delivered %d, %v; want nothing, and why", n, err)
	}
	if n := pending(t, st); n != 3 {
		t.Errorf("%d pending, want 3", n)
	}
	if n, err := m.Deliver(t.Context(), st); n != 3 || err != nil {
		t.Errorf("delivered %d, %v; want 3", n, err)
	}
	if diff := cmp.Diff([]string{"a/1", "b/1", "a/1", "b/1", "c/1"}, one.keys()); diff != "" {
		t.Errorf("exported (-want +got):\n%s", diff)
	}
}

// TestOddRecord: a record that does not decode stays, is named, and holds up none behind it. It was seen to fail on a Deliver
// that stops at such a record.
func TestOddRecord(t *testing.T) {
	t.Parallel()
	st := fill(t, "a/1", "c/1", "e/1")
	for _, k := range []string{"b/1", "d/1", "d/2"} {
		if _, err := st.Commit(t.Context(), store.Mutation{Do: store.Put, Key: store.Key{Kind: "outbox", ID: k}, Body: []byte(`{"from":7}`)}); err != nil {
			t.Fatal(err)
		}
	}
	c := &collector{}
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{c}, Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Deliver(t.Context(), st)
	if n != 3 || sandboxer.CodeOf(err) != sandboxer.Internal || !strings.Contains(err.Error(), "b/1 does not decode") || !strings.HasSuffix(err.Error(), "and 2 more do not") {
		t.Errorf("delivered %d, %v", n, err)
	}
	if diff := cmp.Diff([][]string{{"a/1"}, {"c/1"}, {"e/1"}}, c.batches); diff != "" {
		t.Errorf("exported (-want +got):\n%s", diff)
	}
	if n := pending(t, st); n != 3 {
		t.Errorf("%d pending, want 3", n)
	}
}

// late fails commits after they were applied, or before.
type late struct {
	store.Store
	applied bool
	times   int
}

func (s *late) Commit(ctx context.Context, ms ...store.Mutation) (int64, error) {
	if s.times--; s.times < 0 {
		return s.Store.Commit(ctx, ms...)
	}
	if s.applied {
		if _, err := s.Store.Commit(ctx, ms...); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("input/output error")
}

// TestStoreFails: records that were exported and could not be removed are exported again, never lost.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	for name, applied := range map[string]bool{"not applied": false, "applied": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &collector{}
			m, err := metering.New(metering.Config{Exporters: []metering.Exporter{c}})
			if err != nil {
				t.Fatal(err)
			}
			st := &late{Store: fill(t, "a/1"), applied: applied, times: 1}
			if _, err := m.Deliver(t.Context(), st); err == nil {
				t.Error("no error")
			}
			if _, err := m.Deliver(t.Context(), st); err != nil {
				t.Error(err)
			}
			want := []string{"a/1", "a/1"}
			if applied {
				want = want[:1]
			}
			if diff := cmp.Diff(want, c.keys()); diff != "" {
				t.Errorf("exported (-want +got):\n%s", diff)
			}
			if n := pending(t, st); n != 0 {
				t.Errorf("%d pending", n)
			}
		})
	}
}

// TestSameKey: what waits for delivery is never replaced, and its key is free once it was delivered. It was seen to fail on an
// Outbox that puts over any revision.
func TestSameKey(t *testing.T) {
	t.Parallel()
	st := fill(t, "a/1")
	other := record(t, "a/1")
	other.Sandbox = "b"
	put, err := metering.Outbox(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), put); !errors.Is(err, sandboxer.Aborted) {
		t.Errorf("another record under the key of one that waits: %v, want Aborted", err)
	}
	var got []metering.Record
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{exporterFunc(func(_ context.Context, rs []metering.Record) error {
		got = append(got, rs...)
		return nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Deliver(t.Context(), st); n != 1 || err != nil || got[0].Sandbox != "a" {
		t.Errorf("delivered %d, %v: %+v", n, err, got)
	}
	if _, err := st.Commit(t.Context(), put); err != nil {
		t.Errorf("once it was delivered: %v", err)
	}
}

// TestBigRecord: a record fits the store, whatever a backend says: lines of one item at one price are added up, and where
// that is not enough one line stands for all. Its total is as it was, and its lines add up to it. It was seen to fail on an
// Outbox that puts every line.
func TestBigRecord(t *testing.T) {
	t.Parallel()
	price, err := sandboxer.ParseMoney("0.0000003 USD")
	if err != nil {
		t.Fatal(err)
	}
	lines := func(n int, item func(int) string) (out []sandboxer.MeterLine) {
		for i := range n {
			l, err := sandboxer.NewMeterLine(item(i), "unit", int64(1_000_000+i), price)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, l)
		}
		return out
	}
	for name, c := range map[string]struct {
		lines []sandboxer.MeterLine
		want  int
	}{
		"lines that fit":       {lines(1000, func(i int) string { return fmt.Sprint(i) }), 1000},
		"of few items":         {lines(20_000, func(i int) string { return fmt.Sprint(i % 7) }), 7},
		"of many items":        {lines(20_000, func(i int) string { return fmt.Sprint(i) }), 1},
		"one with a long item": {lines(1, func(int) string { return strings.Repeat("x", 2<<20) }), 1},
		"none":                 {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := record(t, "a/1")
			r.Lines, r.Total = c.lines, price
			if c.lines != nil {
				sum, err := sandboxer.SumLines(c.lines)
				if err != nil {
					t.Fatal(err)
				}
				r.Total = sum
			}
			put, err := metering.Outbox(r)
			if err != nil {
				t.Fatal(err)
			}
			st := store.Memory()
			if _, err := st.Commit(t.Context(), put); err != nil {
				t.Fatal(err)
			}
			m, err := metering.New(metering.Config{Exporters: []metering.Exporter{exporterFunc(func(_ context.Context, rs []metering.Record) error {
				sum, err := sandboxer.SumLines(rs[0].Lines)
				if err != nil || sum != r.Total || rs[0].Total != r.Total || len(rs[0].Lines) != c.want {
					t.Errorf("%d lines of %v (%v), and a total of %v; want %d of %v", len(rs[0].Lines), sum, err, rs[0].Total, c.want, r.Total)
				}
				for _, l := range rs[0].Lines {
					if l.UnitPrice.IsZero() || l.Micros <= 0 {
						t.Errorf("line %+v", l)
					}
				}
				return nil
			})}})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := m.Deliver(t.Context(), st); n != 1 || err != nil {
				t.Errorf("delivered %d, %v", n, err)
			}
		})
	}
}

// TestConfig: the defaults, and what is refused.
func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := metering.New(metering.Config{}); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("%v, want InvalidArgument", err)
	}
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{&collector{}}})
	if err != nil || m.Interval() != 10*time.Second {
		t.Errorf("interval %v, %v; want 10 s", m.Interval(), err)
	}
}

// TestDeadContext: nothing is exported under a context that has ended.
func TestDeadContext(t *testing.T) {
	t.Parallel()
	c := &collector{}
	m, err := metering.New(metering.Config{Exporters: []metering.Exporter{c}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Deliver(ctx, fill(t, "a/1")); !errors.Is(err, context.Canceled) || len(c.batches) > 0 {
		t.Errorf("%v, and %d batches", err, len(c.batches))
	}
}
