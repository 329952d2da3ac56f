package adaptertest

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func transferChecks() []check {
	needs := []sandboxer.Capability{sandboxer.CapSnapshot, sandboxer.CapSnapshotTransfer}
	return []check{{
		name: "transfer/round-trip", needs: needs,
		rule: "what ExportSnapshot wrote ImportSnapshot stores, and it restores to the same",
		why:  "it is how work moves to another host when the first is full",
		run: func(t *trial) {
			b := t.newBox()
			if t.s.can(sandboxer.CapFiles) {
				t.copyIn(b, "kept", sampleTree())
			}
			s, bytesOf := t.exported(b)
			to := t.importing(s)
			got, err := t.importSnapshot(to, bytes.NewReader(bytesOf))
			t.ok("ImportSnapshot", err)
			if got.ID != to.ID || got.Digest != s.Digest {
				t.broken("ImportSnapshot of %s with the digest %s returned %s", to.ID, s.Digest, jsonOf(got))
			}
			if len(t.shown(to.ID)) != 1 {
				t.broken("ListSnapshots does not show what was imported")
			}
			x, req := t.snapper(), t.newRequest()
			t.sweep(req)
			h, err := do(t, "Restore", func(ctx context.Context) (sandboxer.Handle, error) { return x.Restore(ctx, req, got) })
			t.ok("Restore of what was imported", err)
			if t.s.can(sandboxer.CapFiles) {
				copied := &box{name: req.Name, ext: t.s.one.spy.Extension, req: req, target: targetOf(req, h)}
				_, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) {
					return copied.ext.WaitReady(ctx, copied.target)
				})
				t.ok("WaitReady", err)
				if diff := diffTrees(t.copyOut(b, "kept"), t.copyOut(copied, "kept")); diff != "" {
					t.broken("what was restored from the copy differs: %s", diff)
				}
			}
		},
	}, {
		name: "transfer/verified", needs: needs,
		rule: "ImportSnapshot verifies the digest before the snapshot is visible",
		why:  "networks and disks change bytes: a snapshot that is damaged must not look like one that is whole",
		run: func(t *trial) {
			b := t.newBox()
			s, whole := t.exported(b)
			if s.Digest == "" {
				t.broken("the snapshot can be exported, and has no digest to verify it by")
			}
			damaged := bytes.Clone(whole)
			damaged[len(damaged)/2] ^= 0x40
			for what, stream := range map[string][]byte{"a changed byte": damaged, "half of the stream": whole[:len(whole)/2], "nothing": nil} {
				to := t.importing(s)
				_, err := t.importSnapshot(to, bytes.NewReader(stream))
				if err == nil {
					t.broken("ImportSnapshot with %s succeeded", what)
				}
				if len(t.snapshotsCalled(to.ID)) > 0 {
					t.broken("after an ImportSnapshot with %s, which failed, the snapshot is listed", what)
				}
			}
		},
	}}
}

// exported takes a snapshot and its bytes.
func (t *trial) exported(b *box) (sandboxer.Snapshot, []byte) {
	t.Helper()
	s := t.snapshot(b)
	x := t.transferer()
	var out bytes.Buffer
	_, err := do(t, "ExportSnapshot", only(func(ctx context.Context) error { return x.ExportSnapshot(ctx, t.subject(s, false), &out) }))
	t.ok("ExportSnapshot", err)
	return s, out.Bytes()
}

// importing is the snapshot that a copy of s is to become; it is deleted at the end of the trial.
func (t *trial) importing(s sandboxer.Snapshot) sandboxer.Snapshot {
	t.Helper()
	to := s
	to.ID, to.Status, to.State, to.CreatedAt = snapshotID(), sandboxer.SnapshotImporting, nil, time.Now().UTC()
	target, x := t.subject(to, true), t.snapper()
	t.Cleanup(func() {
		err := t.certain(func() error {
			_, err := do(t, "DeleteSnapshot", only(func(ctx context.Context) error { return x.DeleteSnapshot(ctx, target) }))
			return err
		})
		if err != nil && !t.Failed() {
			t.Errorf("DeleteSnapshot of a copy failed: %v", err)
		}
	})
	return to
}

func (t *trial) importSnapshot(to sandboxer.Snapshot, r io.Reader) (sandboxer.Snapshot, error) {
	t.Helper()
	x := t.transferer()
	return do(t, "ImportSnapshot", func(ctx context.Context) (sandboxer.Snapshot, error) {
		return x.ImportSnapshot(ctx, t.subject(to, false), r)
	})
}

func (t *trial) transferer() sandboxer.SnapshotTransferer {
	t.Helper()
	x, ok := sandboxer.As[sandboxer.SnapshotTransferer](t.s.one.spy)
	if !ok {
		t.Fatal("the extension is no SnapshotTransferer")
	}
	return x
}
