package manager_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

func snapshots(t *testing.T, m *manager.Manager, f manager.Filter) (ids []string) {
	t.Helper()
	for s, err := range m.Snapshots(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID+" "+s.Status)
	}
	return ids
}

// TestSnapshot: intent first, result after; the same ID is the same snapshot, of one sandbox only.
func TestSnapshot(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot, sandboxer.CapExec, sandboxer.CapFiles)
		m := w.open()
		ctx := context.Background()
		req := ask("a")
		req.Consumer = sandboxer.Consumer{ID: "ci", Tenant: "blue"}
		sb := created(t, m, req)
		if err := sb.CopyIn(ctx, "", fstest.MapFS{"hello.txt": {Data: []byte("hi")}}); err != nil {
			t.Fatal(err)
		}
		w.journal.take()
		snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap", Name: "before the upgrade", Labels: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		w.wantJournal("commit snapshot creating snap", "snapshot a", "commit snapshot ready snap")
		want := sandboxer.Snapshot{
			ID: "snap", Name: "before the upgrade", Extension: "ext.fake", Source: "a", Status: "ready", Consumer: req.Consumer,
			Labels: map[string]string{
				"k": "v", sandboxer.LabelID: "a", sandboxer.LabelOwner: owner(t, w.store), sandboxer.LabelConsumer: "ci", sandboxer.LabelTenant: "blue",
			},
			Kind: "filesystem", CreatedAt: time.Now().UTC(), SizeBytes: snap.SizeBytes, Digest: snap.Digest, State: snap.State,
		}
		if diff := cmp.Diff(want, snap); diff != "" || snap.SizeBytes == 0 || snap.Digest == "" {
			t.Errorf("snapshot (-want +got):\n%s", diff)
		}
		again, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"})
		if diff := cmp.Diff(snap, again); diff != "" || err != nil {
			t.Errorf("a second time (-want +got, %v):\n%s", err, diff)
		}
		w.wantJournal()
		other := created(t, m, ask("b"))
		_, err = other.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"})
		wantCode(t, err, sandboxer.AlreadyExists)
		for _, bad := range []sandboxer.SnapshotRequest{{ID: "NO"}, {ExpiresAt: time.Now().Add(-time.Second)}, {Labels: map[string]string{"sandboxer-x": ""}}} {
			_, err := sb.Snapshot(ctx, bad)
			wantCode(t, err, sandboxer.InvalidArgument)
		}

		if _, err := sb.Teardown(ctx); err != nil {
			t.Fatal(err)
		}
		restore := ask("c")
		restore.Consumer, restore.FromSnapshot = req.Consumer, "snap"
		w.journal.take()
		c := created(t, m, restore)
		w.wantJournal("commit provisioning c", "restore c", "wait-ready c", "commit ready c")
		out, err := c.Output(ctx, "cat", "hello.txt")
		if err != nil || string(out) != "hi" {
			t.Errorf("%q, %v", out, err)
		}
		if err := m.DeleteSnapshot(ctx, "snap"); err != nil {
			t.Error(err)
		}
		wantCode(t, m.DeleteSnapshot(ctx, "snap"), sandboxer.NotFound)
		wantCode(t, m.DeleteSnapshot(ctx, "no/such"), sandboxer.InvalidArgument)
		w.wantLive("b", "c")
	})
}

