package manager_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"reflect"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// scribbler is an extension that writes into every map and list that it is given, once it has done what it is asked for. Before,
// it looks whether somebody's scribbles are there already.
type scribbler struct {
	sandboxer.Extension
	on *scribbles
}

// scribbles are the calls that saw scribbles, and how often each call was made.
type scribbles struct {
	mu    sync.Mutex
	seen  []string
	calls map[sandboxer.Op]int
}

const scribble = "scribbled"

func (x scribbler) Unwrap() sandboxer.Extension { return x.Extension }

// given is called at the beginning of a call with pointers to all that came with it; what it returns, at the end.
func (x scribbler) given(op sandboxer.Op, args ...any) func() {
	x.on.mu.Lock()
	defer x.on.mu.Unlock()
	x.on.calls[op]++
	for _, a := range args {
		if at := scribbledAt(reflect.ValueOf(a), fmt.Sprintf("%s: %T", op, a)); at != "" {
			x.on.seen = append(x.on.seen, at)
		}
	}
	return func() {
		for _, a := range args {
			scribbleOn(reflect.ValueOf(a))
		}
	}
}

// scribbledAt finds the first place of v that is scribbled on; "" where none is.
func scribbledAt(v reflect.Value, at string) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return scribbledAt(v.Elem(), at)
		}
	case reflect.String:
		if v.String() == scribble {
			return at
		}
	case reflect.Int:
		if v.Int() == int64(len(scribble)) {
			return at
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				if found := scribbledAt(v.Field(i), at+"."+f.Name); found != "" {
					return found
				}
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if found := scribbledAt(v.Index(i), fmt.Sprintf("%s[%d]", at, i)); found != "" {
				return found
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if it.Key().String() == scribble {
				return at
			}
			if found := scribbledAt(it.Value(), fmt.Sprintf("%s[%q]", at, it.Key())); found != "" {
				return found
			}
		}
	}
	return ""
}

// scribbleOn writes into every map and list that v leads to.
func scribbleOn(v reflect.Value) {
	mark := func(t reflect.Type) reflect.Value {
		switch t.Kind() {
		case reflect.String, reflect.Interface:
			return reflect.ValueOf(scribble).Convert(t)
		case reflect.Int:
			return reflect.ValueOf(len(scribble)).Convert(t)
		}
		return reflect.Zero(t)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			scribbleOn(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				scribbleOn(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.Struct || e.Kind() == reflect.Interface && !e.IsNil() && e.Elem().Kind() != reflect.String {
				scribbleOn(e)
				continue
			}
			v.Index(i).Set(mark(v.Type().Elem()))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			scribbleOn(it.Value())
		}
		if !v.IsNil() {
			v.SetMapIndex(reflect.ValueOf(scribble).Convert(v.Type().Key()), mark(v.Type().Elem()))
		}
	}
}

func (x scribbler) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	// As it is asked before the same place is, it scribbles on nothing that is shown to it.
	x.given(sandboxer.OpPreflight, req)
	p, _ := sandboxer.As[sandboxer.Preflighter](x.Extension)
	return p.Preflight(ctx, req)
}

func (x scribbler) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	defer x.given(sandboxer.OpProvision, req)()
	return x.Extension.Provision(ctx, req)
}

func (x scribbler) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	defer x.given(sandboxer.OpWaitReady, &t)()
	return x.Extension.WaitReady(ctx, t)
}

func (x scribbler) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	defer x.given(sandboxer.OpExec, &t)()
	e, _ := sandboxer.As[sandboxer.Executor](x.Extension)
	return e.Exec(ctx, t, req)
}

func (x scribbler) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	defer x.given(sandboxer.OpFind, req)()
	f, _ := sandboxer.As[sandboxer.Finder](x.Extension)
	return f.Find(ctx, req, since)
}

func (x scribbler) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		defer x.given(sandboxer.OpList, &q)()
		l, _ := sandboxer.As[sandboxer.Lister](x.Extension)
		l.List(ctx, q)(yield)
	}
}

func (x scribbler) EstimateCost(ctx context.Context, p sandboxer.Profile, d time.Duration) (sandboxer.MeterQuote, error) {
	defer x.given(sandboxer.OpEstimateCost, &p)()
	return x.meter().EstimateCost(ctx, p, d)
}

func (x scribbler) MeterActual(ctx context.Context, t sandboxer.Target) (sandboxer.MeterReading, error) {
	x.given(sandboxer.OpMeterActual) // one removal's Teardown and MeterActual have one target
	return x.meter().MeterActual(ctx, t)
}

func (x scribbler) meter() sandboxer.Meterer {
	m, _ := sandboxer.As[sandboxer.Meterer](x.Extension)
	return m
}

func (x scribbler) SnapshotCost(ctx context.Context, s sandboxer.Snapshot, from, to time.Time) ([]sandboxer.MeterLine, error) {
	defer x.given(sandboxer.OpSnapshotCost, &s)()
	p, _ := sandboxer.As[sandboxer.SnapshotPricer](x.Extension)
	return p.SnapshotCost(ctx, s, from, to)
}

func (x scribbler) snapshotter() sandboxer.Snapshotter {
	s, _ := sandboxer.As[sandboxer.Snapshotter](x.Extension)
	return s
}

func (x scribbler) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	defer x.given(sandboxer.OpSnapshot, &t, &req)()
	return x.snapshotter().Snapshot(ctx, t, req)
}

func (x scribbler) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	defer x.given(sandboxer.OpRestore, req, &s)()
	return x.snapshotter().Restore(ctx, req, s)
}

func (x scribbler) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	defer x.given(sandboxer.OpDeleteSnapshot, &t)()
	return x.snapshotter().DeleteSnapshot(ctx, t)
}

func (x scribbler) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		defer x.given(sandboxer.OpListSnapshots, &q)()
		x.snapshotter().ListSnapshots(ctx, q)(yield)
	}
}

func (x scribbler) ExportSnapshot(ctx context.Context, t sandboxer.SnapshotTarget, w io.Writer) error {
	defer x.given(sandboxer.OpExportSnapshot, &t)()
	mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](x.Extension)
	return mover.ExportSnapshot(ctx, t, w)
}

func (x scribbler) ImportSnapshot(ctx context.Context, t sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	defer x.given(sandboxer.OpImportSnapshot, &t)()
	mover, _ := sandboxer.As[sandboxer.SnapshotTransferer](x.Extension)
	return mover.ImportSnapshot(ctx, t, r)
}

func (x scribbler) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	defer x.given(sandboxer.OpTeardown, &t)()
	return x.Extension.Teardown(ctx, t)
}

// scribbling puts a scribbler in front of the world's backend.
func (w *world) scribbling() *scribbles {
	w.t.Helper()
	on := &scribbles{calls: map[sandboxer.Op]int{}}
	a := w.backend.Adapter(w.caps...)
	a.Manifest = bytes.Replace(a.Manifest, []byte("[files]"), []byte("[tree, list, empty, more]"), 1)
	build := w.backend.InPlaceOf(a.Handler, w.caps...).New // which takes any inputs
	a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
		ext, err := build(ctx, s)
		return scribbler{ext, on}, err
	}
	w.adapters = []sandboxer.Adapter{a}
	return on
}
