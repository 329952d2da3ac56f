//go:build linux || darwin

package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// kindWorkspace is what a snapshot holds and a restore brings back: neither home nor tmp, and no processes.
const kindWorkspace = "workspace"

// maxWindow bounds what decompressing may take of memory; what this package writes needs 4 MiB.
const maxWindow = 64 << 20

// Snapshot keeps the workspace. Commands that write to it meanwhile may be caught half-way through what they do; a file that
// is cut shorter while it is read makes the snapshot fail as Aborted. The digest is that of the uncompressed tar stream, so
// that equal trees have equal digests.
func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	var none sandboxer.Snapshot
	if err := checkSnapshotID(req.ID); err != nil {
		return none, err
	}
	x, err := e.open(ctx, t)
	if err != nil {
		return none, err
	}
	defer x.close()
	if have, err := x.record(req.ID); err != nil {
		return none, err
	} else if have != nil {
		if !owns(have.Snapshot.Labels, req.Labels) {
			return none, taken(req.ID)
		}
		return have.Snapshot, nil
	}
	s := sandboxer.Snapshot{
		ID: req.ID, Name: req.Name, Extension: e.id, Host: t.Handle.Ref().Host, Source: t.Handle.Ref().ID,
		Status: sandboxer.SnapshotReady, Consumer: t.Consumer, Labels: req.Labels, Kind: kindWorkspace,
		CreatedAt: time.Now().UTC(), ExpiresAt: req.ExpiresAt,
	}
	if s.State, err = json.Marshal(state{Root: x.path}); err != nil {
		return none, err
	}
	in, err := e.incoming(ctx, x.base)
	if err != nil {
		return none, fmt.Errorf("snapshot %s: %w", req.ID, err)
	}
	defer in.abandon()
	if err := x.pack(ctx, in.f, &s); err != nil {
		return none, classify(fmt.Errorf("snapshot %s of sandbox %s: %w", req.ID, x.claim.Name, err))
	}
	s, err = e.keep(ctx, in, s)
	if err != nil {
		return none, fmt.Errorf("snapshot %s of sandbox %s: %w", req.ID, x.claim.Name, err)
	}
	return s, nil
}

// pack writes the workspace to f and completes s.
func (x *box) pack(ctx context.Context, f *os.File, s *sandboxer.Snapshot) error {
	// In two steps, so that a link in the place of the workspace leads to no other sandbox.
	root, err := x.root.OpenRoot(x.claim.Name)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only read
	ws, err := root.OpenRoot(workspaceDir)
	if err != nil {
		return classifyPath(root, err)
	}
	defer func() { _ = ws.Close() }() // only read
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	sum := sha256.New()
	// A mutex, because a write may outlive a call whose context has ended.
	out := &guarded{w: io.MultiWriter(sum, z)}
	_, err = archive.PackRoot(ctx, out, ws, ".", archive.PackOptions{RootEntry: true, Stage: "snapshot"})
	out.stop()
	if err = errors.Join(err, z.Close(), x.still()); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.SizeBytes, s.Digest = info.Size(), "sha256:"+hex.EncodeToString(sum.Sum(nil))
	return nil
}

// guarded passes bytes on until it is stopped.
type guarded struct {
	mu sync.Mutex
	w  io.Writer
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w == nil {
		return 0, os.ErrClosed
	}
	return g.w.Write(p)
}

func (g *guarded) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w = nil
}

// content is the uncompressed tar stream of a snapshot, digested as it is read.
type content struct {
	mu  sync.Mutex
	z   *zstd.Decoder
	sum hash.Hash
	end bool
}

func openContent(f io.Reader) (*content, error) {
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return &content{z: z, sum: sha256.New()}, nil
}

func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.z == nil {
		return 0, os.ErrClosed
	}
	n, err := c.z.Read(p)
	_, _ = c.sum.Write(p[:n]) // a hash does not fail
	if errors.Is(err, io.EOF) {
		c.end = true
	} else if err != nil {
		err = damaged(err)
	}
	return n, err
}

func damaged(err error) error {
	return sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("the snapshot is damaged and cannot be used: %w", err))
}

// verify reports whether all was read and is what the digest says.
func (c *content) verify(digest string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.end {
		return damaged(errors.New("something follows the end of its tree"))
	}
	if got := "sha256:" + hex.EncodeToString(c.sum.Sum(nil)); got != digest {
		return damaged(fmt.Errorf("its digest is %s and should be %s", got, digest))
	}
	return nil
}

// close waits for a Read that is under way.
func (c *content) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.z != nil {
		c.z.Close()
		c.z = nil
	}
}

