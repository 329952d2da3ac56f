package manager_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// movable is an extension whose hosts can send snapshots to each other, when err is nil.
type movable struct {
	sandboxer.Extension
	err   error
	moved *int
}

func (x movable) Unwrap() sandboxer.Extension { return x.Extension }

func (x movable) MoveSnapshot(ctx context.Context, from, to sandboxer.SnapshotTarget) (sandboxer.Snapshot, error) {
	*x.moved++
	if x.err != nil {
		return sandboxer.Snapshot{}, x.err
	}
	t, _ := sandboxer.As[sandboxer.SnapshotTransferer](x.Extension)
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(t.ExportSnapshot(ctx, from, w)) }()
	return t.ImportSnapshot(ctx, to, r)
}

// TestMoveSnapshot: hosts are asked first, a refusal that says Unsupported leads to the relay, and nothing else does.
func TestMoveSnapshot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		code    sandboxer.Code
		relayed int
	}{
		"they can":             {},
		"they cannot":          {err: sandboxer.Refused(sandboxer.Unsupported, errors.New("no trust")), relayed: 1},
		"lost":                 {err: sandboxer.Mark(sandboxer.Unavailable, errors.New("lost")), code: sandboxer.Unavailable},
		"unsupported, perhaps": {err: sandboxer.Mark(sandboxer.Unsupported, errors.New("half")), code: sandboxer.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapSnapshot, sandboxer.CapSnapshotTransfer, sandboxer.CapFiles).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2"})
				moved := 0
				a := w.backend.Adapter(w.caps...)
				build := a.New
				a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
					ext, err := build(ctx, s)
					return movable{ext, c.err, &moved}, err
				}
				w.adapters = []sandboxer.Adapter{a}
				m := w.open()
				ctx := t.Context()
				sb, err := m.Create(ctx, sandboxer.CreateRequest{Profile: "profile.fake", Host: "h1", Consumer: sandboxer.Consumer{ID: "test"}})
				if err != nil {
					t.Fatal(err)
				}
				snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := m.TransferSnapshot(ctx, snap.ID, "h2")
				if sandboxer.CodeOf(err) != c.code || err == nil && got.Digest != snap.Digest {
					t.Errorf("%+v, %v", got, err)
				}
				if exports := w.backend.Count(sandboxer.OpExportSnapshot); moved != 1 || c.err != nil && exports != c.relayed {
					t.Errorf("asked %d times, relayed %d times", moved, exports)
				}
			})
		})
	}
}
