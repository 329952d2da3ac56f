package composessh_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestBuilt: where the operator allows it, services are built from the repository; a snapshot brings the repository back and
// builds anew; the images go with their sandboxes.
func TestBuilt(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]hosttest.Kind{"root": {}, "not root": {Login: hosttest.Member}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			built(t, hosttest.StartKind(t, 1, kind))
		})
	}
}

func built(t *testing.T, h *hosttest.Host) {
	t.Helper()
	repo := repository(t, "services:\n  app:\n    build: .\n    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.2; done\"]\n    volumes: [\".:/src\", \"kept:/kept\"]\nvolumes: {kept: {}}\n")
	write(t, filepath.Join(repo, "Dockerfile"), "FROM "+hosttest.Image+"\nCOPY version /version\n")
	write(t, filepath.Join(repo, "version"), "one\n")
	w := newWorld(t, repo, "  policy: build-allowed\n", h)
	first := w.create(w.request())
	if got := output(t, first, "cat", "/version"); got != "one\n" {
		t.Errorf("the image says %q", got)
	}
	output(t, first, "sh", "-c", "echo two > version; echo x > /kept/file; mkdir -p closed/sub; echo y > closed/sub/file; chown 1234:4321 closed/sub/file; chmod 700 closed")
	const owners = "stat -c '%u:%g %a' version closed closed/sub/file"
	before := output(t, first, "sh", "-c", owners)
	snap, err := first.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req := w.request()
	req.FromSnapshot = snap.ID
	second := w.create(req)
	if got := output(t, second, "cat", "/version", "version", "/kept/file"); got != "two\ntwo\nx\n" {
		t.Errorf("the restored sandbox says %q", got)
	}
	if after := output(t, second, "sh", "-c", owners); after != before || !strings.HasSuffix(after, "0:0 700\n1234:4321 644\n") {
		t.Errorf("the restored files belong to %q, and before to %q", after, before)
	}
	for _, id := range []sandboxer.ID{first.ID(), second.ID()} {
		if !strings.Contains(strings.Join(h.Resources(string(id)), ","), "image ") {
			t.Errorf("%s has no image of its own: %q", id, h.Resources(string(id)))
		}
	}
	// Another stack of the engine cannot use what the first one built: it does not know what it is called.
	thief := newWorld(t, repository(t, strings.ReplaceAll(oneService, hosttest.Image, string(first.ID())+"-app")+"    pull_policy: never\n"), "", h)
	if sb, err := thief.m.Create(context.Background(), thief.request()); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("a stack of another sandbox's image: %v, %v", sb, err)
	}
	// Somebody uses the first one's image for a moment, as a removal by a login that is not root does.
	image := strings.Fields(h.Docker("images", "-q", "--filter", "label=sandboxer-name="+string(first.ID())))
	h.Docker("run", "-d", "--rm", "--init", "--label", "sandboxer-name=other", "--label", "sandboxer-owner=other", image[0], "sleep", "2")
	for _, sb := range []interface {
		Teardown(context.Context) (sandboxer.CleanupReport, error)
		ID() sandboxer.ID
	}{first, second} {
		if _, err := sb.Teardown(context.Background()); err != nil {
			t.Error(err)
		}
		nothingLeft(t, h, sb.ID())
	}
	if err := w.m.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Error(err)
	}
}
