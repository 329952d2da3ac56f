package composessh_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// oneService is the smallest stack.
const oneService = `
services:
  app:
    image: ` + hosttest.Image + `
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    volumes: [".:/src"]
`

// world is a Manager over real hosts.
type world struct {
	t     testing.TB
	hosts []*hosttest.Host
	m     *manager.Manager
	store store.Store
	cfg   manager.Config
}

// place is where a host keeps sandboxes of these tests, below the login directory of its own server.
const place = "stacks"

// newWorld opens a Manager over the hosts. config is more of the extension's configuration.
func newWorld(t testing.TB, repo, config string, hosts ...*hosttest.Host) *world {
	t.Helper()
	w := &world{t: t, hosts: hosts, store: store.Memory()}
	reg, err := registry.New(registry.WithAdapters(adapter("  root: "+place+"\n"+config)), registry.WithProfiles(sandboxer.Profile{
		ID: "profile.stack", Extension: "ext.compose-ssh", Inputs: sandboxer.Inputs{"repo": repo}, ReadyTimeout: time.Minute,
	}))
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = manager.Config{Registry: reg, Store: w.store, Secrets: keys(hosts), ReapInterval: -1, TeardownTimeout: time.Minute}
	for _, h := range hosts {
		w.cfg.Hosts = append(w.cfg.Hosts, known(h))
	}
	w.open()
	t.Cleanup(func() {
		if err := w.m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	m, err := manager.New(context.Background(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

// known is a host with a key of its own.
func known(h *hosttest.Host) sandboxer.Host {
	host := h.Host()
	host.Credential = sandboxer.SecretRef("key-of-" + host.ID)
	return host
}

// keys gives out the key of the host whose reference is asked for.
type keys []*hosttest.Host

func (k keys) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{Key: "1"}, nil
}

func (k keys) Secret(ctx context.Context, ref sandboxer.SecretRef, _ sandboxer.Payer) (sandboxer.Secret, error) {
	for _, h := range k {
		if known(h).Credential == ref {
			return h.Secret(ctx, h.Host().Credential)
		}
	}
	return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, os.ErrNotExist)
}

func (w *world) request() sandboxer.CreateRequest {
	return sandboxer.CreateRequest{Profile: "profile.stack", Consumer: sandboxer.Consumer{ID: "test"}, TTL: 10 * time.Minute}
}

func (w *world) create(req sandboxer.CreateRequest) *manager.Sandbox {
	w.t.Helper()
	sb, err := w.m.Create(context.Background(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if _, err := sb.Teardown(context.Background()); err != nil {
			w.t.Errorf("teardown: %v", err)
		}
	})
	return sb
}

// nothingLeft fails the test where a host has anything of a sandbox.
func nothingLeft(t testing.TB, h *hosttest.Host, id sandboxer.ID) {
	t.Helper()
	for _, r := range h.Resources(string(id)) {
		t.Errorf("left on %s: %s", h.Host().ID, r)
	}
	// What fences a name stays for some seconds on purpose.
	for _, pattern := range []string{string(id) + "*", ".[nt]*" + string(id) + "*"} {
		found, err := filepath.Glob(filepath.Join(h.Server.Home, place, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("left on %s: %s", h.Host().ID, f)
		}
	}
}

func output(t testing.TB, sb *manager.Sandbox, argv ...string) string {
	t.Helper()
	out, err := sb.Output(context.Background(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestStatus: what a sandbox says of itself, and that its stack is what the file and the profile say.
func TestStatus(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	w := newWorld(t, repository(t, threeServices), "", h)
	req := w.request()
	req.Inputs = sandboxer.Inputs{"service": "app", "sandbox_id": "a-stack-of-three"}
	sb := w.create(req)
	st, err := sb.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := st.Reachability
	if st.ID != "a-stack-of-three" || r == nil || r.RemoteDir != "/src" || r.ComposeProject != "a-stack-of-three" || r.Host != h.Host().ID ||
		!strings.HasPrefix(r.SSH, "ssh://") || r.ExpiresAt.IsZero() || len(r.Endpoints) != 1 || r.Endpoints[0].Port != 80 {
		text, _ := json.Marshal(st)
		t.Fatalf("the status is %s", text)
	}
	conn, err := h.Dial(context.Background(), "tcp", strings.TrimPrefix(r.Endpoints[0].URL, "tcp://"))
	if err != nil {
		t.Fatalf("the published port cannot be reached on the host: %v", err)
	}
	_ = conn.Close() // it was there
	other, err := sb.Dial(context.Background(), "tcp", "web:80")
	if err != nil {
		t.Fatalf("another service cannot be dialled: %v", err)
	}
	_ = other.Close() // it was there
	if _, err := sb.Dial(context.Background(), "tcp", "192.0.2.1:80"); sandboxer.CodeOf(err) != sandboxer.PermissionDenied {
		t.Errorf("dialling a stranger: %v", err)
	}
	res, err := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"test", "-e", "/tmp/up"}, Service: "db"})
	if err != nil || res.ExitCode != 0 {
		t.Errorf("the database's file is not seen in its container: %v, %v", res, err)
	}
	if res, err = sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"test", "-e", "/tmp/up"}}); err != nil || res.ExitCode != 1 {
		t.Errorf("the database's file is seen in the main service: %v, %v", res, err)
	}
	if _, err := sb.Teardown(context.Background()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, h, sb.ID())
}

// TestServiceThatEnds: a create fails at once, with the last lines of the log, and leaves nothing.
func TestServiceThatEnds(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	for name, c := range map[string]struct{ service, want, log string }{
		"exits":             {`command: [sh, -c, "echo line of a log; exit 3"]`, "exit code 3", "line of a log"},
		"turns unhealthy":   {"command: [sh, -c, \"echo line of a log; sleep 100\"]\n    init: true\n    healthcheck: {test: [CMD, \"false\"], interval: 200ms, retries: 2}", "unhealthy", "line of a log"},
		"cannot be started": {`command: [no-such-program-at-all]`, "no-such-program-at-all", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := repository(t, "services:\n  app:\n    image: "+hosttest.Image+"\n    "+c.service+"\n")
			w := newWorld(t, repo, "", h)
			req := w.request()
			req.ID = sandboxer.NewID()
			begun := time.Now()
			_, err := w.m.Create(context.Background(), req)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("the create failed with: %v", err)
			}
			if !strings.Contains(err.Error(), c.log) {
				t.Errorf("the error does not show the log: %v", err)
			}
			if took := time.Since(begun); took > 40*time.Second {
				t.Errorf("it took %v, which is the time limit and not the end of the service", took)
			}
			nothingLeft(t, h, req.ID)
		})
	}
}

