package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// breakage is a rule broken by a wrapper, where the fake has no quirk for it.
type breakage struct {
	what      string
	checks    []string
	wrap      func(sandboxer.Extension) sandboxer.Extension // for each instance
	caps      []sandboxer.Capability
	quirks    []fake.Quirk
	behaviour fake.Behaviour
	adapt     func(*sandboxer.Adapter)
}

func lifecycleBreakages() []breakage {
	var closed atomic.Int32
	return []breakage{{
		what: "a wrapper without Unwrap hides what the extension can do", checks: []string{"capabilities/declared"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension { return struct{ sandboxer.Extension }{ext} },
	}, {
		what: "it is metered, and no Meterer", checks: []string{"capabilities/metered"}, caps: []sandboxer.Capability{sandboxer.CapFind},
		adapt: func(a *sandboxer.Adapter) {
			a.Manifest = bytes.ReplaceAll(a.Manifest, []byte("pricing_model: free"), []byte("pricing_model: metered"))
		},
	}, {
		what: "WaitReady of what is gone succeeds", checks: []string{"wait-ready/gone"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bent{inFront: inFront{ext}, wait: func(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
				r, err := ext.WaitReady(ctx, t)
				if errors.Is(err, sandboxer.NotFound) {
					return r, nil
				}
				return r, err
			}}
		},
	}, {
		what: "a handle without state cannot be torn down, and there is no Finder", checks: []string{"lost-reply/removed"},
		quirks: []fake.Quirk{fake.TeardownNeedsState}, caps: []sandboxer.Capability{sandboxer.CapInspect},
	}, {
		what: "a create that is cancelled leaves half of itself", checks: []string{"cancel/create"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bent{inFront: inFront{ext}, provision: func(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
				if ctx.Err() != nil {
					half := *req
					half.Name += "-half"
					_, _ = ext.Provision(context.WithoutCancel(ctx), &half)
				}
				return ext.Provision(ctx, req)
			}}
		},
	}, {
		what: "a Teardown that was cancelled is taken for done", checks: []string{"cancel/teardown"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			var begun sync.Map
			return bent{inFront: inFront{ext}, teardown: func(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
				if _, again := begun.LoadOrStore(t.Handle.Ref().Name(), true); again {
					return sandboxer.CleanupReport{}, nil
				}
				select {
				case <-ctx.Done():
					return sandboxer.CleanupReport{}, sandboxer.Mark(sandboxer.Canceled, ctx.Err())
				case <-time.After(100 * time.Millisecond):
					return ext.Teardown(ctx, t)
				}
			}}
		},
	}, {
		what: "a paused sandbox cannot be torn down", checks: []string{"pause/teardown"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bent{inFront: inFront{ext}, teardown: func(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
				in, err := must[sandboxer.Inspector](ext).Inspect(ctx, t)
				if err == nil && in.State == sandboxer.StatePaused {
					return sandboxer.CleanupReport{}, sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it is paused"))
				}
				return ext.Teardown(ctx, t)
			}}
		},
	}, {
		what: "a create goes on when its handle could not be stored", checks: []string{"provision/checkpoint"},
		behaviour: fake.Behaviour{Checkpoint: true},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bent{inFront: inFront{ext}, provision: func(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
				asked := *req
				asked.Checkpoint = func(ctx context.Context, h sandboxer.Handle) error { _ = req.Checkpoint(ctx, h); return nil }
				return ext.Provision(ctx, &asked)
			}}
		},
	}, {
		what: "a create goes on without its credential", checks: []string{"secrets/missing"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bent{inFront: inFront{ext}, provision: func(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
				_, _ = req.Secret(ctx, "env:ANY")
				return ext.Provision(ctx, req)
			}}
		},
	}, {
		what: "closing fails", checks: []string{"end/close"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension { return failingClose{inFront{ext}, &closed} },
	}}
}

// failingClose fails from the second time on: the first is of the instance that the suite looks at before it begins.
type failingClose struct {
	inFront
	closed *atomic.Int32
}

func (c failingClose) Close() error {
	if c.closed.Add(1) > 1 {
		return errors.New("it cannot be closed")
	}
	return nil
}

func fileBreakages() []breakage {
	return []breakage{{
		what: "a copy goes on when it is cancelled", checks: []string{"cancel/copy"},
		wrap: filesBy(func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, dst string, r io.Reader) error {
			return next.CopyIn(context.WithoutCancel(ctx), t, dst, r)
		}, nil),
	}, {
		what: "files end after 64 KiB", checks: []string{"files/sizes"},
		wrap: entriesBy(func(e *entry) bool { e.body = e.body[:min(len(e.body), 64<<10)]; return true }),
	}, {
		what: "newlines in names become underscores", checks: []string{"files/names"},
		wrap: entriesBy(func(e *entry) bool { e.name = strings.ReplaceAll(e.name, "\n", "_"); return true }),
	}, {
		what: "names become UTF-8", checks: []string{"files/invalid-utf8"},
		wrap: entriesBy(func(e *entry) bool { e.name = strings.ToValidUTF8(e.name, "?"); return true }),
	}, {
		what: "what does not exist is an empty tree", checks: []string{"files/missing"},
		wrap: filesBy(nil, func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, src string, w io.Writer) error {
			err := next.CopyOut(ctx, t, src, w)
			if errors.Is(err, sandboxer.NotFound) {
				_, err = io.Copy(w, repack(nil, nil))
			}
			return err
		}),
	}, {
		what: "a stream that breaks off is taken for its end", checks: []string{"files/cut-off"},
		wrap: filesBy(func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, dst string, r io.Reader) error {
			if err := next.CopyIn(ctx, t, dst, r); sandboxer.CodeOf(err) != sandboxer.Unknown {
				return err
			}
			return nil
		}, nil),
	}, {
		what: "a writer that fails is not noticed", checks: []string{"files/writer-fails"},
		wrap: filesBy(nil, func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, src string, w io.Writer) error {
			var out bytes.Buffer
			err := next.CopyOut(ctx, t, src, &out)
			_, _ = w.Write(out.Bytes())
			return err
		}),
	}, {
		what: "names that leave the destination are followed", checks: []string{"links/names-that-leave"},
		wrap: filesBy(func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, dst string, r io.Reader) error {
			return eachEntry(r, func(e entry) error {
				if name := path.Clean(e.name); strings.HasPrefix(name, "../") {
					e.name = path.Base(name)
					return next.CopyIn(ctx, t, path.Join(dst, path.Dir(name)), repack([]entry{e}, keep))
				}
				return next.CopyIn(ctx, t, dst, repack([]entry{e}, keep))
			})
		}, nil),
	}, {
		what: "hard links are followed out of the destination", checks: []string{"links/hard"},
		wrap: filesBy(func(ctx context.Context, next sandboxer.FileTransferer, t sandboxer.Target, dst string, r io.Reader) error {
			return eachEntry(r, func(e entry) error {
				if e.link == "" || strings.HasPrefix(e.name, "links") {
					return next.CopyIn(ctx, t, dst, repack([]entry{e}, keep))
				}
				var out bytes.Buffer
				if err := next.CopyOut(ctx, t, path.Join(dst, e.link), &out); err != nil {
					return err
				}
				return next.CopyIn(ctx, t, dst, &out)
			})
		}, nil),
	}}
}

