package composessh_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestContainerForFiles: a stack gets it when it first needs it, and a restore from Compose; both make the same one, which may
// do nothing but what is done with files.
func TestContainerForFiles(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	w := newWorld(t, repository(t, oneService+"  other:\n    image: "+hosttest.Image+"\n    command: [sleep, '86400']\n    stop_signal: SIGKILL\n    volumes: [\"data:/data\"]\nvolumes: {data: {}, unused: {}}\n"), "", h)
	req := w.request()
	req.Inputs = sandboxer.Inputs{"service": "app"}
	first := w.create(req)
	if id := filesOf(h, first.ID()); id != "" {
		t.Errorf("the stack has %s before it needs it", id)
	}
	var group errgroup.Group // all need it first
	for _, name := range []string{"a", "b", "c", "d"} {
		group.Go(func() error {
			return first.CopyIn(context.Background(), "copied", fstest.MapFS{name: {Data: []byte("copied"), Mode: 0o644}})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if ids := strings.Fields(filesOf(h, first.ID())); len(ids) != 1 {
		t.Errorf("containers for files: %v", ids)
	}
	snap, err := first.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	again := w.request()
	again.FromSnapshot, again.Inputs = snap.ID, req.Inputs
	second := w.create(again)
	seen := func(id sandboxer.ID) string {
		at := h.Docker("inspect", "--format", `{{json .HostConfig.NetworkMode}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} {{json .HostConfig.CapDrop}} {{json .HostConfig.CapAdd}}
{{json .HostConfig.SecurityOpt}} {{json .HostConfig.PidsLimit}} {{json .HostConfig.RestartPolicy}} {{json .HostConfig.PidMode}} {{json .HostConfig.IpcMode}} {{json .HostConfig.UsernsMode}}
{{json .Config.User}} {{json .Config.WorkingDir}} {{json .Config.StopSignal}} {{json .Config.Healthcheck}} {{json .Config.Env}} {{.Name}} {{index .Config.Labels "sandboxer-owner"}} {{index .Config.Labels "sandboxer-id"}}
{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}
{{end}}`, filesOf(h, id))
		lines := strings.Split(strings.ReplaceAll(at, string(id), "NAME"), "\n")
		return strings.Join(append(lines[:3], slices.Sorted(slices.Values(lines[3:]))...), "\n")
	}
	one, two := seen(first.ID()), seen(second.ID())
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("the one that a restore has differs from the one that is made later (-later +restore):\n%s", diff)
	}
	image := h.Docker("inspect", "--format", "{{.Image}}", filesOf(h, first.ID()))
	if size := h.Docker("image", "inspect", "--format", "{{.Size}} {{len .RootFS.Layers}}", image); size != "0 1" {
		t.Errorf("its image is not empty: %s", size)
	}
	for _, want := range []string{`"none"`, "true false", `["ALL"]`, "no-new-privileges", "NAME_data /v/data true"} {
		if !strings.Contains(one, want) {
			t.Errorf("it has no %s:\n%s", want, one)
		}
	}
	// A connection that was lost while it packed, as that leaves it.
	half := filepath.Join(h.Server.Home, place, string(first.ID()), "out", snap.ID+".4242")
	if err := errors.Join(os.Mkdir(half, 0o700), os.WriteFile(filepath.Join(half, "data"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := w.m.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(half), "*")); len(left) > 0 {
		t.Errorf("left of snapshots: %v", left)
	}
}