// TestStubbornService: a container that ignores SIGTERM costs the configured grace and no more.
func TestStubbornService(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	w := newWorld(t, repository(t, strings.Replace(oneService, "trap 'exit 0' TERM", "trap '' TERM", 1)), "", h)
	sb := w.create(w.request())
	begun := time.Now()
	rep, err := sb.Teardown(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 9*time.Second { // an engine's own grace is 10 s; ours is 1 s here
		t.Errorf("the teardown took %v", took)
	}
	if !strings.Contains(strings.Join(rep.Removed, ","), "container "+string(sb.ID())+"-app-1") {
		t.Errorf("the report is %v", rep)
	}
	nothingLeft(t, h, sb.ID())
}

// TestLifetimeOnTheHost: a stack whose Manager is gone is removed by its host when its time has passed, and not before; also where
// the login may not remove what containers wrote.
func TestLifetimeOnTheHost(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 2, hosttest.Kind{Login: hosttest.Member})
	ext := build(t, adapter("  root: "+place+"\n"))
	req := provisionRequest(h, repository(t, oneService))
	req.ExpiresAt = time.Now().Add(25 * time.Second)
	handle, err := ext.Provision(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ext.WaitReady(context.Background(), target(req, handle)); err != nil {
		t.Fatal(err)
	}
	later, err := ext.(sandboxer.Extender).Extend(context.Background(), target(req, handle), time.Now().Add(28*time.Second))
	if err != nil || time.Until(later) < 10*time.Second {
		t.Fatalf("extended until %v: %v", later, err)
	}
	if again, err := ext.(sandboxer.Extender).Extend(context.Background(), target(req, handle), time.Now()); err != nil || !again.Equal(later) {
		t.Fatalf("a lifetime was shortened to %v (%v)", again, err)
	}
	closeExt(t, ext)
	h.Server.Kill() // nobody is connected any more, and nobody can be
	begun := time.Now()
	for len(h.Resources(req.Name)) > 0 {
		if time.Since(begun) > 2*time.Minute {
			t.Fatalf("after two minutes there are still: %v", h.Resources(req.Name))
		}
		pause(t, 100*time.Millisecond)
	}
	if now := time.Now(); now.Before(later.Add(-2 * time.Second)) {
		t.Errorf("it was removed %v too early", later.Sub(now))
	}
	for {
		found, _ := filepath.Glob(filepath.Join(h.Server.Home, place, "*"))
		if len(found) == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("after a minute there are still: %v", found)
		}
		pause(t, 100*time.Millisecond)
	}
}

