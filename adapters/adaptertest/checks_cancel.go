package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

const whyCancel = "callers give up, and programs are stopped: what goes on behind their backs costs money, and holds connections"

func cancelChecks() []check {
	return []check{{
		name: "cancel/before",
		rule: "a call whose context has ended returns, and one that would change or begin something fails with it and does nothing",
		why:  whyCancel,
		run: func(t *trial) {
			b := t.newBox()
			req := t.newRequest()
			t.sweep(req)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			for _, c := range t.calls(b, req) {
				_, err := doCtx(ctx, t, c.name, only(c.call))
				if c.reads {
					continue // a look at what is in memory harms nobody
				}
				if err == nil {
					t.broken("%s succeeded although its context had ended", c.name)
				}
				if !errors.Is(err, context.Canceled) {
					t.broken("%s failed under a cancelled context with code %q instead of canceled: %v", c.name, sandboxer.CodeOf(err), err)
				}
			}
			t.gone(req.Name, "a Provision whose context had ended")
		},
	}, {
		name: "cancel/create",
		rule: "a create that is cancelled leaves nothing, at whatever step it is",
		why:  whyCancel,
		run: func(t *trial) {
			usual := t.shared().took
			for _, step := range []struct {
				op    sandboxer.Op
				after time.Duration
			}{
				{sandboxer.OpProvision, 0}, {sandboxer.OpProvision, usual.provision / 2},
				{sandboxer.OpWaitReady, 0}, {sandboxer.OpWaitReady, usual.ready / 2},
			} {
				t.cancelCreate(step.op, step.after)
			}
		},
	}, {
		name: "cancel/teardown",
		rule: "a Teardown that is cancelled can be repeated, and then leaves nothing",
		why:  "programs are stopped in the middle of it",
		run: func(t *trial) {
			b := t.newBox()
			ctx, cancel := context.WithCancel(context.Background())
			stop := time.AfterFunc(2*time.Millisecond, cancel)
			defer stop.Stop()
			defer cancel()
			_, err := doCtx(ctx, t, "Teardown", func(ctx context.Context) (sandboxer.CleanupReport, error) { return b.ext.Teardown(ctx, b.target) })
			if err == nil {
				t.gone(b.name, "a Teardown that was quicker than its cancellation")
			}
			t.teardown(b)
			t.gone(b.name, "a Teardown that was cancelled, and another")
		},
	}, {
		name:  "cancel/copy",
		needs: []sandboxer.Capability{sandboxer.CapFiles},
		rule:  "a copy ends with its context",
		why:   "invariant: every wait on a network or a process ends with its context, whatever the peer does",
		run: func(t *trial) {
			b := t.shared()
			files, _ := sandboxer.As[sandboxer.FileTransferer](b.ext)
			name, stop := t.s.unique("cancelled"), make(chan struct{})
			t.Cleanup(func() { close(stop) })
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err := doCtx(ctx, t, "CopyIn", only(func(ctx context.Context) error {
				return files.CopyIn(ctx, b.target, name, &endless{stop: stop, head: bytes.NewReader(hugeHeader())})
			}))
			if err == nil || !errors.Is(err, context.Canceled) {
				t.broken("CopyIn of an endless stream, when it was cancelled, returned %v", err)
			}
		},
	}, {
		name:  "cancel/snapshot",
		needs: []sandboxer.Capability{sandboxer.CapSnapshot},
		rule:  "a Snapshot that is cancelled leaves nothing",
		why:   whyCancel,
		run: func(t *trial) {
			b := t.newBox()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			t.s.one.hooks.on(sandboxer.OpSnapshot, b.id, func(ctx context.Context, _ sandboxer.Call, next func(context.Context) error) error {
				time.AfterFunc(time.Millisecond, cancel)
				return next(ctx)
			})
			id := snapshotID()
			_, err := doCtx(ctx, t, "Snapshot", func(ctx context.Context) (sandboxer.Snapshot, error) {
				return b.sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: id})
			})
			if err == nil {
				_, err := do(t, "DeleteSnapshot", only(func(ctx context.Context) error { return t.s.one.m.DeleteSnapshot(ctx, id) }))
				t.ok("DeleteSnapshot", err)
			}
			t.noSnapshot(id, "a Snapshot that was cancelled")
		},
	}}
}

