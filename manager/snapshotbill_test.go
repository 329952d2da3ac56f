package manager_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
)

// ofSandboxes are the keys of what was billed for sandboxes.
func (x *till) ofSandboxes() []string {
	return slices.DeleteFunc(x.keys(), func(k string) bool { return strings.HasPrefix(k, "snapshot/") })
}

// ofSnapshot are the records of one snapshot, in their order.
func (x *till) ofSnapshot(id string) []metering.Record {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []metering.Record
	for _, k := range slices.Sorted(maps.Keys(x.got)) {
		if x.got[k].Snapshot == id {
			out = append(out, x.got[k])
		}
	}
	slices.SortFunc(out, func(a, b metering.Record) int { return a.From.Compare(b.From) })
	return out
}

// wantStored checks that the time of everything that was ever stored, and is not any more, is in exactly one record: from no
// later than it began until no earlier than it ended, without a gap and without an overlap.
func (w *world) wantStored(x *till) {
	w.t.Helper()
	for _, k := range w.backend.Kept() {
		if !k.To.After(k.From) || k.Stored {
			continue
		}
		rs := x.ofSnapshot(k.ID)
		if len(rs) == 0 {
			w.t.Errorf("snapshot %s was kept from %v to %v and is in no record", k.ID, k.From, k.To)
			continue
		}
		if first, last := rs[0], rs[len(rs)-1]; first.From.After(k.From) || last.To.Before(k.To) || !last.Final {
			w.t.Errorf("snapshot %s was kept from %v to %v; its records are of %v to %v, the last final: %v", k.ID, k.From, k.To, first.From, last.To, last.Final)
		}
		for i := range rs[1:] {
			if !rs[i].To.Equal(rs[i+1].From) || rs[i].Final {
				w.t.Errorf("snapshot %s: a record ends at %v (final: %v), and the next begins at %v", k.ID, rs[i].To, rs[i].Final, rs[i+1].From)
			}
		}
	}
}

// TestSnapshotIsAccounted: what is stored is accounted for while it is kept and to its end, whoever ends it and however often
// the Manager restarts in between. It was seen to fail without billSnapshot in removeSnapshot, and in snapshotDue.
func TestSnapshotIsAccounted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		expires time.Duration
		end     func(*manager.Manager) error
		restart bool
		records int
	}{
		"deleted":                  {end: func(m *manager.Manager) error { return m.DeleteSnapshot(ctx, "s") }, records: 3},
		"expired":                  {expires: 60 * time.Hour, records: 3},
		"expired within a day":     {expires: time.Hour, records: 1},
		"deleted, after a restart": {end: func(m *manager.Manager) error { return m.DeleteSnapshot(ctx, "s") }, restart: true, records: 2},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot, sandboxer.CapFiles)
				x := w.metered()
				m := w.open()
				begun := time.Now().UTC()
				sb := created(t, m, ask("a"))
				req := sandboxer.SnapshotRequest{ID: "s"}
				if c.expires > 0 {
					req.ExpiresAt = begun.Add(c.expires)
				}
				snap, err := sb.Snapshot(ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := sb.Teardown(ctx); err != nil {
					t.Fatal(err)
				}
				if c.restart {
					if err := m.Close(); err != nil {
						t.Fatal(err)
					}
				}
				pass(60 * time.Hour)
				if c.restart {
					m = w.open()
					pass(time.Second)
				}
				if c.end != nil {
					if err := c.end(m); err != nil {
						t.Fatal(err)
					}
				}
				pass(time.Minute)
				w.wantLive()
				w.wantStored(x)
				rs := x.ofSnapshot("s")
				if len(rs) != c.records {
					t.Errorf("%d records, want %d: %+v", len(rs), c.records, rs)
				}
				var sum sandboxer.Money
				var micros int64
				for _, r := range rs {
					if sum, err = sum.Add(r.Total); err != nil {
						t.Fatal(err)
					}
					micros += r.Lines[0].Micros
					if r.Sandbox != "a" || r.Consumer.ID != "tests" || r.Extension != "ext.fake" || r.Lines[0].Item != "snapshot" || r.Estimated {
						t.Errorf("record %+v", r)
					}
				}
				took := rs[len(rs)-1].To.Sub(rs[0].From)
				if want := snap.SizeBytes * int64(took/time.Second) * 1_000_000 >> 30; micros < want-int64(c.records) || micros > want || sum.Nanos() == 0 && want > 30_000 {
					t.Errorf("%d millionths of a GiB-second and %v for %v of %d bytes; want %d", micros, sum, took, snap.SizeBytes, want)
				}
			})
		})
	}
}

