package crashtest_test

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/crashworld"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aged makes everything that a backend lists look a day old, so that the reaper's grace has passed.
type aged struct{ sandboxer.Extension }

func (a aged) Unwrap() sandboxer.Extension { return a.Extension }

// HasCapability passes on what the extension can do: List must not make a blind one see.
func (a aged) HasCapability(c sandboxer.Capability) bool {
	return slices.Contains(sandboxer.Capabilities(a.Extension), c)
}

func (a aged) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	inner, _ := sandboxer.As[sandboxer.Lister](a.Extension)
	return func(yield func(sandboxer.Instance, error) bool) {
		for in, err := range inner.List(ctx, q) {
			in.CreatedAt = in.CreatedAt.Add(-24 * time.Hour)
			if !yield(in, err) {
				return
			}
		}
	}
}

// open opens the store, as a process that starts again does.
func (w *world) open() *boltstore.Store {
	w.t.Helper()
	st, err := boltstore.Open(w.t.Context(), w.store)
	if err != nil {
		w.t.Fatalf("the store does not open after the crash: %v", err)
	}
	return st
}

// plant makes a resource of this store that no record knows.
func (w *world) plant() {
	w.t.Helper()
	st := w.open()
	info, err := st.Info(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.planted = "stray"
	w.backend.Plant("ext.full", "", "stray", map[string]string{
		sandboxer.LabelOwner: "crash." + info.ID, sandboxer.LabelID: "stray", sandboxer.LabelName: "stray",
		sandboxer.LabelConsumer: "crash",
	})
}

// check starts a Manager again and compares the backend with the store, then removes everything and compares once more.
func (w *world) check(promised []string) {
	w.t.Helper()
	st := w.open()
	defer st.Close() //nolint:errcheck // the test is over
	cfg, closeExporter, err := crashworld.Config(st, w.store, w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := manager.New(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatalf("no Manager starts after the crash: %v", err)
	}
	statuses := w.settled(m)
	if w.planted == "" {
		w.compare(m, statuses) // before the reaper comes, which hides what the Manager does not do by itself
	}
	w.reap(m)
	statuses = w.settled(m)
	w.compare(m, statuses)
	w.kept(statuses, promised)
	w.keptSnapshots(m, promised)
	w.removeAll(m)
	if live := w.backend.Live(); len(live) > 0 {
		w.t.Errorf("after everything was removed the backend still has %v: a leak", live)
	}
	if err := m.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
	if err := closeExporter(); err != nil {
		w.t.Error(err)
	}
	w.places(st)
	w.accounts(st)
}

// reap looks at everything once more: there is nothing for the reaper to do but to remove what was planted.
func (w *world) reap(m *manager.Manager) {
	w.t.Helper()
	report, err := m.Reap(w.t.Context(), manager.ReapOptions{})
	if err != nil {
		w.t.Errorf("reap: %v", err)
	}
	for _, r := range slices.Concat(report.Orphaned, report.Snapshots) {
		if r.ID != w.planted {
			w.t.Errorf("only the reaper removed %s on %q%s (%s): a leak", r.Name, r.Extension, r.Host, r.Reason)
		}
	}
	for _, r := range slices.Concat(report.Expired, report.Lost) {
		w.t.Errorf("only the reaper noticed that %s is %s", r.ID, r.Reason)
	}
	if len(report.Incomplete) > 0 {
		w.t.Errorf("listings failed, so that nothing is proven: %v", report.Incomplete)
	}
}

// settled waits for the background and returns the status of every record.
func (w *world) settled(m *manager.Manager) []sandboxer.SandboxStatus {
	w.t.Helper()
	tick := time.NewTicker(25 * time.Millisecond) // the background works in real time, beside real processes
	defer tick.Stop()
	for range 1200 {
		var all []sandboxer.SandboxStatus
		busy := false
		for sb, err := range m.List(w.t.Context(), manager.Filter{}) {
			if err != nil {
				w.t.Fatal(err)
			}
			s, err := sb.Status(w.t.Context())
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, s)
			switch s.State {
			case sandboxer.StateReady, sandboxer.StatePaused:
				busy = busy || !s.ExpiresAt.IsZero() && time.Until(s.ExpiresAt) < time.Minute // it ends any moment
			case sandboxer.StateGone, sandboxer.StateFailed:
			default:
				busy = true
			}
		}
		for s, err := range m.Snapshots(w.t.Context(), manager.Filter{}) {
			busy = busy || err != nil || s.Status != sandboxer.SnapshotReady
		}
		if !busy {
			return all
		}
		<-tick.C
	}
	w.t.Fatal("a record has no end 30 s after the restart")
	return nil
}

// compare holds the backend's resources against the records: none without the other, none twice.
func (w *world) compare(m *manager.Manager, statuses []sandboxer.SandboxStatus) {
	w.t.Helper()
	var want []string
	for _, s := range statuses {
		if s.State == sandboxer.StateReady || s.State == sandboxer.StatePaused {
			want = append(want, s.Attempts[len(s.Attempts)-1].Name)
		}
	}
	for s, err := range m.Snapshots(w.t.Context(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		want = append(want, "snapshot/"+s.ID)
	}
	slices.Sort(want)
	live := w.backend.Live()
	slices.Sort(live)
	if diff := cmp.Diff(want, live); diff != "" {
		w.t.Errorf("records (-) and resources (+) differ:\n%s", diff)
	}
}

// kept checks that what the killed process had been given is still there.
func (w *world) kept(statuses []sandboxer.SandboxStatus, promised []string) {
	w.t.Helper()
	state := map[string]sandboxer.State{}
	for _, s := range statuses {
		state[string(s.ID)] = s.State
		if strings.HasPrefix(string(s.ID), "stray-") && w.planted == "" { // what a reaper removes gets such a record
			w.t.Errorf("%s is the record of a resource that only a reaper removed (%s): a leak", s.ID, s.Reason)
		}
	}
	for id := range promise(promised, "have", "drop") {
		if state[id] != sandboxer.StateReady && state[id] != sandboxer.StatePaused {
			w.t.Errorf("the create of %s had returned, and now it is %q", id, state[id])
		}
	}
}

// keptSnapshots checks the same of snapshots, and that no reaper has found one that no record knew.
func (w *world) keptSnapshots(m *manager.Manager, promised []string) {
	w.t.Helper()
	status := map[string]string{}
	for s, err := range m.Snapshots(w.t.Context(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		status[s.ID] = s.Status
	}
	for id := range promise(promised, "have-snapshot", "drop-snapshot") {
		if status[id] != sandboxer.SnapshotReady {
			w.t.Errorf("snapshot %s had been taken, and now it is %q", id, status[id])
		}
	}
	for id := range promise(promised, "reaped", "") {
		if id != w.planted {
			w.t.Errorf("only the reaper of an earlier process removed %s: a leak", id)
		}
	}
}

// promise returns what the lines that begin with have name, without what those that begin with drop do, in whatever order.
func promise(lines []string, have, drop string) map[string]bool {
	out, less := map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		switch what, id, _ := strings.Cut(line, " "); what {
		case have:
			out[id] = true
		case drop:
			less[id] = true
		}
	}
	maps.DeleteFunc(out, func(id string, _ bool) bool { return less[id] })
	return out
}

func (w *world) removeAll(m *manager.Manager) {
	w.t.Helper()
	for sb, err := range m.List(w.t.Context(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := sb.Teardown(w.t.Context()); err != nil {
			w.t.Errorf("teardown of %s: %v", sb.ID(), err)
		}
	}
	for s, err := range m.Snapshots(w.t.Context(), manager.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if err := m.DeleteSnapshot(w.t.Context(), s.ID); err != nil {
			w.t.Errorf("deletion of snapshot %s: %v", s.ID, err)
		}
	}
}

// places checks that every slot on a host was given back.
func (w *world) places(st store.Store) {
	w.t.Helper()
	got, err := st.Get(w.t.Context(), store.Key{Kind: "place", ID: "h1"}, store.Key{Kind: "place", ID: "h2"})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range got {
		if r.N != 0 {
			w.t.Errorf("%d slots of host %s are still taken", r.N, r.Key.ID)
		}
	}
}

// accounts checks that every sandbox that ever existed is billed exactly once, to its last nanosecond.
func (w *world) accounts(st store.Store) {
	w.t.Helper()
	if n, err := metering.Pending(w.t.Context(), st); err != nil || n != 0 {
		w.t.Errorf("%d meter records wait in the outbox (%v)", n, err)
	}
	billed := map[string]sandboxer.Money{}
	stored := map[string][]metering.Record{}
	text, err := os.ReadFile(w.store + ".bill")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r metering.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			w.t.Fatalf("the bill has a line that is no record: %q", line)
		}
		if r.Snapshot != "" {
			stored[r.Snapshot] = append(stored[r.Snapshot], r)
			continue
		}
		name, _, _ := strings.Cut(r.Key, "/")
		if _, twice := billed[name]; twice {
			w.t.Errorf("%s is billed twice", name)
		}
		billed[name] = r.Total
	}
	for name, total := range w.backend.Costs() {
		if got, ok := billed[name]; !ok || got != total {
			w.t.Errorf("%s has cost %v, and the bill says %v (billed: %v): unaccounted", name, total, got, ok)
		}
		delete(billed, name)
	}
	for name := range billed {
		w.t.Errorf("%s is billed and never existed", name)
	}
	w.storage(stored)
}

// storage checks that all the time of every snapshot that was ever stored is in exactly one meter record.
func (w *world) storage(stored map[string][]metering.Record) {
	w.t.Helper()
	seen := map[string]bool{}
	for id, rs := range stored {
		slices.SortFunc(rs, func(a, b metering.Record) int { return a.From.Compare(b.From) })
		for i, r := range rs {
			if seen[r.Key] {
				w.t.Errorf("%s is billed twice", r.Key)
			}
			seen[r.Key] = true
			if last := i == len(rs)-1; r.Final != last || (!last && !r.To.Equal(rs[i+1].From)) {
				w.t.Errorf("snapshot %s: record %d of %d ends at %v, final: %v, and the next is %+v", id, i+1, len(rs), r.To, r.Final, rs[min(i+1, len(rs)-1)])
			}
		}
	}
	for _, k := range w.backend.Kept() {
		rs := stored[k.ID]
		if k.Stored || len(rs) == 0 || rs[0].From.After(k.From) || rs[len(rs)-1].To.Before(k.To) {
			w.t.Errorf("snapshot %s was stored from %v to %v, and its %d records do not say so: unaccounted", k.ID, k.From, k.To, len(rs))
		}
	}
}
