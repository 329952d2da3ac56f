package composessh

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// parts are the files of a snapshot, in the order of the stream that carries it.
var parts = []string{"compose.name", "compose", "data"}

const maxCompose = 2 << 20

// ExportSnapshot writes the files of a snapshot as a tar stream.
func (e *extension) ExportSnapshot(ctx context.Context, from sandboxer.SnapshotTarget, w io.Writer) error {
	h, err := e.hostOfSnapshot(ctx, from.Host, from.Secret, from.Snapshot)
	if err != nil {
		return err
	}
	if _, err := h.stored(ctx, from.Snapshot); err != nil {
		return err
	}
	out, errs := archive.NewWriter(ctx, w), &lines{ctx: context.WithoutCancel(ctx)}
	req := h.script(`cd "$ROOT/.snapshots/$1" && shift && exec tar --format=posix -cf - -- "$@"`, append([]string{from.Snapshot.ID}, parts...)...)
	req.Stdout, req.Stderr = out, errs
	res, err := h.conn.Receive(ctx, req)
	_ = out.Close() // ends its goroutine; it holds nothing back
	if err == nil && res.ExitCode != 0 {
		err = h.failed("reading it", []byte(errs.text()))
	}
	if err != nil {
		return fmt.Errorf("exporting snapshot %s: %w", from.Snapshot.ID, err)
	}
	return nil
}

const importScript = `
new=$1
mkdir -p "$new" && tar -C "$new" -xf - --no-same-owner || { rm -rf "$new"; exit 1; }
durable "$new"/* || { rm -rf "$new"; exit 1; }
wc -c <"$new/data"
`

// ImportSnapshot stores what ExportSnapshot wrote. The digest in to.Snapshot is verified on the host before the snapshot is
// visible; without one, the content's own becomes the snapshot's.
func (e *extension) ImportSnapshot(ctx context.Context, to sandboxer.SnapshotTarget, r io.Reader) (sandboxer.Snapshot, error) {
	s, h, err := e.arriving(ctx, to)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	got, err := e.admitting(ctx, h, s, func(dir string) (string, error) { return h.receive(ctx, dir, r) })
	if err != nil {
		return sandboxer.Snapshot{}, fmt.Errorf("importing snapshot %s to host %s: %w", s.ID, h.conn, err)
	}
	return got, nil
}

// receive stores a stream of ExportSnapshot in a new directory, and returns the size of its data.
func (h *host) receive(ctx context.Context, dir string, r io.Reader) (string, error) {
	in := archive.NewReader(ctx, r)
	defer func() { _ = in.Close() }() // ends its goroutine
	pr, pw := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := pass(pw, in, h.zstd)
		checked <- err
		_ = pw.CloseWithError(err) // nil: the end
	}()
	out, errs := &lines{ctx: ctx, stage: "import"}, &lines{ctx: context.WithoutCancel(ctx)}
	req := h.script(importScript, dir)
	req.Stdin, req.Stdout, req.Stderr = pr, out, errs
	res, err := h.conn.Send(ctx, req)
	_ = pr.CloseWithError(io.ErrClosedPipe) // whoever still writes need not
	bad := <-checked
	switch {
	case err == nil && res.ExitCode != 0:
		err = h.failed("storing it", []byte(errs.text()))
	case bad != nil && !errors.Is(bad, io.ErrClosedPipe):
		err = bad
	}
	return out.text(), err
}

// admit verifies what has arrived and makes it visible.
func (e *extension) admit(ctx context.Context, h *host, dir string, s sandboxer.Snapshot, size string) (sandboxer.Snapshot, error) {
	if _, err := fmt.Sscan(size, &s.SizeBytes); err != nil {
		return s, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("the host did not say how much arrived: %q", size))
	}
	want := s.Digest
	if want == "" {
		out, err := h.long(ctx, "reading its digest", verifyScript, dir, "sha256:none")
		if err != nil {
			return s, err
		}
		_, rest, _ := strings.Cut(out, "its digest is ")
		want, _, _ = strings.Cut(rest, " ")
		s.Digest = want
	}
	if !digestText.MatchString(want) {
		return s, sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("%q is no digest", want))
	}
	out, err := h.long(ctx, "verifying it", verifyScript, dir, want)
	if err != nil {
		return s, err
	}
	if out = strings.TrimSpace(out); out != "ok" {
		return s, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%w: %s", errDamaged, out))
	}
	s.Extension, s.Status, s.Kind = e.id, sandboxer.SnapshotReady, kindWorkspace
	if s.CreatedAt.IsZero() {
		s.CreatedAt = time.Now().UTC().Round(0)
	}
	return h.keep(ctx, dir, "", s)
}

// pass copies the parts of a snapshot, and refuses everything else.
func pass(w io.Writer, r io.Reader, zstd bool) error {
	bad := func(format string, args ...any) error {
		return sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...))
	}
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for i, name := range parts {
		h, err := in.Next()
		if err != nil {
			return bad("its stream ends before %s: %w", name, err)
		}
		if h.Name != name || h.Typeflag != tar.TypeReg || i < 2 && h.Size > maxCompose {
			return bad("its stream has %q in the place of %s", h.Name, name)
		}
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: h.Size, Mode: 0o600, Format: tar.FormatPAX}); err != nil {
			return err
		}
		head := make([]byte, min(4, h.Size))
		if _, err := io.ReadFull(in, head); err != nil {
			return bad("its stream ends within %s: %w", name, err)
		}
		if i == 2 && string(head) == "\x28\xb5\x2f\xfd" && !zstd {
			return sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it is compressed, and the host has no zstd; install it"))
		}
		if _, err := out.Write(head); err != nil {
			return err
		}
		n, err := io.Copy(out, in)
		if err != nil {
			return err
		}
		if n+int64(len(head)) != h.Size {
			return bad("its stream ends within %s", name)
		}
	}
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		return bad("something follows its end")
	}
	return out.Close()
}
