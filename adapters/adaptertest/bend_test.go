package adaptertest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"iter"
	"net"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// The wrappers bend one call of an extension each. What they do not bend is reached through Unwrap.

type inFront struct{ sandboxer.Extension }

func (w inFront) Unwrap() sandboxer.Extension { return w.Extension }

func must[T any](ext sandboxer.Extension) T {
	v, ok := sandboxer.As[T](ext)
	if !ok {
		panic("the fake lacks a capability that a test bends")
	}
	return v
}

type (
	provisionFunc func(context.Context, *sandboxer.ProvisionRequest) (sandboxer.Handle, error)
	waitFunc      func(context.Context, sandboxer.Target) (sandboxer.Reachability, error)
	teardownFunc  func(context.Context, sandboxer.Target) (sandboxer.CleanupReport, error)
	execFunc      func(context.Context, sandboxer.Target, sandboxer.ExecRequest) (sandboxer.ExecResult, error)
	copyInFunc    func(context.Context, sandboxer.Target, string, io.Reader) error
	copyOutFunc   func(context.Context, sandboxer.Target, string, io.Writer) error
	dialFunc      func(context.Context, sandboxer.Target, string, string) (net.Conn, error)
)

// bent is an extension of whose three own calls some are bent.
type bent struct {
	inFront
	provision provisionFunc
	wait      waitFunc
	teardown  teardownFunc
}

func (b bent) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if b.provision == nil {
		return b.Extension.Provision(ctx, req)
	}
	return b.provision(ctx, req)
}

func (b bent) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	if b.wait == nil {
		return b.Extension.WaitReady(ctx, t)
	}
	return b.wait(ctx, t)
}

func (b bent) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	if b.teardown == nil {
		return b.Extension.Teardown(ctx, t)
	}
	return b.teardown(ctx, t)
}

type bentExec struct {
	inFront
	exec execFunc
}

func (b bentExec) Exec(ctx context.Context, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return b.exec(ctx, t, r)
}

// execBy bends Exec.
func execBy(f func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error)) func(sandboxer.Extension) sandboxer.Extension {
	return func(ext sandboxer.Extension) sandboxer.Extension {
		next := must[sandboxer.Executor](ext).Exec
		return bentExec{inFront{ext}, func(ctx context.Context, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			return f(ctx, next, t, r)
		}}
	}
}

type bentFiles struct {
	inFront
	in  copyInFunc
	out copyOutFunc
}

func (b bentFiles) CopyIn(ctx context.Context, t sandboxer.Target, dst string, r io.Reader) error {
	return b.in(ctx, t, dst, r)
}

func (b bentFiles) CopyOut(ctx context.Context, t sandboxer.Target, src string, w io.Writer) error {
	return b.out(ctx, t, src, w)
}

// filesBy bends the copies; nil leaves one alone.
func filesBy(in func(context.Context, sandboxer.FileTransferer, sandboxer.Target, string, io.Reader) error, out func(context.Context, sandboxer.FileTransferer, sandboxer.Target, string, io.Writer) error) func(sandboxer.Extension) sandboxer.Extension {
	return func(ext sandboxer.Extension) sandboxer.Extension {
		next := must[sandboxer.FileTransferer](ext)
		b := bentFiles{inFront{ext}, next.CopyIn, next.CopyOut}
		if in != nil {
			b.in = func(ctx context.Context, t sandboxer.Target, dst string, r io.Reader) error {
				return in(ctx, next, t, dst, r)
			}
		}
		if out != nil {
			b.out = func(ctx context.Context, t sandboxer.Target, src string, w io.Writer) error {
				return out(ctx, next, t, src, w)
			}
		}
		return b
	}
}

// entriesBy bends what CopyIn extracts, entry by entry; false leaves one out.
func entriesBy(edit func(*entry) bool) func(sandboxer.Extension) sandboxer.Extension {
	return filesBy(func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, dst string, r io.Reader) error {
		stream, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		all, err := untar(stream)
		if err != nil {
			return err
		}
		return next.CopyIn(ctx, t, dst, repack(all, edit))
	}, nil)
}

func repack(all []entry, edit func(*entry) bool) io.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range all {
		if !edit(&e) {
			continue
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, ModTime: e.mtime, Size: int64(len(e.body)), Linkname: e.link, Format: tar.FormatPAX}
		if w.WriteHeader(h) == nil {
			_, _ = w.Write(e.body) // a buffer takes it
		}
	}
	_ = w.Close()
	return &out
}

type bentDial struct {
	inFront
	dial dialFunc
}

func (b bentDial) Dial(ctx context.Context, t sandboxer.Target, network, address string) (net.Conn, error) {
	return b.dial(ctx, t, network, address)
}

func dialBy(f func(net.Conn) (net.Conn, error)) func(sandboxer.Extension) sandboxer.Extension {
	return func(ext sandboxer.Extension) sandboxer.Extension {
		next := must[sandboxer.Dialer](ext)
		return bentDial{inFront{ext}, func(ctx context.Context, t sandboxer.Target, network, address string) (net.Conn, error) {
			c, err := next.Dial(ctx, t, network, address)
			if err != nil {
				return nil, err
			}
			return f(c)
		}}
	}
}

type bentExpose struct{ inFront }

func (b bentExpose) Expose(context.Context, sandboxer.Target, int) (sandboxer.Endpoint, error) {
	return sandboxer.Endpoint{Name: time.Now().String(), URL: "http://elsewhere.invalid", Port: 1}, nil
}

type bentList struct {
	inFront
	ref func(sandboxer.HandleRef) sandboxer.HandleRef
}

func (b bentList) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		for in, err := range must[sandboxer.Lister](b.Extension).List(ctx, q) {
			if err == nil {
				in.Handle = sandboxer.BareHandle(b.ref(in.Handle.Ref()))
			}
			if !yield(in, err) {
				return
			}
		}
	}
}

// handlesBy bends the handles that List yields.
func handlesBy(f func(*sandboxer.HandleRef)) func(sandboxer.Extension) sandboxer.Extension {
	return func(ext sandboxer.Extension) sandboxer.Extension {
		return bentList{inFront{ext}, func(r sandboxer.HandleRef) sandboxer.HandleRef { f(&r); return r }}
	}
}

// bentSnapshots bends two calls of a Snapshotter.
type bentSnapshots struct {
	inFront
	sandboxer.Snapshotter
	snapshot func(context.Context, sandboxer.Target, sandboxer.SnapshotRequest) (sandboxer.Snapshot, error)
	restore  func(context.Context, *sandboxer.ProvisionRequest, sandboxer.Snapshot) (sandboxer.Handle, error)
	list     func(context.Context, sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error]
}

func (b bentSnapshots) Snapshot(ctx context.Context, t sandboxer.Target, r sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	if b.snapshot == nil {
		return b.Snapshotter.Snapshot(ctx, t, r)
	}
	return b.snapshot(ctx, t, r)
}

func (b bentSnapshots) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	if b.restore == nil {
		return b.Snapshotter.Restore(ctx, req, s)
	}
	return b.restore(ctx, req, s)
}

func (b bentSnapshots) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	if b.list == nil {
		return b.Snapshotter.ListSnapshots(ctx, q)
	}
	return b.list(ctx, q)
}

type bentTransfer struct {
	inFront
	sandboxer.SnapshotTransferer
}

// ImportSnapshot forgets to say what it has verified.
func (b bentTransfer) ImportSnapshot(ctx context.Context, t sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	s, err := b.SnapshotTransferer.ImportSnapshot(ctx, t, r)
	s.Digest = ""
	return s, err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
