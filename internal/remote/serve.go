package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// Handler serves extensions: POST /<extension id>/<op>.
func Handler(extensions map[string]sandboxer.Extension) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, op, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		ext, ok := extensions[id]
		if !ok {
			http.NotFound(w, r)
			return
		}
		var req request
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// The backend goes on with a call whose caller has died: that is the point of it.
		out, err := dispatch(context.WithoutCancel(r.Context()), ext, sandboxer.Op(op), &req)
		out.Failed = failed(err)
		_ = json.NewEncoder(w).Encode(out)
	})
}

func dispatch(ctx context.Context, ext sandboxer.Extension, op sandboxer.Op, req *request) (out reply, err error) {
	switch op {
	case sandboxer.OpProvision:
		out.Handle, err = ext.Provision(ctx, req.Provision.request())
	case sandboxer.OpWaitReady:
		out.Reach, err = ext.WaitReady(ctx, req.Target.target())
	case sandboxer.OpTeardown:
		out.Report, err = ext.Teardown(ctx, req.Target.target())
	case sandboxer.OpFind:
		x, _ := sandboxer.As[sandboxer.Finder](ext)
		out.Handle, err = x.Find(ctx, req.Provision.request(), req.When)
	case sandboxer.OpInspect:
		x, _ := sandboxer.As[sandboxer.Inspector](ext)
		out.Instance, err = x.Inspect(ctx, req.Target.target())
	case sandboxer.OpExtend:
		x, _ := sandboxer.As[sandboxer.Extender](ext)
		out.When, err = x.Extend(ctx, req.Target.target(), req.When)
	case sandboxer.OpPause:
		x, _ := sandboxer.As[sandboxer.Pauser](ext)
		err = x.Pause(ctx, req.Target.target())
	case sandboxer.OpResume:
		x, _ := sandboxer.As[sandboxer.Pauser](ext)
		out.Reach, err = x.Resume(ctx, req.Target.target())
	case sandboxer.OpEstimateCost:
		x, _ := sandboxer.As[sandboxer.Meterer](ext)
		out.Quote, err = x.EstimateCost(ctx, *req.Profile, req.For)
	case sandboxer.OpMeterActual:
		x, _ := sandboxer.As[sandboxer.Meterer](ext)
		out.Reading, err = x.MeterActual(ctx, req.Target.target())
	case sandboxer.OpSnapshotCost:
		x, _ := sandboxer.As[sandboxer.SnapshotPricer](ext)
		out.Lines, err = x.SnapshotCost(ctx, *req.Snapshot, req.When, req.Until)
	case sandboxer.OpList:
		x, _ := sandboxer.As[sandboxer.Lister](ext)
		for in, listErr := range x.List(ctx, sandboxer.ListQuery{Host: req.Host, Labels: req.Labels}) {
			if listErr != nil {
				return out, listErr
			}
			out.Instances = append(out.Instances, in)
		}
	case sandboxer.OpPreflight:
		x, _ := sandboxer.As[sandboxer.Preflighter](ext)
		err = x.Preflight(ctx, req.Provision.request())
	case sandboxer.OpExec, sandboxer.OpCopyIn, sandboxer.OpCopyOut, sandboxer.OpExpose, sandboxer.OpDial, sandboxer.OpSync:
		return dispatchUse(ctx, ext, op, req)
	default:
		return dispatchSnapshot(ctx, ext, op, req)
	}
	return out, err
}

func dispatchUse(ctx context.Context, ext sandboxer.Extension, op sandboxer.Op, req *request) (out reply, err error) {
	t := req.Target.target()
	var buf bytes.Buffer
	switch op {
	case sandboxer.OpExec:
		x, _ := sandboxer.As[sandboxer.Executor](ext)
		out.Exec, err = x.Exec(ctx, t, sandboxer.ExecRequest{Command: req.Command, Stdout: &buf})
	case sandboxer.OpCopyIn:
		x, _ := sandboxer.As[sandboxer.FileTransferer](ext)
		err = x.CopyIn(ctx, t, req.Path, bytes.NewReader(req.Bytes))
	case sandboxer.OpCopyOut:
		x, _ := sandboxer.As[sandboxer.FileTransferer](ext)
		err = x.CopyOut(ctx, t, req.Path, &buf)
	case sandboxer.OpSync:
		x, _ := sandboxer.As[sandboxer.Syncer](ext)
		err = unpacked(ctx, req.Bytes, func(src fs.FS) error { return x.Sync(ctx, t, req.Path, src) })
	case sandboxer.OpExpose:
		x, _ := sandboxer.As[sandboxer.Exposer](ext)
		out.Endpoint, err = x.Expose(ctx, t, req.Port)
	default:
		err = unknownOp(string(op))
	}
	out.Bytes = buf.Bytes()
	return out, err
}

// unpacked calls f with the tree that a tar stream holds.
func unpacked(ctx context.Context, tar []byte, f func(fs.FS) error) (err error) {
	dir, err := os.MkdirTemp("", "remote-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what it holds is removed
	if _, err := archive.Extract(ctx, bytes.NewReader(tar), root, archive.ExtractOptions{}); err != nil {
		return err
	}
	return f(root.FS())
}

func dispatchSnapshot(ctx context.Context, ext sandboxer.Extension, op sandboxer.Op, req *request) (out reply, err error) {
	x, _ := sandboxer.As[sandboxer.Snapshotter](ext)
	switch op {
	case sandboxer.OpSnapshot:
		out.Snapshot, err = x.Snapshot(ctx, req.Target.target(), *req.Take)
	case sandboxer.OpRestore:
		out.Handle, err = x.Restore(ctx, req.Provision.request(), *req.Snapshot)
	case sandboxer.OpDeleteSnapshot:
		err = x.DeleteSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: *req.Snapshot, Host: req.Host})
	case sandboxer.OpListSnapshots:
		for s, listErr := range x.ListSnapshots(ctx, sandboxer.ListQuery{Host: req.Host, Labels: req.Labels}) {
			if listErr != nil {
				return out, listErr
			}
			out.Snapshots = append(out.Snapshots, s)
		}
	case sandboxer.OpExportSnapshot:
		var buf bytes.Buffer
		mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](ext)
		err = mover.ExportSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: *req.Snapshot, Host: req.Host}, &buf)
		out.Bytes = buf.Bytes()
	case sandboxer.OpImportSnapshot:
		mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](ext)
		out.Snapshot, err = mover.ImportSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: *req.Snapshot, Host: req.Host}, bytes.NewReader(req.Bytes))
	case opMove:
		var buf bytes.Buffer
		mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](ext)
		if err = mover.ExportSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: *req.Snapshot, Host: req.Host}, &buf); err == nil {
			out.Snapshot, err = mover.ImportSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: *req.To, Host: req.ToHost}, &buf)
		}
	default:
		err = unknownOp(string(op))
	}
	return out, err
}
