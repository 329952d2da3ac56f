package composessh_test

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestRestoreStaysInside: names and hard links of a snapshot's archive that lead out of the workspace write and read nothing of the
// host, also where the workspace is extracted before anything of the stack exists.
func TestRestoreStaysInside(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	ext := build(t, adapter(""))
	outside := t.TempDir() // nobody makes anything in it
	const file = "services:\n  app:\n    image: " + hosttest.Image + "\n    command: [sleep, '1000']\n    init: true\n    volumes: [\"./sub:/sub\"]\n"
	write(t, filepath.Join(outside, "secret"), "of the host\n")
	up := "w/../../../../../../../../.."
	for name, c := range map[string][]tar.Header{
		"names that tar takes": {{Name: "w/" + outside + "/made", Typeflag: tar.TypeReg, Size: 5}, {Name: outside + "/made", Typeflag: tar.TypeReg, Size: 5}},
		"names that it refuses": {
			{Name: up + outside + "/made", Typeflag: tar.TypeReg, Size: 5},
			{Name: "w/l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "w/l/made", Typeflag: tar.TypeReg, Size: 5},
		},
		"hard links": { // of which each would have the same name, if it were made
			{Name: "w/sub/h", Typeflag: tar.TypeLink, Linkname: "w/" + outside + "/secret"}, {Name: "w/sub/h", Typeflag: tar.TypeLink, Linkname: outside + "/secret"},
			{Name: "w/sub/h", Typeflag: tar.TypeLink, Linkname: up + outside + "/secret"},
			{Name: "w/l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "w/sub/h", Typeflag: tar.TypeLink, Linkname: "w/l/secret"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
			data := packed(t, append([]tar.Header{dir("w/"), dir("w/sub/")}, c...))
			part := func(name, text string) tar.Header {
				return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text)), PAXRecords: map[string]string{"TEST.text": text}}
			}
			stream := packed(t, []tar.Header{part("compose.name", "compose.yaml\n"), part("compose", file), part("data", data)})
			req := provisionRequest(h, "")
			req.Inputs = sandboxer.Inputs{}
			at := sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "of-" + req.Name, Labels: req.Labels}, Host: req.Host, Secret: req.Secret}
			mover := ext.(sandboxer.SnapshotTransferer)
			snap, err := mover.ImportSnapshot(context.Background(), at, strings.NewReader(stream))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := ext.(sandboxer.Snapshotter).DeleteSnapshot(context.Background(), at); err != nil {
					t.Error(err)
				}
			}()
			handle, err := ext.(sandboxer.Snapshotter).Restore(context.Background(), req, snap)
			t.Logf("restored: %v", err) // it may be refused, or what is restored lies inside
			if err != nil {
				handle = sandboxer.BareHandle(req.Ref())
			}
			if _, err := os.Stat(filepath.Join(outside, "made")); err == nil {
				t.Error("a file of the host was made")
			}
			if text, err := os.ReadFile(filepath.Join(h.Server.Home, place, req.Name, "workspace", "sub", "h")); err == nil && strings.Contains(string(text), "of the host") {
				t.Error("a file of the host is in the workspace")
			}
			if _, err := ext.Teardown(context.Background(), target(req, handle)); err != nil {
				t.Error(err)
			}
		})
	}
}

// packed is an archive; what a file of it holds is in a record of its header, or nothing that matters.
func packed(t *testing.T, headers []tar.Header) string {
	t.Helper()
	var out strings.Builder
	w := tar.NewWriter(&out)
	for _, h := range headers {
		text, ok := h.PAXRecords["TEST.text"]
		if !ok {
			text = strings.Repeat("x", int(h.Size))
		}
		h.PAXRecords, h.Mode = nil, 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