// TestRestoreRules: what a snapshot can be restored to, and by whom.
func TestRestoreRules(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot, sandboxer.CapSnapshotTransfer).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2", MaxSandboxes: 1000})
		w.clouds()
		w.profiles = []sandboxer.Profile{
			{ID: "profile.cloud", Extension: "ext.cloud"}, {ID: "profile.weak", Extension: "ext.weak"},
			{ID: "profile.bursts", Extension: "ext.fake", Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.cloud"}, {Profile: "profile.fake"}}}},
		}
		m := w.open()
		ctx := context.Background()
		req := ask("a")
		req.Consumer.Tenant, req.Host = "blue", "h2"
		sb := created(t, m, req)
		snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"})
		if err != nil {
			t.Fatal(err)
		}
		try := func(change func(*sandboxer.CreateRequest)) (sandboxer.SandboxStatus, error) {
			r := ask("")
			r.Consumer.Tenant, r.FromSnapshot = "blue", snap.ID
			change(&r)
			sb, err := m.Create(ctx, r)
			if err != nil {
				return sandboxer.SandboxStatus{}, err
			}
			return status(t, m, sb.ID()), nil
		}
		s, err := try(func(*sandboxer.CreateRequest) {})
		if err != nil || s.Host != "h2" {
			t.Errorf("restored on %q, %v; want where the snapshot is", s.Host, err)
		}
		for name, c := range map[string]struct {
			change func(*sandboxer.CreateRequest)
			code   sandboxer.Code
			text   string
		}{
			"another tenant":      {func(r *sandboxer.CreateRequest) { r.Consumer.Tenant = "red" }, sandboxer.NotFound, `"red"`},
			"no tenant":           {func(r *sandboxer.CreateRequest) { r.Consumer.Tenant = "" }, sandboxer.NotFound, "snap"},
			"another host":        {func(r *sandboxer.CreateRequest) { r.Host = "h1" }, sandboxer.FailedPrecondition, "TransferSnapshot"},
			"another extension":   {func(r *sandboxer.CreateRequest) { r.Profile = "profile.cloud" }, sandboxer.FailedPrecondition, "ext.fake"},
			"one that cannot":     {func(r *sandboxer.CreateRequest) { r.Profile = "profile.weak" }, sandboxer.FailedPrecondition, "ext.weak"},
			"no such snapshot":    {func(r *sandboxer.CreateRequest) { r.FromSnapshot = "none" }, sandboxer.NotFound, "none"},
			"no ID of a snapshot": {func(r *sandboxer.CreateRequest) { r.FromSnapshot = "../x" }, sandboxer.InvalidArgument, "snapshot ID"},
		} {
			_, err := try(c.change)
			if sandboxer.CodeOf(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
			wantText(t, err, c.text)
		}

		// A burst that restores goes where the snapshot is as well, and passes over who cannot.
		w.backend.Fail(fake.Fault{Op: sandboxer.OpRestore, Err: errBusy, Times: 1})
		s, err = try(func(r *sandboxer.CreateRequest) { r.Profile = "profile.bursts" })
		if err != nil {
			t.Fatal(err)
		}
		want := []place{
			{1, "profile.bursts", "ext.fake", sandboxer.Unavailable}, {0, "profile.cloud", "ext.cloud", sandboxer.FailedPrecondition}, {2, "profile.fake", "ext.fake", ""},
		}
		if diff := cmp.Diff(want, places(s)); diff != "" || s.Host != "h2" {
			t.Errorf("places, the last on %s (-want +got):\n%s", s.Host, diff)
		}

		moved, err := m.TransferSnapshot(ctx, snap.ID, "h1")
		if err != nil {
			t.Fatal(err)
		}
		if moved.ID == snap.ID || moved.Host != "h1" || moved.Digest != snap.Digest || moved.Status != "ready" || moved.Source != "a" {
			t.Errorf("moved %+v", moved)
		}
		s, err = try(func(r *sandboxer.CreateRequest) { r.FromSnapshot = moved.ID })
		if err != nil || s.Host != "h1" {
			t.Errorf("restored on %q, %v; want h1", s.Host, err)
		}
		_, err = m.TransferSnapshot(ctx, snap.ID, "h3")
		wantCode(t, err, sandboxer.InvalidArgument)
		_, err = m.TransferSnapshot(ctx, snap.ID, "")
		wantCode(t, err, sandboxer.InvalidArgument)
		_, err = m.TransferSnapshot(ctx, "none", "h1")
		wantCode(t, err, sandboxer.NotFound)
		if diff := cmp.Diff([]string{moved.ID + " ready"}, snapshots(t, m, manager.Filter{Host: "h1", Tenant: "blue", IDs: []sandboxer.ID{"a"}})); diff != "" {
			t.Errorf("listed (-want +got):\n%s", diff)
		}
		if got := snapshots(t, m, manager.Filter{Tenant: "red"}); len(got) > 0 {
			t.Errorf("of another tenant: %v", got)
		}
	})
}

// TestSnapshotFails: whatever goes wrong, nothing is left, at once or, where the backend does not let go, later.
func TestSnapshotFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults []fake.Fault
		store  wrong
		later  bool
	}{
		"refused":                 {faults: []fake.Fault{{Op: sandboxer.OpSnapshot, Err: errBad, Times: 1}}},
		"lost":                    {faults: []fake.Fault{{Op: sandboxer.OpSnapshot, Err: errLost, Times: 1, Effect: fake.After}}, later: true},
		"lost, and cannot delete": {faults: []fake.Fault{{Op: sandboxer.OpSnapshot, Err: errLost, Times: 1, Effect: fake.After}, {Op: sandboxer.OpDeleteSnapshot, Err: errLost, Times: 3}}, later: true},
		"no intent":               {store: wrong{Point: "commit snapshot creating", Err: errFull, Times: 1}},
		"no result":               {store: wrong{Point: "commit snapshot ready", Err: errFull, Times: 1}},
		"result in doubt":         {store: wrong{Point: "commit snapshot ready", Err: errDisk, Applied: true, Blinds: true, Times: 1}, later: true},
		"intent in doubt":         {store: wrong{Point: "commit snapshot creating", Err: errDisk, Applied: true, Blinds: true, Times: 1}, later: true},
		"cannot be forgotten":     {faults: []fake.Fault{{Op: sandboxer.OpSnapshot, Err: errBad, Times: 1}}, store: wrong{Point: "commit drop", Err: errFull, Times: 1}, later: true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapSnapshot)
				m := w.open()
				sb := created(t, m, ask("a"))
				for _, f := range c.faults {
					w.backend.Fail(f)
				}
				if c.store.Point != "" {
					w.store.fail(c.store)
				}
				_, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"})
				if err == nil {
					t.Fatal("no error")
				}
				if c.later {
					pass(time.Second)
					w.store.heal()
					pass(10 * time.Minute)
				}
				w.wantLive("a")
				if got := snapshots(t, m, manager.Filter{}); len(got) > 0 {
					t.Errorf("on record: %v", got)
				}
				if _, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"}); err != nil {
					t.Errorf("a second time: %v", err)
				}
			})
		})
	}
}

