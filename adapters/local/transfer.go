//go:build linux || darwin

package local

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// ExportSnapshot writes the content of a snapshot as it is stored: a tar stream compressed with zstd (RFC 8878).
func (e *extension) ExportSnapshot(ctx context.Context, from sandboxer.SnapshotTarget, w io.Writer) error {
	if err := ended(ctx); err != nil {
		return err
	}
	b, s, err := e.stored(from.Snapshot)
	if err != nil {
		return err
	}
	defer b.close()
	f, err := b.openContent(s)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	out := archive.NewWriter(ctx, w)
	_, err = io.Copy(out, f)
	_ = out.Close() // ends its goroutine; it holds nothing back
	if err != nil {
		return classify(fmt.Errorf("exporting snapshot %s: %w", s.ID, err))
	}
	return nil
}

// ImportSnapshot stores what ExportSnapshot wrote. With a digest in to.Snapshot, any other content is refused; without one,
// the content's own becomes the snapshot's.
func (e *extension) ImportSnapshot(ctx context.Context, to sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	s := to.Snapshot
	if err := ended(ctx); err != nil {
		return sandboxer.Snapshot{}, err
	}
	if err := checkSnapshotID(s.ID); err != nil {
		return sandboxer.Snapshot{}, err
	}
	if s.Kind != "" && s.Kind != kindWorkspace {
		return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("snapshot %s is one of %s; this extension keeps a %s only", s.ID, s.Kind, kindWorkspace))
	}
	b, err := openBase(e.cfg.Root, true)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	defer b.close()
	in, err := e.incoming(ctx, b)
	if err != nil {
		return sandboxer.Snapshot{}, fmt.Errorf("importing snapshot %s: %w", s.ID, err)
	}
	defer in.abandon()
	if err := receive(ctx, in, r, &s); err != nil {
		return sandboxer.Snapshot{}, classify(fmt.Errorf("importing snapshot %s: %w", s.ID, err))
	}
	s.Extension, s.Host, s.Status, s.Kind = e.id, to.Host.ID, sandboxer.SnapshotReady, kindWorkspace
	if s.CreatedAt.IsZero() {
		s.CreatedAt = time.Now().UTC()
	}
	if s.State, err = json.Marshal(state{Root: b.path}); err != nil {
		return sandboxer.Snapshot{}, err
	}
	s, err = e.keep(ctx, in, s)
	if err != nil {
		return sandboxer.Snapshot{}, fmt.Errorf("importing snapshot %s: %w", s.ID, err)
	}
	return s, nil
}

// receive writes what arrives, then reads it as a restore would, and completes s.
func receive(ctx context.Context, in *incoming, r io.Reader, s *sandboxer.Snapshot) error {
	src := archive.NewReader(ctx, r)
	n, err := io.Copy(in.f, src)
	_ = src.Close() // ends its goroutine
	if err != nil {
		return err
	}
	if _, err := in.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c, err := openContent(in.f)
	if err != nil {
		return damaged(err)
	}
	defer c.close()
	check := archive.NewReader(ctx, c)
	_, err = io.Copy(io.Discard, check)
	_ = check.Close() // as above
	if err != nil {
		return err
	}
	if s.Digest == "" {
		s.Digest = "sha256:" + hex.EncodeToString(c.sum.Sum(nil))
	}
	s.SizeBytes = n
	return c.verify(s.Digest)
}
