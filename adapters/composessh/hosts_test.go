package composessh_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
	"github.com/sand-boxer/sandboxer/manager"
)

// TestLoginIsNotRoot: a login that may use the engine, and nothing else, does all that root does, also with files that only root
// may touch: containers make them, and containers remove them.
func TestLoginIsNotRoot(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 1, hosttest.Kind{Login: hosttest.Member})
	w := newWorld(t, repository(t, threeServices), "", h)
	first := w.throughAll()
	claim := filepath.Join(h.Server.Home, place, string(first.ID()), "claim.json")
	if owner, err := exec.Command("stat", "-c", "%u", claim).Output(); err != nil || strings.TrimSpace(string(owner)) != strconv.Itoa(hosttest.LoginID) {
		t.Fatalf("the login is not the one that is meant: %q, %v", owner, err)
	}
	if got := output(t, first, "stat", "-c", "%u:%g", ".", "compose.yaml"); got != "0:0\n0:0\n" {
		t.Errorf("the workspace belongs to %q, and the service is root", got)
	}
	output(t, first, "sh", "-c", closed)
	before := listing(t, first)
	snap, err := first.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	removed(t, h, first)
	req := w.request()
	req.Inputs, req.FromSnapshot = sandboxer.Inputs{"service": "app"}, snap.ID
	second := w.create(req)
	if after := listing(t, second); after != before {
		t.Errorf("restored:\n%s\nand before:\n%s", after, before)
	}
	if err := w.m.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Error(err)
	}
	// Its container for files is gone, and a service writes until it is ended.
	write := sandboxer.ExecRequest{Command: []string{"sh", "-c", "mkdir busy; i=0; while :; do i=$((i+1)); mkdir -p busy/$i; :>busy/$i/file; done"}, Timeout: 30 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = second.Exec(context.Background(), write) // it ends with its sandbox
	}()
	h.Docker("rm", "-f", filesOf(h, second.ID()))
	removed(t, h, second)
	<-ended
	if left, _ := filepath.Glob(filepath.Join(h.Server.Home, place, ".snapshots", "*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// closed makes files that nobody but root, and a user of the image, can read or remove.
const closed = `mkdir -p closed/sub && echo x > closed/sub/file && chown 1234:4321 closed/sub/file && chmod 600 closed/sub/file &&
	chmod 700 closed/sub closed && ln -s /etc/shadow link && mkfifo fifo && echo cached > /cache/file && chmod 700 .`

// throughAll makes a sandbox of three services, of which one waits for the health of another, and uses it.
func (w *world) throughAll() *manager.Sandbox {
	t := w.t
	t.Helper()
	req := w.request()
	req.Inputs = sandboxer.Inputs{"service": "app"}
	sb := w.create(req)
	if got := output(t, sb, "sh", "-c", "id -u; cat; pwd"); got != "0\n/src\n" {
		t.Errorf("a command says %q", got)
	}
	tree := fstest.MapFS{
		"file":    {Data: []byte("text"), Mode: 0o640, ModTime: time.Unix(1e9, 5)},
		"dir/sub": {Data: []byte("more"), Mode: 0o755, ModTime: time.Unix(1e9, 6)},
	}
	if err := sb.CopyIn(context.Background(), "in", tree); err != nil {
		t.Fatal(err)
	}
	if err := sb.CopyIn(context.Background(), "/opt/of/the/image", tree); err != nil {
		t.Fatal(err)
	}
	if err := sb.Sync(context.Background(), "synced", tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "file")
	if err := sb.Sync(context.Background(), "synced", tree); err != nil {
		t.Fatal(err)
	}
	if got := output(t, sb, "sh", "-c", "cat in/file /opt/of/the/image/dir/sub; find synced -type f; stat -c '%u:%g %a' in/file"); got != "textmoresynced/dir/sub\n0:0 640\n" {
		t.Errorf("what was copied in is %q", got)
	}
	out := t.TempDir()
	if err := sb.CopyOut(context.Background(), "in", out); err != nil {
		t.Fatal(err)
	}
	if text, err := fs.ReadFile(os.DirFS(out), "dir/sub"); err != nil || string(text) != "more" {
		t.Errorf("what was copied out is %q: %v", text, err)
	}
	for _, to := range []string{"web:80", "localhost:4000"} {
		if to == "localhost:4000" { // the loopback interface alone
			output(t, sb, "sh", "-c", "nc -ll -p 4000 127.0.0.1 -e cat >/dev/null 2>&1 & until grep -q :0FA0 /proc/net/tcp; do usleep 20000; done")
		}
		conn, err := sb.Dial(context.Background(), "tcp", to)
		if err != nil {
			t.Errorf("dialling %s: %v", to, err)
			continue
		}
		_ = conn.Close() // it was there
	}
	if err := sb.Pause(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Resume(context.Background()); err != nil {
		t.Fatal(err)
	}
	return sb
}

// removed tears down, and looks that nothing is left.
func removed(t testing.TB, h *hosttest.Host, sb *manager.Sandbox) {
	t.Helper()
	if rep, err := sb.Teardown(context.Background()); err != nil {
		t.Errorf("%v\n%+v", err, rep)
	}
	nothingLeft(t, h, sb.ID())
}

// TestLoginMayNot: a login that may not use the engine is told so, and nothing is made.
func TestLoginMayNot(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 2, hosttest.Kind{Login: hosttest.Nobody})
	req := provisionRequest(h, repository(t, oneService))
	_, err := build(t, adapter("")).Provision(context.Background(), req)
	if sandboxer.CodeOf(err) != sandboxer.PermissionDenied || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "its engine does not answer") {
		t.Errorf("a login that may not use the engine: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(h.Server.Home, place)); err == nil {
		t.Errorf("it made %q", left)
	}
}

// TestStandaloneCompose: where Compose is a program of its own and docker has no such plugin.
func TestStandaloneCompose(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 2, hosttest.Kind{Standalone: true})
	w := newWorld(t, repository(t, threeServices), "", h)
	sb := w.throughAll()
	snap, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	before := listing(t, sb)
	removed(t, h, sb)
	req := w.request()
	req.Inputs, req.FromSnapshot = sandboxer.Inputs{"service": "app"}, snap.ID
	again := w.create(req)
	if after := listing(t, again); after != before {
		t.Errorf("restored:\n%s\nand before:\n%s", after, before)
	}
	removed(t, h, again)
	if err := w.m.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Error(err)
	}
	// A stack that cannot be started is an error, and not one that runs half.
	bad := newWorld(t, repository(t, fmt.Sprintf("services:\n  app:\n    image: %s\n    command: [no-such-program-at-all]\n", hosttest.Image)), "", h)
	req = bad.request()
	req.ID = sandboxer.NewID()
	if _, err := bad.m.Create(context.Background(), req); err == nil || !strings.Contains(err.Error(), "docker-compose could not start") || !strings.Contains(err.Error(), "no-such-program-at-all") {
		t.Errorf("a program that is not there: %v", err)
	}
	nothingLeft(t, h, req.ID)
}

