package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

// snapshot is a stored one. b.mu guards it; fs is never written to.
type snapshot struct {
	sandboxer.Snapshot
	key     key
	from    key // the sandbox
	payer   string
	fs      *memfs.FS
	appears int64
	goneAt  int64
}

func (s *snapshot) ours(labels map[string]string) bool {
	want := labels[sandboxer.LabelOwner]
	return want == "" || s.Labels[sandboxer.LabelOwner] == want
}

// stored returns the snapshot at k that is there and visible now; b.mu is held.
func (b *Backend) stored(k key, now int64) *snapshot {
	s := b.snapshots[k]
	if s != nil && s.goneAt != 0 && now >= s.goneAt {
		b.unstore(k, time.Unix(0, s.goneAt).UTC())
		return nil
	}
	return s
}

func (b *Backend) dropSnapshotsOf(s *sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, snap := range b.snapshots {
		if snap.from == s.key {
			b.unstore(k, time.Now().UTC())
		}
	}
}

// Snapshot keeps all files of the sandbox.
func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	var out sandboxer.Snapshot
	err := e.do(ctx, sandboxer.OpSnapshot, t, func(x hit) (err error) {
		out, err = e.snapshot(ctx, t, req, x)
		return err
	})
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	return out, nil
}

func (e *extension) snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest, x hit) (sandboxer.Snapshot, error) {
	if req.ID == "" {
		return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the snapshot has no ID"))
	}
	var sbx sandbox
	var tree *memfs.FS
	err := e.use(ctx, t, func(s *sandbox) error {
		if s.world == nil {
			s.world = newWorld(nil)
		}
		sbx, tree = *s, s.world.fs
		return nil
	})
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	tree = tree.Clone()
	size, digest, err := digestOf(ctx, tree)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	now := time.Now()
	s := &snapshot{key: key{e.id, sbx.key.host, req.ID}, from: sbx.key, payer: sbx.payer, fs: tree}
	s.Snapshot = sandboxer.Snapshot{
		ID: req.ID, Name: req.Name, Extension: e.id, Host: sbx.key.host, Source: sbx.id, Status: sandboxer.SnapshotReady,
		Consumer: t.Consumer, Labels: newLabels(req.Labels).toMap(), Kind: "filesystem", SizeBytes: size, Digest: digest,
		CreatedAt: now.UTC(), ExpiresAt: req.ExpiresAt, State: stateOf(e.b.uid.Add(1)),
	}
	if x.late > 0 {
		s.appears = now.Add(x.late).UnixNano()
	}
	return e.b.store(s, req.Labels)
}

// store keeps s, or returns what is stored under its ID already.
func (b *Backend) store(s *snapshot, owner map[string]string) (sandboxer.Snapshot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.stored(s.key, time.Now().UnixNano()); old != nil {
		switch {
		case !old.ours(owner):
			return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the snapshot %s exists at %s and belongs to somebody else", s.ID, where(s.key)))
		case !b.broken(SnapshotForgotten):
			old.appears = 0
			return old.Snapshot, nil
		}
		s.key.name += "~again"
	}
	b.snapshots[s.key] = s
	return s.Snapshot, nil
}

// stateOf is what a snapshot's State holds.
func stateOf(uid int64) []byte { return fmt.Appendf(nil, `{"uid":%d}`, uid) }

func digestOf(ctx context.Context, tree *memfs.FS) (size int64, digest string, err error) {
	h := sha256.New()
	n := &counter{w: h}
	if err := tree.Archive(ctx, "/", n, memfs.TarOptions{}); err != nil {
		return 0, "", err
	}
	return n.n, "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore creates a sandbox with the files of a snapshot.
func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	return e.create(ctx, sandboxer.OpRestore, req, &s)
}

// contentOf makes the inside of a sandbox from a stored snapshot.
func (e *extension) contentOf(s sandboxer.Snapshot, host, payer string) (*world, error) {
	k := key{e.id, host, s.ID}
	now := time.Now().UnixNano()
	e.b.mu.Lock()
	found := e.b.stored(k, now)
	e.b.mu.Unlock()
	if found == nil || now < found.appears || found.payer != payer || !found.ours(s.Labels) {
		return nil, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("the snapshot %s is not found at %s", s.ID, where(k)))
	}
	tree := found.fs.Clone()
	if e.b.broken(SnapshotLosesFiles) {
		if all, err := tree.ReadDir(Workspace); err == nil && len(all) > 0 {
			_ = tree.Remove(path.Join(Workspace, all[len(all)-1].Name), true)
		}
	}
	return newWorld(tree), nil
}

func snapshotCall(op sandboxer.Op, t sandboxer.SnapshotTarget) sandboxer.Call {
	return sandboxer.Call{Op: op, Host: hostOf(t), ID: sandboxer.ID(t.Snapshot.ID), Consumer: t.Consumer}
}

func hostOf(t sandboxer.SnapshotTarget) string {
	if t.Host.ID != "" {
		return t.Host.ID
	}
	return t.Snapshot.Host
}

