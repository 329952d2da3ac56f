package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

func (e *extension) tarOptions() memfs.TarOptions {
	b := e.b
	return memfs.TarOptions{
		DropModes: b.broken(CopyDropsModes), DropTimes: b.broken(CopyDropsTimes), DropEmpty: b.broken(CopyDropsEmpty),
		FollowLinks: b.broken(CopyFollowsLinks), TextOnly: b.broken(CopyCutsBinary),
	}
}

// CopyIn extracts a tar stream.
func (e *extension) CopyIn(ctx context.Context, t sandboxer.Target, dst string, tar io.Reader) error {
	return e.do(ctx, sandboxer.OpCopyIn, t, func(hit) error {
		w, err := e.world(ctx, t)
		if err != nil {
			return err
		}
		p := memfs.Join(Workspace, dst)
		if e.b.broken(CopyOtherWorld) {
			p = memfs.Clean("/copies/" + p)
		}
		if _, err := w.fs.Stat(p); err != nil && e.b.broken(CopyNeedsDir) {
			return sandboxer.Mark(sandboxer.NotFound, err)
		}
		if err := w.fs.Extract(ctx, p, tar, e.tarOptions()); err != nil {
			return fileError(ctx, "copy into", dst, t, err)
		}
		return nil
	})
}

// CopyOut writes a tree as a tar stream.
func (e *extension) CopyOut(ctx context.Context, t sandboxer.Target, src string, tar io.Writer) error {
	return e.do(ctx, sandboxer.OpCopyOut, t, func(hit) error {
		w, err := e.world(ctx, t)
		if err != nil {
			return err
		}
		p := memfs.Join(Workspace, src)
		if e.b.broken(CopyOtherWorld) {
			p = memfs.Clean("/copies/" + p)
		}
		if err := w.fs.Archive(ctx, p, tar, e.tarOptions()); err != nil {
			return fileError(ctx, "copy out of", src, t, err)
		}
		return nil
	})
}

// Sync makes a directory equal to src.
func (e *extension) Sync(ctx context.Context, t sandboxer.Target, dst string, src fs.FS) error {
	return e.do(ctx, sandboxer.OpSync, t, func(hit) error {
		w, err := e.world(ctx, t)
		if err != nil {
			return err
		}
		p := memfs.Join(Workspace, dst)
		if _, err := w.fs.Stat(p); err != nil && e.b.broken(SyncNeedsDir) {
			return sandboxer.Mark(sandboxer.NotFound, err)
		}
		o := memfs.SyncOptions{KeepExtra: e.b.broken(SyncKeepsExtra), ReadAll: e.b.broken(SyncReadsAll), FollowLinks: e.b.broken(SyncFollowsLinks)}
		if err := w.fs.Sync(ctx, p, src, o); err != nil {
			return fileError(ctx, "sync", dst, t, err)
		}
		return nil
	})
}

// fileError classifies what went wrong with a path in a sandbox.
func fileError(ctx context.Context, what, name string, t sandboxer.Target, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	err = fmt.Errorf("%s %q of %s: %w", what, name, t.Handle.Ref().Name(), err)
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Mark(sandboxer.NotFound, err)
	case errors.As(err, &p):
		return sandboxer.Mark(sandboxer.InvalidArgument, err)
	}
	return err
}
