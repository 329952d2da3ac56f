package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// Adapter is the near side: its extensions are served at base ("http://127.0.0.1:8080") under their own ids, and offer
// caps. With "checkpoint: true" in its config an extension stores its handle before Provision returns, and with "move: true"
// its hosts send snapshots to each other.
func Adapter(handler, base string, caps ...sandboxer.Capability) sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler: handler,
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			steps, _ := s.Config["checkpoint"].(bool)
			moves, _ := s.Config["move"].(bool)
			return &extension{url: base + "/" + s.ExtensionID + "/", caps: caps, steps: steps, moves: moves, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}, nil
		},
	}
}

type extension struct {
	url   string
	caps  []sandboxer.Capability
	steps bool
	moves bool
	http  *http.Client
}

// HasCapability narrows the extension to what was asked for.
func (e *extension) HasCapability(c sandboxer.Capability) bool { return slices.Contains(e.caps, c) }

// Close ends idle connections.
func (e *extension) Close() error {
	e.http.CloseIdleConnections()
	return nil
}

// call fails as the far side did. Where there is no answer nobody knows what happened there.
func (e *extension) call(ctx context.Context, op sandboxer.Op, req request) (out reply, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return out, sandboxer.Refused(sandboxer.Internal, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+string(op), bytes.NewReader(body))
	if err != nil {
		return out, sandboxer.Refused(sandboxer.Internal, err)
	}
	res, err := e.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return out, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), err)
		}
		return out, sandboxer.Mark(sandboxer.Unavailable, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	if res.StatusCode != http.StatusOK {
		return out, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s: %s", op, res.Status))
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return out, sandboxer.Mark(sandboxer.Unavailable, err)
	}
	return out, out.Failed.err()
}

func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	out, err := e.call(ctx, sandboxer.OpProvision, request{Provision: toProvision(req)})
	if err == nil && e.steps {
		err = req.Checkpoint(ctx, out.Handle)
	}
	return out.Handle, err
}

func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	out, err := e.call(ctx, sandboxer.OpWaitReady, request{Target: toTarget(t)})
	return out.Reach, err
}

func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	out, err := e.call(ctx, sandboxer.OpTeardown, request{Target: toTarget(t)})
	return out.Report, err
}

func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	out, err := e.call(ctx, sandboxer.OpFind, request{Provision: toProvision(req), When: since})
	return out.Handle, err
}

func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	out, err := e.call(ctx, sandboxer.OpInspect, request{Target: toTarget(t)})
	return out.Instance, err
}

func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	out, err := e.call(ctx, sandboxer.OpExtend, request{Target: toTarget(t), When: until})
	return out.When, err
}

func (e *extension) Pause(ctx context.Context, t sandboxer.Target) error {
	_, err := e.call(ctx, sandboxer.OpPause, request{Target: toTarget(t)})
	return err
}

func (e *extension) Resume(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	out, err := e.call(ctx, sandboxer.OpResume, request{Target: toTarget(t)})
	return out.Reach, err
}

func (e *extension) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	out, err := e.call(ctx, sandboxer.OpEstimateCost, request{Profile: &p, For: d})
	return out.Quote, err
}

func (e *extension) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	out, err := e.call(ctx, sandboxer.OpMeterActual, request{Target: toTarget(t)})
	return out.Reading, err
}

func (e *extension) SnapshotCost(ctx context.Context, s sandboxer.Snapshot, from, to time.Time) ([]sandboxer.MeterLine, error) {
	out, err := e.call(ctx, sandboxer.OpSnapshotCost, request{Snapshot: &s, When: from, Until: to})
	return out.Lines, err
}

func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		out, err := e.call(ctx, sandboxer.OpList, request{Host: q.Host, Labels: q.Labels})
		for _, in := range out.Instances {
			if !yield(in, nil) {
				return
			}
		}
		if err != nil {
			yield(sandboxer.Instance{}, err)
		}
	}
}