// DeleteSnapshot removes a stored snapshot, by ID.
func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	return e.plain(seen(e.call(ctx, snapshotCall(sandboxer.OpDeleteSnapshot, t), func(x hit) error {
		payer, err := e.authorize(ctx, t.Secret)
		if err != nil {
			return err
		}
		if len(t.Snapshot.State) == 0 && e.b.broken(SnapshotNeedsState) {
			return sandboxer.Mark(sandboxer.InvalidArgument, errors.New("the snapshot has no state"))
		}
		k, now := key{e.id, hostOf(t), t.Snapshot.ID}, time.Now().UnixNano()
		lag := int64(e.b.behaviour.Load().ListLag)
		e.b.mu.Lock()
		defer e.b.mu.Unlock()
		s := e.b.stored(k, now)
		switch {
		case s == nil || now < s.appears:
			if e.b.broken(SnapshotDeleteOnce) {
				return sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("the snapshot %s is gone", k.name))
			}
			return nil
		case !s.ours(t.Snapshot.Labels), e.b.broken(SnapshotDeleteLies):
			return nil
		case s.payer != payer:
			return sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("the snapshot %s is not found at %s, or not with this key", k.name, where(k)))
		case len(t.Snapshot.State) == 0 && now < s.CreatedAt.UnixNano()+lag:
			return later(time.Duration(s.CreatedAt.UnixNano()+lag-now), fmt.Errorf("the snapshot %s is not listed yet at %s", k.name, where(k)))
		case x.linger > 0:
			s.goneAt = now + int64(x.linger)
			return nil
		}
		e.b.unstore(k, time.Unix(0, now).UTC())
		return nil
	})))
}

// ListSnapshots yields the stored snapshots that carry an owner's label, by ID.
func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		var all []sandboxer.Snapshot
		err := e.call(ctx, sandboxer.Call{Op: sandboxer.OpListSnapshots, Host: q.Host.ID, Consumer: q.Consumer}, func(hit) (err error) {
			all, err = e.listSnapshots(ctx, q)
			return err
		})
		if isLost(err) {
			all = all[:len(all)/2]
		}
		for _, s := range all {
			if !yield(s, nil) {
				return
			}
		}
		if err != nil {
			yield(sandboxer.Snapshot{}, e.plain(seen(err)))
		}
	}
}

func (e *extension) listSnapshots(ctx context.Context, q sandboxer.ListQuery) ([]sandboxer.Snapshot, error) {
	payer, err := e.authorize(ctx, q.Secret)
	if err != nil || e.b.broken(SnapshotsUnlisted) {
		return nil, err
	}
	x, now := e.b.behaviour.Load(), time.Now().UnixNano()
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	var out []sandboxer.Snapshot
	for k := range e.b.snapshots {
		s := e.b.stored(k, now)
		if s == nil || k.extension != e.id || q.Host.ID != "" && k.host != q.Host.ID || s.payer != payer || now < s.appears ||
			now < s.CreatedAt.UnixNano()+int64(x.ListLag) || x.Unlisted != nil && x.Unlisted(k.name) ||
			s.Labels[sandboxer.LabelOwner] == "" || !newLabels(s.Labels).match(q.Labels) {
			continue
		}
		out = append(out, s.Snapshot)
	}
	slices.SortFunc(out, func(a, b sandboxer.Snapshot) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// ExportSnapshot writes a snapshot's files as tar.
func (e *extension) ExportSnapshot(ctx context.Context, t sandboxer.SnapshotTarget, w io.Writer) error {
	return e.plain(seen(e.call(ctx, snapshotCall(sandboxer.OpExportSnapshot, t), func(hit) error {
		payer, err := e.authorize(ctx, t.Secret)
		if err != nil {
			return err
		}
		content, err := e.contentOf(t.Snapshot, hostOf(t), payer)
		if err != nil {
			return err
		}
		defer content.end()
		return content.fs.Archive(ctx, "/", w, memfs.TarOptions{})
	})))
}

// ImportSnapshot stores the tar under t's ID and host once its digest is right.
func (e *extension) ImportSnapshot(ctx context.Context, t sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	var out sandboxer.Snapshot
	err := e.plain(seen(e.call(ctx, snapshotCall(sandboxer.OpImportSnapshot, t), func(hit) error {
		payer, err := e.authorize(ctx, t.Secret)
		if err != nil {
			return err
		}
		var raw bytes.Buffer
		if _, err := raw.ReadFrom(r); err != nil {
			return fmt.Errorf("reading the snapshot %s: %w", t.Snapshot.ID, err)
		}
		sum := sha256.Sum256(raw.Bytes())
		digest := "sha256:" + hex.EncodeToString(sum[:])
		if t.Snapshot.Digest != "" && t.Snapshot.Digest != digest && !e.b.broken(ImportUnverified) {
			return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the snapshot %s arrived with digest %s instead of %s; export it again", t.Snapshot.ID, digest, t.Snapshot.Digest))
		}
		size := int64(raw.Len())
		tree := memfs.New()
		if err := tree.Extract(ctx, "/", &raw, memfs.TarOptions{}); err != nil {
			return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the snapshot %s: %w", t.Snapshot.ID, err))
		}
		s := &snapshot{key: key{e.id, hostOf(t), t.Snapshot.ID}, payer: payer, fs: tree, Snapshot: t.Snapshot}
		s.Extension, s.Host, s.Status, s.Kind = e.id, s.key.host, sandboxer.SnapshotReady, "filesystem"
		s.SizeBytes, s.Digest, s.CreatedAt, s.State = size, digest, time.Now().UTC(), stateOf(e.b.uid.Add(1))
		s.Labels = newLabels(t.Snapshot.Labels).toMap()
		out, err = e.b.store(s, t.Snapshot.Labels)
		return err
	})))
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	return out, nil
}
