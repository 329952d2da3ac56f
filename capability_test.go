package sandboxer_test

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// plain has the three methods and nothing else.
type plain struct{}

func (plain) Provision(context.Context, *sandboxer.ProvisionRequest) (h sandboxer.Handle, err error) {
	return h, sandboxer.Refused(sandboxer.Unsupported, io.EOF)
}

func (plain) WaitReady(context.Context, sandboxer.Target) (r sandboxer.Reachability, err error) {
	return r, nil
}

func (plain) Teardown(context.Context, sandboxer.Target) (r sandboxer.CleanupReport, err error) {
	return r, nil
}

// Each of the capabilities alone, for [full] to be put together of.
type (
	executor struct{}
	finder   struct{}
	others   struct{}
)

func (executor) Exec(context.Context, sandboxer.Target, sandboxer.ExecRequest) (r sandboxer.ExecResult, err error) {
	return r, nil
}

func (finder) Find(context.Context, *sandboxer.ProvisionRequest, time.Time) (h sandboxer.Handle, err error) {
	return h, nil
}

func (others) List(context.Context, sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return nil
}
func (others) CopyIn(context.Context, sandboxer.Target, string, io.Reader) error  { return nil }
func (others) CopyOut(context.Context, sandboxer.Target, string, io.Writer) error { return nil }
func (others) Dial(context.Context, sandboxer.Target, string, string) (net.Conn, error) {
	return nil, nil
}
func (others) Expose(context.Context, sandboxer.Target, int) (e sandboxer.Endpoint, err error) {
	return e, nil
}
func (others) Snapshot(context.Context, sandboxer.Target, sandboxer.SnapshotRequest) (s sandboxer.Snapshot, err error) {
	return s, nil
}
func (others) Restore(context.Context, *sandboxer.ProvisionRequest, sandboxer.Snapshot) (h sandboxer.Handle, err error) {
	return h, nil
}
func (others) DeleteSnapshot(context.Context, sandboxer.SnapshotTarget) error { return nil }
func (others) ListSnapshots(context.Context, sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return nil
}
func (others) ExportSnapshot(context.Context, sandboxer.SnapshotTarget, io.Writer) error { return nil }
func (others) ImportSnapshot(context.Context, sandboxer.SnapshotTarget, io.Reader) (s sandboxer.Snapshot, err error) {
	return s, nil
}
func (others) EstimateCost(context.Context, sandboxer.Profile, time.Duration) (q sandboxer.MeterQuote, err error) {
	return q, nil
}
func (others) MeterActual(context.Context, sandboxer.Target) (r sandboxer.MeterReading, err error) {
	return r, nil
}
func (others) Inspect(context.Context, sandboxer.Target) (i sandboxer.Instance, err error) {
	return i, nil
}
func (others) Extend(context.Context, sandboxer.Target, time.Time) (until time.Time, err error) {
	return until, nil
}
func (others) Pause(context.Context, sandboxer.Target) error { return nil }
func (others) Resume(context.Context, sandboxer.Target) (r sandboxer.Reachability, err error) {
	return r, nil
}
func (others) Preflight(context.Context, *sandboxer.ProvisionRequest) error { return nil }
func (others) Sync(context.Context, sandboxer.Target, string, fs.FS) error  { return nil }

// full can do everything.
type full struct {
	plain
	executor
	finder
	others
}

type (
	// front stands before another extension and adds nothing.
	front struct {
		plain
		behind sandboxer.Extension
	}
	// frontFinder adds Find.
	frontFinder struct {
		front
		finder
	}
	// fullFilter and frontFilter deny some of what stands in deny.
	fullFilter struct {
		full
		deny []sandboxer.Capability
	}
	frontFilter struct {
		front
		deny []sandboxer.Capability
	}
	// ring unwraps to itself.
	ring struct{ plain }
)

func (f front) Unwrap() sandboxer.Extension                     { return f.behind }
func (f fullFilter) HasCapability(c sandboxer.Capability) bool  { return !slices.Contains(f.deny, c) }
func (f frontFilter) HasCapability(c sandboxer.Capability) bool { return !slices.Contains(f.deny, c) }
func (r *ring) Unwrap() sandboxer.Extension                     { return r }
func without(drop ...sandboxer.Capability) (c []sandboxer.Capability) {
	return slices.DeleteFunc(sandboxer.AllCapabilities(), func(c sandboxer.Capability) bool { return slices.Contains(drop, c) })
}