func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	out, err := e.call(ctx, sandboxer.OpSnapshot, request{Target: toTarget(t), Take: &req})
	return out.Snapshot, err
}

func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	out, err := e.call(ctx, sandboxer.OpRestore, request{Provision: toProvision(req), Snapshot: &s})
	return out.Handle, err
}

func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	_, err := e.call(ctx, sandboxer.OpDeleteSnapshot, request{Snapshot: &t.Snapshot, Host: t.Host})
	return err
}

func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		out, err := e.call(ctx, sandboxer.OpListSnapshots, request{Host: q.Host, Labels: q.Labels})
		for _, s := range out.Snapshots {
			if !yield(s, nil) {
				return
			}
		}
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
		}
	}
}

func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	_, err := e.call(ctx, sandboxer.OpPreflight, request{Provision: toProvision(req)})
	return err
}

func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	out, err := e.call(ctx, sandboxer.OpExec, request{Target: toTarget(t), Command: req.Command})
	if err == nil && req.Stdout != nil {
		_, err = req.Stdout.Write(out.Bytes)
	}
	return out.Exec, err
}

func (e *extension) CopyIn(ctx context.Context, t sandboxer.Target, dst string, tar io.Reader) error {
	data, err := io.ReadAll(tar)
	if err != nil {
		return err
	}
	_, err = e.call(ctx, sandboxer.OpCopyIn, request{Target: toTarget(t), Path: dst, Bytes: data})
	return err
}

func (e *extension) CopyOut(ctx context.Context, t sandboxer.Target, src string, tar io.Writer) error {
	out, err := e.call(ctx, sandboxer.OpCopyOut, request{Target: toTarget(t), Path: src})
	if err == nil {
		_, err = tar.Write(out.Bytes)
	}
	return err
}

// Sync brings all of src to the far side, which looks for what differs.
func (e *extension) Sync(ctx context.Context, t sandboxer.Target, dst string, src fs.FS) error {
	var all bytes.Buffer
	if _, err := archive.PackFS(ctx, &all, src, ".", archive.PackOptions{}); err != nil {
		return err
	}
	_, err := e.call(ctx, sandboxer.OpSync, request{Target: toTarget(t), Path: dst, Bytes: all.Bytes()})
	return err
}

func (e *extension) Expose(ctx context.Context, t sandboxer.Target, port int) (sandboxer.Endpoint, error) {
	out, err := e.call(ctx, sandboxer.OpExpose, request{Target: toTarget(t), Port: port})
	return out.Endpoint, err
}

// Dial asks the far side, which carries no connections: it always fails.
func (e *extension) Dial(ctx context.Context, t sandboxer.Target, _, _ string) (net.Conn, error) {
	_, err := e.call(ctx, sandboxer.OpDial, request{Target: toTarget(t)})
	return nil, err
}

func (e *extension) ExportSnapshot(ctx context.Context, from sandboxer.SnapshotTarget, w io.Writer) error {
	out, err := e.call(ctx, sandboxer.OpExportSnapshot, request{Snapshot: &from.Snapshot, Host: from.Host})
	if err == nil {
		_, err = w.Write(out.Bytes)
	}
	return err
}

func (e *extension) ImportSnapshot(ctx context.Context, to sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	out, err := e.call(ctx, sandboxer.OpImportSnapshot, request{Snapshot: &to.Snapshot, Host: to.Host, Bytes: data})
	return out.Snapshot, err
}

// MoveSnapshot has the far side do both halves of a transfer.
func (e *extension) MoveSnapshot(ctx context.Context, from, to sandboxer.SnapshotTarget) (sandboxer.Snapshot, error) {
	if !e.moves {
		return sandboxer.Snapshot{}, unknownOp(string(opMove))
	}
	out, err := e.call(ctx, opMove, request{Snapshot: &from.Snapshot, Host: from.Host, To: &to.Snapshot, ToHost: to.Host})
	return out.Snapshot, err
}