// cancelCreate cancels a create some time after the Manager begins to call op.
func (t *trial) cancelCreate(op sandboxer.Op, after time.Duration) {
	t.Helper()
	id := sandboxer.NewID()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.s.one.hooks.on(op, id, func(ctx context.Context, _ sandboxer.Call, next func(context.Context) error) error {
		if after > 0 {
			time.AfterFunc(after, cancel)
			return next(ctx)
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(t.s.cfg.Within):
		}
		return next(ctx)
	})
	sb, err := doCtx(ctx, t, "Create", func(ctx context.Context) (*manager.Sandbox, error) {
		return t.s.one.m.Create(ctx, sandboxer.CreateRequest{ID: id, Profile: t.s.profile.ID, Consumer: t.s.consumer()})
	})
	what := "a Create that was cancelled during " + string(op)
	var orphan *sandboxer.OrphanError
	switch {
	case err == nil: // it was quicker
		_, err := do(t, "Sandbox.Teardown", sb.Teardown)
		t.ok("Sandbox.Teardown", err)
	case errors.As(err, &orphan) && errors.Is(orphan.Cleanup, sandboxer.Unknown): // a backend that shows late what exists
		t.poll(func() bool { return len(t.existing(string(id))) == 0 })
	case errors.As(err, &orphan):
		t.broken("%s could not be cleaned up: %v", what, err)
	case !errors.Is(err, context.Canceled):
		t.broken("%s failed with code %q instead of canceled: %v", what, sandboxer.CodeOf(err), err)
	}
	t.gone(string(id), what)
}

type call struct {
	name  string
	reads bool
	call  func(context.Context) error
}

// calls are all calls of the extension, about b, and about a new sandbox where they would create one.
func (t *trial) calls(b *box, req *sandboxer.ProvisionRequest) []call {
	out := []call{
		{"Provision", false, func(ctx context.Context) error { _, err := b.ext.Provision(ctx, req); return err }},
		{"WaitReady", false, func(ctx context.Context) error { _, err := b.ext.WaitReady(ctx, b.target); return err }},
	}
	add := func(name string, f func(context.Context) error) { out = append(out, call{name, false, f}) }
	look := func(name string, f func(context.Context) error) { out = append(out, call{name, true, f}) }
	if x, ok := sandboxer.As[sandboxer.Finder](b.ext); ok {
		look("Find", func(ctx context.Context) error { _, err := x.Find(ctx, req, time.Now()); return err })
	}
	if x, ok := sandboxer.As[sandboxer.Lister](b.ext); ok {
		look("List", func(ctx context.Context) error {
			for _, err := range x.List(ctx, t.query(t.s.one)) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if x, ok := sandboxer.As[sandboxer.Inspector](b.ext); ok {
		look("Inspect", func(ctx context.Context) error { _, err := x.Inspect(ctx, b.target); return err })
	}
	if x, ok := sandboxer.As[sandboxer.Executor](b.ext); ok {
		add("Exec", func(ctx context.Context) error {
			_, err := x.Exec(ctx, b.target, sandboxer.ExecRequest{Command: t.script("exit 0")})
			return err
		})
	}
	if x, ok := sandboxer.As[sandboxer.FileTransferer](b.ext); ok {
		add("CopyIn", func(ctx context.Context) error {
			return x.CopyIn(ctx, b.target, "cancelled", bytes.NewReader(tarOf(t)))
		})
		add("CopyOut", func(ctx context.Context) error { return x.CopyOut(ctx, b.target, ".", io.Discard) })
	}
	if x, ok := sandboxer.As[sandboxer.Syncer](b.ext); ok {
		add("Sync", func(ctx context.Context) error { return x.Sync(ctx, b.target, "cancelled", fsOf(sampleTree())) })
	}
	if x, ok := sandboxer.As[sandboxer.Snapshotter](b.ext); ok {
		add("Snapshot", func(ctx context.Context) error {
			_, err := x.Snapshot(ctx, b.target, sandboxer.SnapshotRequest{ID: snapshotID(), Labels: b.req.Labels})
			return err
		})
	}
	if x, ok := sandboxer.As[sandboxer.Meterer](b.ext); ok {
		look("MeterActual", func(ctx context.Context) error { _, err := x.MeterActual(ctx, b.target); return err })
	}
	if x, ok := sandboxer.As[sandboxer.Extender](b.ext); ok {
		add("Extend", func(ctx context.Context) error {
			_, err := x.Extend(ctx, b.target, time.Now().Add(2*time.Hour))
			return err
		})
	}
	if x, ok := sandboxer.As[sandboxer.Pauser](b.ext); ok {
		add("Pause", func(ctx context.Context) error { return x.Pause(ctx, b.target) })
	}
	return out
}

// endless is a stream that goes on for as long as anybody reads, slowly; it does not know of contexts. It ends with the
// trial, so that no goroutine stays.
type endless struct {
	stop chan struct{}
	head io.Reader
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.head.Read(p); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-e.stop:
		return 0, io.ErrUnexpectedEOF
	case <-time.After(5 * time.Millisecond):
	}
	n := min(len(p), 16<<10)
	clear(p[:n])
	return n, nil
}