// unpriced is an extension that bills for its sandboxes and has no price for its snapshots.
type unpriced struct {
	sandboxer.Extension
	sandboxer.Meterer
	sandboxer.Snapshotter
}

// TestSnapshotWithoutPrice: where nobody prices what is stored, or the price cannot be had, how much was kept for how long
// is recorded all the same.
func TestSnapshotWithoutPrice(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, fails := range map[string]bool{"no pricer": false, "it fails": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot)
				x := w.metered()
				if fails {
					w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshotCost, Err: errLost})
				} else {
					a := w.backend.Adapter(w.caps...)
					build := a.New
					a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
						ext, err := build(ctx, s)
						meter, _ := sandboxer.As[sandboxer.Meterer](ext)
						snapper, _ := sandboxer.As[sandboxer.Snapshotter](ext)
						return unpriced{ext, meter, snapper}, err
					}
					w.adapters = []sandboxer.Adapter{a}
				}
				m := w.open()
				if _, err := created(t, m, ask("a")).Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
					t.Fatal(err)
				}
				pass(1000 * time.Second)
				if err := m.DeleteSnapshot(ctx, "s"); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
				w.wantStored(x)
				rs := x.ofSnapshot("s")
				if len(rs) != 1 || len(rs[0].Lines) != 1 || rs[0].Lines[0].Unit != "gib-second" || rs[0].Lines[0].Micros <= 0 || !rs[0].Total.IsZero() || rs[0].Estimated != fails {
					t.Errorf("records %+v", rs)
				}
			})
		})
	}
}

// TestSnapshotNotAccounted: what was never stored, or is stored where nobody bills, is in no record.
func TestSnapshotNotAccounted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		caps  []sandboxer.Capability
		fault fake.Fault
	}{
		"refused":      {[]sandboxer.Capability{sandboxer.CapMeter, sandboxer.CapSnapshot}, fake.Fault{Op: sandboxer.OpSnapshot, Err: errBusy, Delay: time.Hour}},
		"nobody bills": {[]sandboxer.Capability{sandboxer.CapSnapshot}, fake.Fault{Op: sandboxer.OpExec, Err: errBusy}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				w.cfg.DefaultTTL = 100 * time.Hour
				x := w.metered()
				w.backend.Fail(c.fault)
				m := w.open()
				if _, err := created(t, m, ask("a")).Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err == nil {
					pass(30 * time.Hour)
					if err := m.DeleteSnapshot(ctx, "s"); err != nil {
						t.Error(err)
					}
				}
				pass(30 * time.Hour)
				if got := x.keys(); len(got) > 0 {
					t.Errorf("billed %v", got)
				}
			})
		})
	}
}

// TestLostSnapshotIsAccounted: one whose reply was lost, and whose removal took a while, was stored all that time.
func TestLostSnapshotIsAccounted(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot)
		x := w.metered()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshot, Err: errLost, Effect: fake.After, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Err: errLost, Times: 5})
		m := w.open()
		if _, err := created(t, m, ask("a")).Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "s"}); err == nil {
			t.Fatal("taken")
		}
		pass(50 * time.Minute)
		w.wantLive("a")
		w.wantStored(x)
		if rs := x.ofSnapshot("s"); len(rs) != 1 || !rs[0].Estimated {
			t.Errorf("records %+v", rs)
		}
	})
}

// TestSnapshotIDAgain: an ID that is used again after its snapshot was deleted has records of its own.
func TestSnapshotIDAgain(t *testing.T) {
	simulate(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot)
		x := w.metered()
		m := w.open()
		sb := created(t, m, ask("a"))
		for range 2 {
			if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
				t.Fatal(err)
			}
			pass(10 * time.Minute)
			if err := m.DeleteSnapshot(ctx, "s"); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
		}
		if rs := x.ofSnapshot("s"); len(rs) != 2 || !rs[0].Final || !rs[1].Final {
			t.Errorf("records %+v", rs)
		}
	})
}

