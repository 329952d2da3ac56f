package adaptertest

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func needsSnapshot() []sandboxer.Capability { return []sandboxer.Capability{sandboxer.CapSnapshot} }

func snapshotID() string { return "snap-" + string(sandboxer.NewID())[len("sbx-"):] }

func (t *trial) snapper() sandboxer.Snapshotter {
	t.Helper()
	x, ok := sandboxer.As[sandboxer.Snapshotter](t.s.one.spy)
	if !ok {
		t.Fatal("the extension is no Snapshotter")
	}
	return x
}

// snapshot takes one through the Manager and deletes it at the end of the trial.
func (t *trial) snapshot(b *box) sandboxer.Snapshot {
	t.Helper()
	s, err := do(t, "Sandbox.Snapshot", func(ctx context.Context) (sandboxer.Snapshot, error) {
		return b.sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: snapshotID(), Name: "conformance", Labels: map[string]string{"purpose": "test"}})
	})
	t.ok("Sandbox.Snapshot", err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.s.cfg.Within)
		defer cancel()
		err := t.s.one.m.DeleteSnapshot(ctx, s.ID)
		if err != nil && sandboxer.CodeOf(err) != sandboxer.NotFound && !t.Failed() {
			t.Errorf("DeleteSnapshot failed: %v", err)
		}
	})
	return s
}

// subject is the target of calls about s. bare leaves only what the intent knew.
func (t *trial) subject(s sandboxer.Snapshot, bare bool) sandboxer.SnapshotTarget {
	if bare {
		s = sandboxer.Snapshot{
			ID: s.ID, Extension: s.Extension, Host: s.Host, Source: s.Source, Status: sandboxer.SnapshotDeleting, Consumer: s.Consumer, Payer: s.Payer, Labels: s.Labels,
		}
	}
	return sandboxer.SnapshotTarget{Snapshot: s, Host: t.s.host, Consumer: s.Consumer, Secret: t.shared().req.Secret}
}

func (t *trial) deleteSnapshot(what string, target sandboxer.SnapshotTarget) {
	t.Helper()
	x := t.snapper()
	t.ok(what, t.certain(func() error {
		_, err := do(t, what, only(func(ctx context.Context) error { return x.DeleteSnapshot(ctx, target) }))
		return err
	}))
}

// noSnapshot breaks the rule where a snapshot exists, as the listing and Config.Live see it.
func (t *trial) noSnapshot(id, after string) {
	t.Helper()
	var left []string
	if !t.settled(func() bool {
		left = containing(t.s.liveNames(t), id)
		for range t.snapshotsCalled(id) {
			left = append(left, "listed: "+id)
		}
		return len(left) == 0
	}) {
		t.broken("after %s these exist: %q", after, left)
	}
}

// shown is what the listing shows of a snapshot, once it shows anything.
func (t *trial) shown(id string) (out []sandboxer.Snapshot) {
	t.Helper()
	t.poll(func() bool { out = t.snapshotsCalled(id); return len(out) > 0 })
	return out
}