// TestFromHostToHost: a snapshot of one host is restored on another, with the same bytes, modes, times, links and volumes.
func TestFromHostToHost(t *testing.T) {
	t.Parallel()
	one, two := hosttest.Start(t, 1), hosttest.Start(t, 2)
	w := newWorld(t, repository(t, threeServices), "", one, two)
	req := w.request()
	req.Host, req.Inputs = one.Host().ID, sandboxer.Inputs{"service": "app"}
	first := w.create(req)
	output(t, first, "sh", "-c", `mkdir -p "odd names/sub" && printf 'x\001y' > "odd names/-a file" && ln "odd names/-a file" hard && ln -s ../gone "odd names/link" &&
		chmod 4751 hard && mkfifo fifo && chown 1234:4321 "odd names/sub" && chmod 1700 "odd names/sub" && touch -d @1000000000 hard && echo cached > /cache/file && mkdir /cache/empty`)
	if res, err := first.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo rows > /data/table; chown 70:70 /data/table"}, Service: "db"}); err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	before := listing(t, first)
	snap, err := first.Snapshot(context.Background(), sandboxer.SnapshotRequest{Name: "moved"})
	if err != nil {
		t.Fatal(err)
	}
	moved, err := w.m.TransferSnapshot(context.Background(), snap.ID, two.Host().ID)
	if err != nil {
		t.Fatal(err)
	}
	if moved.Digest != snap.Digest || moved.Host != two.Host().ID {
		t.Errorf("transferred: %+v of %+v", moved, snap)
	}
	again := w.request()
	again.FromSnapshot, again.Inputs = moved.ID, req.Inputs
	second := w.create(again)
	if st, err := second.Status(context.Background()); err != nil || st.Host != two.Host().ID {
		t.Fatalf("restored on %v: %v", st.Host, err)
	}
	if after := listing(t, second); after != before {
		t.Errorf("on the second host:\n%s\nand on the first:\n%s", after, before)
	}
	if res, err := second.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"sh", "-c", `[ "$(cat /data/table)" = rows ] && [ "$(stat -c %u:%g /data/table)" = 70:70 ]`}, Service: "db"}); err != nil || res.ExitCode != 0 {
		t.Errorf("the database's volume did not travel: %v, %v", res, err)
	}
	for _, id := range []string{snap.ID, moved.ID} {
		if err := w.m.DeleteSnapshot(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
}

// listing is everything of the workspace and the volume that a stack can see of it, times to the nanosecond.
func listing(t testing.TB, sb *manager.Sandbox) string {
	t.Helper()
	return output(t, sb, "sh", "-c", `cd / && find src cache ! -path src/compose.yaml | sort | while IFS= read -r f; do stat -c '%n %F %a %u:%g %s %h' "$f"; [ -d "$f" ] || stat -c '%y' "$f"; [ ! -h "$f" ] || readlink "$f"; [ ! -f "$f" ] || md5sum <"$f"; done`)
}