// TestPodman: a host with podman's engine or podman's Compose is refused with the reason, and nothing is made.
func TestPodman(t *testing.T) {
	t.Parallel()
	const podman = `#!/bin/sh
case $1 in
--version) echo "podman version 4.3.1" ;;
version) echo 'Error: template: version:1:29: executing "version" at <.Server.Components>: nil pointer evaluating' >&2; exit 125 ;;
*) exit 0 ;;
esac`
	const compose = `#!/bin/sh
printf '%s\n' "['podman', '--version', '']" 'using podman version: 4.3.1' 'podman-composer version  1.0.3' 'podman version 4.3.1' 'exit code: 0'`
	old := "#!/bin/sh\necho 1.29.2\n" // hides one that the machine may have
	for name, c := range map[string]struct {
		kind  hosttest.Kind
		start func(testing.TB) string // an engine, and its socket
		want  []string
	}{
		"behind docker's client": {start: podmanEngine, want: []string{"its engine is podman 4.3.1 behind docker's client", "podman 4.3 names the volumes of other sandboxes", "install Docker Engine"}},
		"called docker": {
			kind: hosttest.Kind{Programs: map[string]string{"docker": podman}},
			want: []string{"its engine is podman version 4.3.1", "volumes of other sandboxes", "install Docker Engine"},
		},
		"its Compose": {
			kind: hosttest.Kind{Programs: map[string]string{"docker-compose": old, "podman-compose": compose}},
			want: []string{"its Compose is podman-compose 1.0.3", "does not wait", "install the package docker-compose-plugin"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hosttest.StartKind(t, 2, c.kind)
			req := provisionRequest(h, repository(t, oneService))
			if c.start != nil {
				req.Host.Options = sandboxer.Inputs{"docker_host": "unix://" + c.start(t)}
			}
			_, err := build(t, adapter("")).Provision(context.Background(), req)
			if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !sandboxer.IsRefused(err) {
				t.Fatalf("a host with podman: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if left, err := os.ReadDir(filepath.Join(h.Server.Home, place)); err == nil {
				t.Errorf("it made %q", left)
			}
			nothingLeft(t, h, req.ID)
		})
	}
}

// podmanEngine answers what podman 4.3.1 answers to docker's client when it asks who it is.
func podmanEngine(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pod") // a short name, for sockets have little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "podman.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Server", "Libpod/4.3.1 (linux)")
		if !strings.HasSuffix(r.URL.Path, "/version") {
			_, _ = io.WriteString(w, "OK")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"Platform":{"Name":"linux/amd64/debian-12"},"Components":[{"Name":"Podman Engine","Version":"4.3.1",`+
			`"Details":{"APIVersion":"4.3.1","MinAPIVersion":"4.0.0","Os":"linux"}},{"Name":"Conmon","Version":"conmon version 2.1.6, commit: unknown",`+
			`"Details":{"Package":"conmon_2.1.6+ds1-1_amd64"}}],"Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}`)
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }() // it ends with the test
	t.Cleanup(func() { _ = server.Close(); <-served })
	return socket
}