// TestStoreFailsWhileStored: the commits that carry the records of what is stored fail in every way; each second is in one
// record all the same.
func TestStoreFailsWhileStored(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, how := range map[string]wrong{
		"full": {Err: errFull}, "lost": {Err: errDisk, Applied: true}, "lost and blind": {Err: errDisk, Applied: true, Blinds: true},
		"unknown": {Err: errDisk}, "blind": {Err: errDisk, Blinds: true},
	} {
		for _, point := range []string{"commit snapshot ready s bill", "commit snapshot deleting", "commit drop snapshot/s"} {
			t.Run(name+", "+point, func(t *testing.T) {
				simulate(t, func(t *testing.T) {
					w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot)
					w.cfg.DefaultTTL = 1000 * time.Hour
					x := w.metered()
					m := w.open()
					if _, err := created(t, m, ask("a")).Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
						t.Fatal(err)
					}
					how := how
					how.Point, how.Times = point, 3
					w.store.fail(how)
					pass(24*time.Hour + time.Second)
					w.store.heal()
					if point != "commit snapshot ready s bill" {
						w.store.fail(how)
					}
					pass(time.Hour)
					_ = m.DeleteSnapshot(ctx, "s") // what becomes of it is asked below
					pass(time.Second)
					w.store.heal()
					pass(time.Hour)
					w.wantLive("a")
					w.wantStored(x)
					if rs := x.ofSnapshot("s"); len(rs) != 2 {
						t.Errorf("records %+v", rs)
					}
				})
			})
		}
	}
}

// TestStraySnapshotIsAccounted: a stored snapshot that no record knows is removed by the reaper with a record of its own, so
// that a removal that fails is tried again, and what it cost is known.
func TestStraySnapshotIsAccounted(t *testing.T) {
	simulate(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t, sandboxer.CapMeter, sandboxer.CapSnapshot, sandboxer.CapList)
		w.cfg.DefaultTTL = 1000 * time.Hour
		x := w.metered()
		m := w.open()
		if _, err := created(t, m, ask("a")).Snapshot(ctx, sandboxer.SnapshotRequest{ID: "s"}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Store.Commit(ctx, store.Mutation{Do: store.Delete, Key: store.Key{Kind: "snapshot", ID: "s"}, Expect: store.AnyRev}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Hour)
		w.backend.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Err: errLost, Times: 1})
		if report, err := m.Reap(ctx, manager.ReapOptions{}); !errors.Is(err, errLost) || len(report.Snapshots) > 0 {
			t.Errorf("the reaper says %+v, %v", report, err)
		}
		pass(time.Minute)
		w.wantLive("a")
		w.wantStored(x)
		if diff := cmp.Diff(1, len(x.ofSnapshot("s"))); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		for s, err := range m.Snapshots(ctx, manager.Filter{}) {
			t.Errorf("still on record: %+v, %v", s, err)
		}
	})
}

// TestCancelledDeletionIsPriced: a caller that gives a DeleteSnapshot up, or a pricer that fails once, takes nothing off the bill. It
// was seen to fail when the price is asked for once, under the caller's context.
func TestCancelledDeletionIsPriced(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"answered", "cancelled", "fails once"} {
		t.Run(how, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.AllCapabilities()...)
				x := w.metered()
				m := w.open()
				sb := created(t, m, ask("a"))
				if _, err := sb.Output(context.Background(), "sh", "-c", "echo something > f"); err != nil {
					t.Fatal(err)
				}
				if _, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"}); err != nil {
					t.Fatal(err)
				}
				pass(10 * time.Hour)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				switch how {
				case "cancelled":
					w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshotCost, Hang: true, Times: 1})
					time.AfterFunc(time.Second, cancel)
				case "fails once":
					w.backend.Fail(fake.Fault{Op: sandboxer.OpSnapshotCost, Err: errLost, Times: 1})
				}
				_ = m.DeleteSnapshot(ctx, "snap")
				pass(time.Hour)
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				for _, r := range x.ofSnapshot("snap") {
					if r.Total.IsZero() || r.Estimated != (how == "cancelled") { // the next try cannot know that the first deleted it
						t.Errorf("%s: %v, estimated: %v, %+v", r.Key, r.Total, r.Estimated, r.Lines)
					}
				}
			})
		})
	}
}