func keep(*entry) bool { return true }

func eachEntry(r io.Reader, f func(entry) error) error {
	stream, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	all, err := untar(stream)
	for _, e := range all {
		err = errors.Join(err, f(e))
	}
	return err
}

func otherBreakages() []breakage {
	return []breakage{{
		what: "connections change what they carry", checks: []string{"dial/echo"},
		wrap: dialBy(func(c net.Conn) (net.Conn, error) { return changing{c}, nil }),
	}, {
		what: "there is one connection, and no other", checks: []string{"dial/many"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			var made atomic.Bool
			return dialBy(func(c net.Conn) (net.Conn, error) {
				if made.Swap(true) {
					_ = c.Close()
					return nil, sandboxer.Refused(sandboxer.Unavailable, errors.New("one was made already"))
				}
				return c, nil
			})(ext)
		},
	}, {
		what: "Expose shows another port", checks: []string{"dial/expose"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension { return bentExpose{inFront{ext}} },
	}, {
		what: "a Snapshot that is cancelled says that nothing was done, and is stored", checks: []string{"cancel/snapshot"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			next := must[sandboxer.Snapshotter](ext)
			return bentSnapshots{inFront: inFront{ext}, Snapshotter: next, snapshot: func(ctx context.Context, t sandboxer.Target, r sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
				s, err := next.Snapshot(context.WithoutCancel(ctx), t, r)
				select {
				case <-ctx.Done():
					return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.Canceled, ctx.Err())
				case <-time.After(200 * time.Millisecond):
				}
				return s, err
			}}
		},
	}, {
		what: "Restore under a name that exists fails", checks: []string{"snapshot/restore"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			next := must[sandboxer.Snapshotter](ext)
			var made sync.Map
			return bentSnapshots{inFront: inFront{ext}, Snapshotter: next, restore: func(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
				if _, again := made.LoadOrStore(req.Name, true); again {
					return sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, errors.New("it exists"))
				}
				return next.Restore(ctx, req, s)
			}}
		},
	}, {
		what: "an instance knows only the snapshots that it took", checks: []string{"snapshot/second-instance"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			next := must[sandboxer.Snapshotter](ext)
			var taken sync.Map
			return bentSnapshots{
				inFront: inFront{ext}, Snapshotter: next,
				snapshot: func(ctx context.Context, t sandboxer.Target, r sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
					taken.Store(r.ID, true)
					return next.Snapshot(ctx, t, r)
				},
				restore: func(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
					if _, ours := taken.Load(s.ID); !ours {
						return sandboxer.Handle{}, sandboxer.Refused(sandboxer.NotFound, errors.New("there is no such snapshot"))
					}
					return next.Restore(ctx, req, s)
				},
			}
		},
	}, {
		what: "another owner's is torn down, which only Config.Live shows", checks: []string{"foreign/teardown"},
		caps: []sandboxer.Capability{sandboxer.CapExec}, quirks: []fake.Quirk{fake.TeardownForeign},
	}, {
		what: "another owner's is handed out, which only Config.Live shows", checks: []string{"foreign/provision", "foreign/manager"},
		caps: []sandboxer.Capability{sandboxer.CapExec}, quirks: []fake.Quirk{fake.StealsForeign},
	}, {
		what: "List yields handles without an attempt", checks: []string{"list/handles"},
		wrap: handlesBy(func(r *sandboxer.HandleRef) { r.Attempt = 0 }),
	}, {
		what: "List takes each attempt for the first", checks: []string{"list/handles"},
		wrap: handlesBy(func(r *sandboxer.HandleRef) { r.Attempt = 1 }),
	}, {
		what: "List yields handles without an extension", checks: []string{"list/handles"},
		wrap: handlesBy(func(r *sandboxer.HandleRef) { r.Extension = "" }),
	}, {
		what: "List yields handles of a host that was not asked", checks: []string{"list/handles"},
		wrap: handlesBy(func(r *sandboxer.HandleRef) { r.Host = "elsewhere" }),
	}, {
		what: "List yields handles whose ID is none", checks: []string{"list/handles"},
		wrap: handlesBy(func(r *sandboxer.HandleRef) { r.ID = "Not An ID" }),
	}, {
		what: "snapshots are listed without their labels", checks: []string{"snapshot/labels"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			next := must[sandboxer.Snapshotter](ext)
			return bentSnapshots{inFront: inFront{ext}, Snapshotter: next, list: func(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
				return func(yield func(sandboxer.Snapshot, error) bool) {
					for s, err := range next.ListSnapshots(ctx, q) {
						if s.Labels != nil {
							s.Labels = map[string]string{sandboxer.LabelOwner: s.Labels[sandboxer.LabelOwner]}
						}
						if !yield(s, err) {
							return
						}
					}
				}
			}}
		},
	}, {
		what: "an import does not say what it verified", checks: []string{"transfer/round-trip"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			return bentTransfer{inFront{ext}, must[sandboxer.SnapshotTransferer](ext)}
		},
	}}
}

// changing turns every byte that it carries.
type changing struct{ net.Conn }

func (c changing) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

func breakages() []breakage {
	return slices.Concat(lifecycleBreakages(), execBreakages(), fileBreakages(), otherBreakages())
}