// Restore makes a sandbox whose workspace is that of a snapshot, to the nanosecond of its times. Nothing can run in it
// before the digest has been verified.
func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	if err := ended(ctx); err != nil {
		return sandboxer.Handle{}, err
	}
	b, stored, err := e.stored(s)
	if err != nil {
		return sandboxer.Handle{}, refuse(err)
	}
	defer b.close()
	f, err := b.openContent(stored)
	if err != nil {
		return sandboxer.Handle{}, refuse(err)
	}
	defer func() { _ = f.Close() }() // only read
	return e.create(ctx, req, func(ctx context.Context, ws *os.Root) error {
		c, err := openContent(f)
		if err != nil {
			return damaged(err)
		}
		defer c.close()
		_, err = archive.Extract(ctx, c, ws, archive.ExtractOptions{RootEntry: true, SetID: true, Stage: "restore"})
		switch {
		case err == nil:
			err = c.verify(stored.Digest)
		case errors.Is(err, sandboxer.Unavailable), errors.Is(err, sandboxer.InvalidArgument):
			err = damaged(err) // it is no tree, or only part of one
		}
		if err != nil {
			return fmt.Errorf("restoring snapshot %s: %w", s.ID, err)
		}
		return nil
	})
}

// stored looks a snapshot up where it was made. The caller closes the base.
func (e *extension) stored(s sandboxer.Snapshot) (*base, sandboxer.Snapshot, error) {
	none := sandboxer.Snapshot{}
	b, err := e.baseOfSnapshot(s)
	if err != nil {
		return nil, none, err
	}
	missing := sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no snapshot %s here", s.ID))
	if b == nil {
		return nil, none, missing
	}
	r, err := b.record(s.ID)
	switch {
	case err != nil:
	case r == nil || !owns(r.Snapshot.Labels, s.Labels):
		err = missing
	case s.Digest != "" && s.Digest != r.Snapshot.Digest:
		err = sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s holds %s and should hold %s", s.ID, r.Snapshot.Digest, s.Digest))
	}
	if err != nil {
		b.close()
		return nil, none, err
	}
	return b, r.Snapshot, nil
}

// baseOfSnapshot opens the directory in which a snapshot was made; nil where there is no such directory.
func (e *extension) baseOfSnapshot(s sandboxer.Snapshot) (*base, error) {
	if err := checkSnapshotID(s.ID); err != nil {
		return nil, err
	}
	root := e.cfg.Root
	if len(s.State) > 0 {
		var st state
		if err := json.Unmarshal(s.State, &st); err != nil || !filepath.IsAbs(st.Root) {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the state of snapshot %s is not of this extension", s.ID))
		}
		root = st.Root
	}
	return openBase(root, false)
}

func (b *base) openContent(s sandboxer.Snapshot) (*os.File, error) {
	file, err := contentFile(s.Digest)
	if err != nil {
		return nil, err
	}
	f, err := b.root.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(fmt.Errorf("%s is missing", filepath.Join(b.path, file)))
	}
	return f, classify(err)
}

// DeleteSnapshot removes a snapshot, and its content with the last snapshot that has it.
func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	if err := ended(ctx); err != nil {
		return err
	}
	b, err := e.baseOfSnapshot(t.Snapshot)
	if b == nil || err != nil {
		return err
	}
	defer b.close()
	id := t.Snapshot.ID
	err = e.locked(ctx, b, func() error {
		r, err := b.record(id)
		if err != nil {
			return err
		}
		if r != nil && !owns(r.Snapshot.Labels, t.Snapshot.Labels) {
			return nil
		}
		if r != nil {
			if err := ignoreGone(b.root.Remove(path.Join(keepDir, id+recordEnd))); err != nil {
				return err
			}
		}
		return e.collect(b)
	})
	if err != nil {
		return classify(fmt.Errorf("removing snapshot %s from %s: %w", id, b.path, err))
	}
	return nil
}

// ListSnapshots yields the snapshots of this extension.
func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		b, err := openBase(e.cfg.Root, false)
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
			return
		}
		if b == nil {
			return
		}
		defer b.close()
		names, err := elements(b.root, keepDir, "")
		if err != nil {
			yield(sandboxer.Snapshot{}, classify(err))
			return
		}
		slices.Sort(names)
		for _, n := range names {
			id, ok := strings.CutSuffix(n, recordEnd)
			if !ok || strings.HasPrefix(n, ".") {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(sandboxer.Snapshot{}, classify(err))
				return
			}
			r, err := b.record(id)
			if err != nil {
				if !yield(sandboxer.Snapshot{}, err) {
					return
				}
				continue
			}
			if r != nil && r.Snapshot.Extension == e.id && matches(r.Snapshot.Labels, q.Labels) && !yield(r.Snapshot, nil) {
				return
			}
		}
	}
}
