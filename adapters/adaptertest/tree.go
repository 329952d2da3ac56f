package adaptertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// entry is one file, directory or link of a tree that is copied.
type entry struct {
	name  string
	kind  byte // tar.TypeReg, tar.TypeDir, tar.TypeSymlink
	mode  int64
	mtime time.Time
	body  []byte
	link  string
}

func (e entry) String() string {
	switch e.kind {
	case tar.TypeDir:
		return fmt.Sprintf("directory, mode %04o, %s", e.mode, e.mtime.UTC().Format(time.RFC3339Nano))
	case tar.TypeSymlink:
		return fmt.Sprintf("link to %q", e.link)
	case tar.TypeReg:
		sum := sha256.Sum256(e.body)
		return fmt.Sprintf("file, mode %04o, %s, %d bytes, sha256 %x", e.mode, e.mtime.UTC().Format(time.RFC3339Nano), len(e.body), sum[:6])
	}
	return fmt.Sprintf("entry of type %q", e.kind)
}

// then is a time with nanoseconds that nothing rounds to by chance.
func then(n int) time.Time {
	return time.Date(2021, 3, 4, 5, 6, 7, 123456789, time.UTC).Add(time.Duration(n) * (time.Hour + time.Microsecond + time.Nanosecond))
}

func file(name string, mode int64, body []byte) entry {
	return entry{name: name, kind: tar.TypeReg, mode: mode, mtime: then(len(name)), body: body}
}

func dir(name string, mode int64) entry {
	return entry{name: name, kind: tar.TypeDir, mode: mode, mtime: then(len(name))}
}

func link(name, to string) entry {
	return entry{name: name, kind: tar.TypeSymlink, mode: 0o777, mtime: then(len(name)), link: to}
}

// sampleTree has one of everything that is kept.
func sampleTree() []entry {
	return []entry{
		dir("empty", 0o755), dir("sub", 0o750), dir("sub/deeper", 0o700), file("sub/deeper/text", 0o644, []byte("some text\n")),
		file("sub/run.sh", 0o755, []byte("#!/bin/sh\nexit 0\n")), file("read-only", 0o400, []byte("do not change")), file("nothing", 0o600, nil),
		file("binary", 0o644, everyByte()), link("sub/up", "../binary"), link("dangling", "no/such/thing"),
	}
}

// tarOf packs entries as they stand, also those that no honest packer would write.
func tarOf(t *trial, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, ModTime: e.mtime, Size: int64(len(e.body)), Linkname: e.link, Format: tar.FormatPAX}
		if e.kind == tar.TypeDir {
			h.Name += "/"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("packing %q: %v", e.name, err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatalf("packing %q: %v", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("packing: %v", err)
	}
	return out.Bytes()
}

// hugeHeader begins a file that is longer than any test.
func hugeHeader() []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 30, Format: tar.FormatPAX}) // a buffer takes it
	return out.Bytes()
}

// untar reads a stream back.
func untar(b []byte) ([]entry, error) {
	var out []entry
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		out = append(out, entry{name: h.Name, kind: h.Typeflag, mode: h.Mode & 0o7777, mtime: h.ModTime, body: body, link: h.Linkname})
	}
}

// index is a tree by clean names, without its root and without the parents that a packer may or may not write.
func index(entries []entry) map[string]string {
	out := map[string]string{}
	for _, e := range entries {
		if name := path.Clean(strings.TrimPrefix(e.name, "./")); name != "." {
			out[name] = e.String()
		}
	}
	return out
}

// diffTrees says how a tree differs from what it should be; "" for not at all.
func diffTrees(want, got []entry) string {
	w, g := index(want), index(got)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if have, ok := g[name]; !ok {
			out = append(out, fmt.Sprintf("%q is missing", name))
		} else if have != w[name] {
			out = append(out, fmt.Sprintf("%q is a %s instead of a %s", name, have, w[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[name]; !ok {
			out = append(out, fmt.Sprintf("%q, a %s, should not be there", name, g[name]))
		}
	}
	if len(out) > 8 {
		out = append(out[:8], fmt.Sprintf("and %d more", len(out)-8))
	}
	return strings.Join(out, "; ")
}

func files(t *trial, b *box) sandboxer.FileTransferer {
	t.Helper()
	x, ok := sandboxer.As[sandboxer.FileTransferer](b.ext)
	if !ok {
		t.Fatal("the extension is no FileTransferer")
	}
	return x
}

// copyIn copies entries, and must succeed.
func (t *trial) copyIn(b *box, dst string, entries []entry) {
	t.Helper()
	t.ok(fmt.Sprintf("CopyIn to %q", dst), t.tryCopyIn(b, dst, tarOf(t, entries...)))
}

func (t *trial) tryCopyIn(b *box, dst string, stream []byte) error {
	t.Helper()
	x := files(t, b)
	_, err := do(t, "CopyIn", only(func(ctx context.Context) error { return x.CopyIn(ctx, b.target, dst, bytes.NewReader(stream)) }))
	return err
}

// copyOut copies a tree out, and must succeed.
func (t *trial) copyOut(b *box, src string) []entry {
	t.Helper()
	got, err := t.tryCopyOut(b, src)
	t.ok(fmt.Sprintf("CopyOut of %q", src), err)
	return got
}

func (t *trial) tryCopyOut(b *box, src string) ([]entry, error) {
	t.Helper()
	x := files(t, b)
	var stream bytes.Buffer
	_, err := do(t, "CopyOut", only(func(ctx context.Context) error { return x.CopyOut(ctx, b.target, src, &stream) }))
	if err != nil {
		return nil, err
	}
	got, err := untar(stream.Bytes())
	if err != nil {
		t.broken("CopyOut of %q wrote something that is no tar: %v", src, err)
	}
	return got, nil
}