// TestSnapshotExpires: a snapshot is deleted when its time is over, and again until that succeeds.
func TestSnapshotExpires(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot)
		m := w.open()
		sb := created(t, m, ask("a"))
		for _, id := range []string{"snap", "forever"} {
			req := sandboxer.SnapshotRequest{ID: id}
			if id == "snap" {
				req.ExpiresAt = time.Now().Add(10 * time.Minute)
			}
			if _, err := sb.Snapshot(context.Background(), req); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = w.open()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpDeleteSnapshot, Err: errLost})
		w.store.fail(wrong{Point: "commit snapshot deleting", Err: errFull, Times: 1})
		pass(10*time.Minute - time.Second)
		w.wantLive("a", "snapshot/forever", "snapshot/snap")
		pass(20 * time.Second)
		if diff := cmp.Diff([]string{"forever ready", "snap deleting"}, snapshots(t, m, manager.Filter{})); diff != "" {
			t.Errorf("on record (-want +got):\n%s", diff)
		}
		w.backend.Heal()
		pass(10 * time.Minute)
		w.wantLive("a", "snapshot/forever")
	})
}

// TestSnapshotInUse: one that is being restored or sent is not deleted below it, not even when its time is over.
func TestSnapshotInUse(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapSnapshot)
		m := w.open()
		ctx := context.Background()
		sb := created(t, m, ask("a"))
		if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap", ExpiresAt: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpRestore, Delay: 2 * time.Minute, Times: 1})
		done := make(chan error, 1)
		go func() {
			req := ask("b")
			req.FromSnapshot = "snap"
			_, err := m.Create(ctx, req)
			done <- err
		}()
		pass(time.Second)
		err := m.DeleteSnapshot(ctx, "snap")
		wantCode(t, err, sandboxer.FailedPrecondition)
		wantText(t, err, "being restored")
		pass(90 * time.Second)
		w.wantLive("a", "snapshot/snap")
		if err := <-done; err != nil {
			t.Error(err)
		}
		pass(time.Minute)
		w.wantLive("a", "b")
	})
}

// TestTransferFails: a copy that did not arrive whole leaves nothing, and the original as it was.
func TestTransferFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fake.Fault{
		"export":        {Op: sandboxer.OpExportSnapshot, Err: errBusy},
		"import":        {Op: sandboxer.OpImportSnapshot, Err: errBusy},
		"import, lost":  {Op: sandboxer.OpImportSnapshot, Err: errLost, Effect: fake.After},
		"export, later": {Op: sandboxer.OpExportSnapshot, Err: errLost, Effect: fake.After},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapSnapshot, sandboxer.CapSnapshotTransfer, sandboxer.CapFiles).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2"})
				m := w.open()
				sb := created(t, m, ask("a"))
				if err := sb.CopyIn(context.Background(), "", fstest.MapFS{"f": {Data: make([]byte, 1<<20)}}); err != nil {
					t.Fatal(err)
				}
				snap, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{ID: "snap"})
				if err != nil {
					t.Fatal(err)
				}
				to := map[string]string{"h1": "h2", "h2": "h1"}[snap.Host]
				fault.Times = 1
				w.backend.Fail(fault)
				_, err = m.TransferSnapshot(context.Background(), "snap", to)
				if !errors.Is(err, fault.Err) {
					t.Errorf("%v is not %v", err, fault.Err)
				}
				pass(time.Minute)
				w.wantLive("a", "snapshot/snap")
				if _, err := m.TransferSnapshot(context.Background(), "snap", to); err != nil {
					t.Errorf("a second time: %v", err)
				}
			})
		})
	}
}