// has asks As for the interface of every capability.
func has(ext sandboxer.Extension) []sandboxer.Capability {
	var out []sandboxer.Capability
	add := func(c sandboxer.Capability, ok bool) {
		if ok {
			out = append(out, c)
		}
	}
	ask := func(c sandboxer.Capability) {
		var ok bool
		switch c {
		case sandboxer.CapFind:
			_, ok = sandboxer.As[sandboxer.Finder](ext)
		case sandboxer.CapList:
			_, ok = sandboxer.As[sandboxer.Lister](ext)
		case sandboxer.CapExec:
			_, ok = sandboxer.As[sandboxer.Executor](ext)
		case sandboxer.CapFiles:
			_, ok = sandboxer.As[sandboxer.FileTransferer](ext)
		case sandboxer.CapDial:
			_, ok = sandboxer.As[sandboxer.Dialer](ext)
		case sandboxer.CapExpose:
			_, ok = sandboxer.As[sandboxer.Exposer](ext)
		case sandboxer.CapSnapshot:
			_, ok = sandboxer.As[sandboxer.Snapshotter](ext)
		case sandboxer.CapSnapshotTransfer:
			_, ok = sandboxer.As[sandboxer.SnapshotTransferer](ext)
		case sandboxer.CapMeter:
			_, ok = sandboxer.As[sandboxer.Meterer](ext)
		case sandboxer.CapInspect:
			_, ok = sandboxer.As[sandboxer.Inspector](ext)
		case sandboxer.CapExtend:
			_, ok = sandboxer.As[sandboxer.Extender](ext)
		case sandboxer.CapPause:
			_, ok = sandboxer.As[sandboxer.Pauser](ext)
		case sandboxer.CapPreflight:
			_, ok = sandboxer.As[sandboxer.Preflighter](ext)
		case sandboxer.CapSync:
			_, ok = sandboxer.As[sandboxer.Syncer](ext)
		}
		add(c, ok)
	}
	for _, c := range sandboxer.AllCapabilities() {
		ask(c)
	}
	return out
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	long := sandboxer.Extension(full{})
	for range 50 {
		long = front{behind: long}
	}
	exec, find := sandboxer.CapExec, sandboxer.CapFind
	for name, tc := range map[string]struct {
		ext  sandboxer.Extension
		want []sandboxer.Capability
	}{
		"nil":                          {nil, nil},
		"nothing":                      {plain{}, nil},
		"everything":                   {full{}, without()},
		"filtered":                     {fullFilter{deny: []sandboxer.Capability{exec, find}}, without(exec, find)},
		"behind":                       {front{behind: full{}}, without()},
		"behind many":                  {long, without()},
		"added in front":               {frontFinder{front: front{behind: plain{}}}, []sandboxer.Capability{find}},
		"filtered behind":              {front{behind: fullFilter{deny: []sandboxer.Capability{exec}}}, without(exec)},
		"filtered in front":            {frontFilter{front{behind: full{}}, []sandboxer.Capability{exec}}, without(exec)},
		"filtered twice":               {frontFilter{front{behind: fullFilter{deny: []sandboxer.Capability{find}}}, []sandboxer.Capability{exec}}, without(exec, find)},
		"filtered behind, added again": {frontFinder{front: front{behind: fullFilter{deny: []sandboxer.Capability{find}}}}, without()},
		"nothing behind":               {front{}, nil},
		"itself behind":                {&ring{}, nil},
	} {
		if diff := cmp.Diff(tc.want, sandboxer.Capabilities(tc.ext)); diff != "" {
			t.Errorf("%s: Capabilities (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tc.want, has(tc.ext)); diff != "" {
			t.Errorf("%s: As (-want +got):\n%s", name, diff)
		}
	}
}

// TestAsReturnsTheOneInFront: where two can do it, the outer one is asked.
func TestAsReturnsTheOneInFront(t *testing.T) {
	t.Parallel()
	ext := frontFinder{front: front{behind: full{}}}
	f, ok := sandboxer.As[sandboxer.Finder](ext)
	if _, outer := f.(frontFinder); !ok || !outer {
		t.Errorf("As[Finder] = %T, %v", f, ok)
	}
	e, ok := sandboxer.As[sandboxer.Executor](ext)
	if _, inner := e.(full); !ok || !inner {
		t.Errorf("As[Executor] = %T, %v", e, ok)
	}
	// Interfaces that are no capability are found by the same way, and no filter is asked about them.
	if c, ok := sandboxer.As[interface{ Unwrap() sandboxer.Extension }](ext); !ok || c == nil {
		t.Error("As does not find an interface of the caller's own")
	}
	if _, ok := sandboxer.As[io.Closer](ext); ok {
		t.Error("As found an io.Closer where there is none")
	}
}

func TestCapabilityNames(t *testing.T) {
	t.Parallel()
	want := []sandboxer.Capability{"find", "list", "exec", "files", "dial", "expose", "snapshot", "snapshot-transfer", "meter", "inspect", "extend", "pause", "preflight", "sync"}
	if diff := cmp.Diff(want, sandboxer.AllCapabilities()); diff != "" {
		t.Errorf("manifests and profiles name capabilities by these words (-want +got):\n%s", diff)
	}
	sandboxer.AllCapabilities()[0] = "changed"
	if sandboxer.AllCapabilities()[0] != "find" {
		t.Error("a caller can change the list for everybody")
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sandboxer.Report(ctx, sandboxer.Progress{Stage: "nobody asked"})
	sandboxer.Report(sandboxer.WithProgress(ctx, nil), sandboxer.Progress{Stage: "nobody listens"})

	var outer, inner []sandboxer.Progress
	ctx = sandboxer.WithProgress(ctx, func(p sandboxer.Progress) { outer = append(outer, p) })
	first := sandboxer.Progress{Stage: "upload", Done: 10, Total: 128, Unit: "bytes"}
	sandboxer.Report(ctx, first)
	second := sandboxer.Progress{Stage: "wait"}
	sandboxer.Report(context.WithoutCancel(sandboxer.WithProgress(ctx, func(p sandboxer.Progress) { inner = append(inner, p) })), second)
	if diff := cmp.Diff([]sandboxer.Progress{first}, outer); diff != "" {
		t.Errorf("outer (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]sandboxer.Progress{second}, inner); diff != "" {
		t.Errorf("the innermost asks for itself (-want +got):\n%s", diff)
	}
}