func snapshotChecks() []check {
	both := []sandboxer.Capability{sandboxer.CapSnapshot, sandboxer.CapFiles}
	return []check{{
		name: "snapshot/round-trip", needs: both,
		rule: "a restored sandbox holds exactly what the other one held when its snapshot was taken",
		why:  "a snapshot that lost data is found out on the day that it is needed",
		run: func(t *trial) {
			b := t.newBox()
			want := append(sampleTree(), file("big", 0o644, noise(2<<20)), file("two\nlines 'quoted'", 0o644, []byte("x")))
			t.copyIn(b, "kept", want)
			before := t.copyOut(b, "kept")
			s := t.snapshot(b)
			t.copyIn(b, "kept", []entry{file("later", 0o644, []byte("after the snapshot")), file("binary", 0o644, []byte("changed"))})
			again, err := t.create(sandboxer.CreateRequest{FromSnapshot: s.ID})
			t.ok("Create from a snapshot", err)
			if diff := diffTrees(before, t.copyOut(again, "kept")); diff != "" {
				t.broken("the restored sandbox differs from the one that the snapshot was taken of: %s", diff)
			}
		},
	}, {
		name: "snapshot/restore", needs: needsSnapshot(),
		rule: "Restore creates under Provision's rules: idempotent by Name, found and torn down by it",
		why:  "its reply can be lost as well",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			x, req := t.snapper(), t.newRequest()
			t.sweep(req)
			restore := func(s sandboxer.Snapshot) (sandboxer.Handle, error) {
				return do(t, "Restore", func(ctx context.Context) (sandboxer.Handle, error) { return x.Restore(ctx, req, s) })
			}
			h, err := restore(s)
			t.ok("Restore", err)
			if h.Ref() != req.Ref() || !h.HasState() {
				t.broken("Restore for %+v returned the handle %s", req.Ref(), jsonOf(h))
			}
			before := t.existing(req.Name)
			for range 2 {
				again, err := restore(s)
				t.ok("Restore of a name that exists", err)
				if again != h {
					t.broken("Restore returned %s, and then %s", jsonOf(h), jsonOf(again))
				}
			}
			if after := t.existing(req.Name); !sameNumber(before, after) {
				t.broken("Restore was called three times, and now these exist: %q; after the first call they were %q", after, before)
			}
			if t.s.can(sandboxer.CapFind) {
				found, err := t.find(req)
				t.ok("Find of what Restore made", err)
				if found != h {
					t.broken("Find returned %s; Restore had returned %s", jsonOf(found), jsonOf(h))
				}
			}
			t.teardownOf(t.s.one.spy.Extension, byName(req), "Teardown by name of what Restore made")
			t.gone(req.Name, "Teardown by name of what Restore made")
		},
	}, {
		name: "snapshot/idempotent", needs: needsSnapshot(),
		rule: "Snapshot again under the same ID returns the same snapshot",
		why:  "a call whose reply was lost is repeated: a second snapshot would be stored, unknown and paid for",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			if t.s.can(sandboxer.CapFiles) {
				t.copyIn(b, "later", []entry{file("f", 0o644, []byte("after the snapshot"))})
			}
			x := t.snapper()
			for range 2 {
				again, err := do(t, "Snapshot", func(ctx context.Context) (sandboxer.Snapshot, error) {
					return x.Snapshot(ctx, b.target, sandboxer.SnapshotRequest{ID: s.ID, Name: s.Name, Labels: s.Labels})
				})
				t.ok("Snapshot of an ID that exists", err)
				if again.ID != s.ID || again.Digest != s.Digest || !bytes.Equal(again.State, s.State) {
					t.broken("Snapshot of an ID that exists returned another: %s, and first %s", jsonOf(again), jsonOf(s))
				}
			}
			if all := t.shown(s.ID); len(all) != 1 {
				t.broken("Snapshot was called three times with one ID, and ListSnapshots shows it %d times", len(all))
			}
			if t.s.cfg.Live != nil {
				if all := containing(t.s.liveNames(t), s.ID); len(all) > 1 {
					t.broken("Snapshot was called three times with one ID, and these exist: %q", all)
				}
			}
		},
	}, {
		name: "snapshot/listed", needs: needsSnapshot(),
		rule: "ListSnapshots yields all snapshots with their owner, their age and what they are",
		why:  "snapshots cost money too, and none may be lost",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			all := t.shown(s.ID)
			if len(all) != 1 {
				t.broken("ListSnapshots shows a snapshot %d times", len(all))
			}
			got := all[0]
			if k := sandboxer.LabelOwner; got.Labels[k] != s.Labels[k] {
				t.broken("ListSnapshots shows the label %s = %q; the snapshot was taken with %q", k, got.Labels[k], s.Labels[k])
			}
			if age := time.Since(got.CreatedAt); got.CreatedAt.IsZero() || age < -10*time.Minute || age > time.Hour {
				t.broken("ListSnapshots says that the snapshot was taken at %v", got.CreatedAt)
			}
			if got.Digest != s.Digest || got.SizeBytes != s.SizeBytes || got.Kind != s.Kind {
				t.broken("ListSnapshots shows %s; Snapshot had returned %s", jsonOf(got), jsonOf(s))
			}
			if s.Digest != "" && !strings.HasPrefix(s.Digest, "sha256:") {
				t.broken("the digest is %q; it is written as sha256:…", s.Digest)
			}
		},
	}, {
		name: "snapshot/labels", needs: needsSnapshot(),
		rule: "ListSnapshots yields snapshots with the labels that they were taken with",
		why:  "what no record knows of any more is told by its labels: whose it was, and what for",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			for _, got := range t.shown(s.ID) {
				for _, k := range []string{sandboxer.LabelID, "purpose"} {
					if got.Labels[k] != s.Labels[k] {
						t.broken("ListSnapshots shows the label %s = %q; the snapshot was taken with %q", k, got.Labels[k], s.Labels[k])
					}
				}
			}
		},
	}, {
		name: "snapshot/outlives", needs: needsSnapshot(),
		rule: "a snapshot outlives the sandbox that it was taken of",
		why:  "that is what it is for",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			_, err := do(t, "Sandbox.Teardown", b.sb.Teardown)
			t.ok("Sandbox.Teardown", err)
			if len(t.shown(s.ID)) != 1 {
				t.broken("after the Teardown of its sandbox the snapshot is gone")
			}
			_, err = t.create(sandboxer.CreateRequest{FromSnapshot: s.ID})
			t.ok("Create from a snapshot whose sandbox is gone", err)
		},
	}, {
		name: "snapshot/delete", needs: needsSnapshot(),
		rule: "DeleteSnapshot removes it; gone already is success",
		why:  "what is deleted and still stored is paid for and never seen again; a deletion whose reply was lost is repeated",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			for _, what := range []string{"DeleteSnapshot", "DeleteSnapshot of what is gone", "DeleteSnapshot of what is gone"} {
				t.deleteSnapshot(what, t.subject(s, false))
				t.noSnapshot(s.ID, what)
			}
			x, req := t.snapper(), t.newRequest()
			t.sweep(req)
			_, err := do(t, "Restore", func(ctx context.Context) (sandboxer.Handle, error) { return x.Restore(ctx, req, s) })
			if err == nil {
				t.broken("Restore of a snapshot that was deleted succeeded")
			}
			t.gone(req.Name, "Restore of a snapshot that was deleted")
		},
	}, {
		name: "snapshot/delete-by-id", needs: needsSnapshot(),
		rule: "without State DeleteSnapshot looks by ID, and finds nothing where nothing is",
		why:  "when the reply of Snapshot is lost the ID is all that is known of what it stored",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			t.deleteSnapshot("DeleteSnapshot without State", t.subject(s, true))
			t.noSnapshot(s.ID, "DeleteSnapshot without State")
			s.ID = snapshotID()
			t.deleteSnapshot("DeleteSnapshot of an ID that never existed", t.subject(s, true))
		},
	}, {
		name: "snapshot/second-instance", needs: needsSnapshot(),
		rule: "a snapshot can be used with any instance of the adapter over the same backend",
		why:  "it outlives the process that took it",
		run: func(t *trial) {
			b := t.newBox()
			s := t.snapshot(b)
			second, ok := sandboxer.As[sandboxer.Snapshotter](t.s.two.spy)
			if !ok {
				t.broken("the second instance is no Snapshotter")
			}
			req := t.newRequest()
			t.sweep(req)
			_, err := do(t, "Restore", func(ctx context.Context) (sandboxer.Handle, error) { return second.Restore(ctx, req, s) })
			t.ok("Restore through a second instance", err)
			// Many backends keep a snapshot for as long as a sandbox uses it.
			t.teardownOf(t.s.two.spy.Extension, byName(req), "Teardown of what a second instance restored")
			_, err = do(t, "DeleteSnapshot", only(func(ctx context.Context) error { return second.DeleteSnapshot(ctx, t.subject(s, false)) }))
			t.ok("DeleteSnapshot through a second instance", err)
			t.noSnapshot(s.ID, "DeleteSnapshot through a second instance")
		},
	}}
}
