package composessh_test

import (
	"context"
	"net"
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
)

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedBeforeAnythingExists: a Compose file that reaches for the host is refused with its line, and nothing is made.
func TestRefusedBeforeAnythingExists(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	w := newWorld(t, repository(t, oneService+"    privileged: true\n    volumes_from: [container:other]\n"), "", h)
	req := w.request()
	req.ID = sandboxer.NewID()
	_, err := w.m.Create(context.Background(), req)
	if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Fatalf("a hostile file: %v", err)
	}
	for _, want := range []string{"compose.yaml:7:", "services.app.privileged", "services.app.volumes_from"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	nothingLeft(t, h, req.ID)
}

// TestLinkThatLeads: a mount that is a link to somewhere else is seen on the host, where alone it can be, and nothing is left.
func TestLinkThatLeads(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	repo := repository(t, "services:\n  app:\n    image: "+hosttest.Image+"\n    command: [sleep, \"1000\"]\n    init: true\n    volumes: [\"./conf:/conf:ro\"]\n")
	if err := os.Symlink("/etc", filepath.Join(repo, "conf")); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, repo, "", h)
	req := w.request()
	req.ID = sandboxer.NewID()
	_, err := w.m.Create(context.Background(), req)
	if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !strings.Contains(err.Error(), "conf") || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a mount that leads out: %v", err)
	}
	nothingLeft(t, h, req.ID)
}

// TestMountedPaths: where single paths are mounted, the workspace is read-only for the service and for copies, and says why; a
// snapshot of it can be restored nevertheless.
func TestMountedPaths(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]hosttest.Kind{"root": {}, "not root": {Login: hosttest.Member}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mountedPaths(t, hosttest.StartKind(t, 2, kind))
		})
	}
}

func mountedPaths(t *testing.T, h *hosttest.Host) {
	t.Helper()
	repo := repository(t, "services:\n  app:\n    image: "+hosttest.Image+"\n    command: [sleep, \"1000\"]\n    init: true\n    volumes: [\"./conf:/conf:ro\"]\n")
	write(t, filepath.Join(repo, "conf", "a"), "a\n")
	w := newWorld(t, repo, "", h)
	sb := w.create(w.request())
	if got := output(t, sb, "cat", "conf/a", "/conf/a"); got != "a\na\n" {
		t.Errorf("it reads %q", got)
	}
	if res, err := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"touch", "x"}}); err != nil || res.ExitCode == 0 {
		t.Errorf("the workspace was written: %+v, %v", res, err)
	}
	err := sb.CopyIn(context.Background(), "", fstest.MapFS{"x": {Data: []byte("x")}})
	if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !strings.Contains(err.Error(), "mount the whole repository") {
		t.Errorf("a copy into it: %v", err)
	}
	err = sb.Sync(context.Background(), "", fstest.MapFS{"x": {Data: []byte("x")}})
	if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !strings.Contains(err.Error(), "mount the whole repository") {
		t.Errorf("a sync of it: %v", err)
	}
	if err := sb.CopyIn(context.Background(), "/tmp/elsewhere", fstest.MapFS{"x": {Data: []byte("x"), Mode: 0o644, ModTime: time.Unix(1e9, 0)}}); err != nil {
		t.Errorf("a copy to where the image's own tar writes: %v", err)
	}
	if got := output(t, sb, "sh", "-c", "cat /tmp/elsewhere/x; stat -c ' %Y' /tmp/elsewhere/x"); got != "x 1000000000\n" {
		t.Errorf("it arrived as %q", got)
	}
	snap, err := sb.Snapshot(context.Background(), sandboxer.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req := w.request()
	req.FromSnapshot = snap.ID
	again := w.create(req)
	if got := output(t, again, "sh", "-c", "cat conf/a /conf/a; touch x 2>/dev/null || stat -c '%u:%g' conf/a"); got != "a\na\n"+output(t, sb, "stat", "-c", "%u:%g", "conf/a") {
		t.Errorf("the restored one reads %q", got)
	}
	if got := h.Docker("inspect", "--format", "{{range .Mounts}}{{.Destination}}={{.RW}} {{end}}", filesOf(h, again.ID())); !strings.Contains(got, "/w=false") {
		t.Errorf("the restored one's container for files has %q", got)
	}
	if err := w.m.DeleteSnapshot(context.Background(), snap.ID); err != nil {
		t.Error(err)
	}
}

// TestSecretsOfAStack: a secret reaches a container, and no listing of processes, log or error of ours.
func TestSecretsOfAStack(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	const value = "tok-$HOME-with 'quotes'"
	w := newWorld(t, repository(t, `
services:
  app:
    image: `+hosttest.Image+`
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    environment: {GREETING: "hello ${NAME}"}
    secrets: [token]
  bad:
    image: `+hosttest.Image+`
    profiles: [bad]
    command: [sh, -c, "cat /run/secrets/token; exit 1"]
    secrets: [token]
secrets: {token: {environment: TOKEN}}
`), "", h)
	// The Manager of this test has one more secret.
	if err := w.m.Close(); err != nil {
		t.Fatal(err)
	}
	w.cfg.Secrets = more{keys(w.hosts), "tokens/app", value}
	w.cfg.Store, w.store = newStore(), nil
	w.open()
	req := w.request()
	req.Inputs = sandboxer.Inputs{"service": "app", "env": map[string]any{"NAME": "you"}, "secret_env": map[string]any{"TOKEN": "tokens/app"}}
	sb := w.create(req)
	if got := output(t, sb, "sh", "-c", "cat /run/secrets/token; echo; echo $GREETING"); got != value+"\nhello you\n" {
		t.Errorf("the container has %q", got)
	}
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), value) {
				t.Errorf("the secret is in %s", f)
			}
		}
	}
	req.Inputs["profiles"] = []any{"bad"}
	req.ID = ""
	_, err := w.m.Create(context.Background(), req)
	if err == nil || strings.Contains(err.Error(), value) || !strings.Contains(err.Error(), "redacted") {
		t.Errorf("the log of a service that printed its secret is shown as: %v", err)
	}
}

// TestBuildLeavesNothing: what the engine's old builder leaves goes with the sandbox, of builds that succeed, fail, or are cut off.
func TestBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	ext := build(t, adapter(""), "policy", "build-allowed")
	for what, text := range map[string]string{
		"succeeds":   "FROM " + hosttest.Image + " AS one\nRUN echo SECRET >/made\nFROM " + hosttest.Image + "\nCOPY --from=one /made /made\n",
		"fails":      "FROM " + hosttest.Image + " AS one\nRUN echo SECRET >/made\nFROM " + hosttest.Image + "\nCOPY --from=one /made /made\nRUN echo SECRET && false\n",
		"is cut off": "FROM " + hosttest.Image + "\nRUN echo SECRET && sleep 7778\n",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			req := provisionRequest(h, repository(t, "services:\n  app:\n    build: .\n    init: true\n    command: [sleep, \"100000\"]\n"))
			secret := "word-of-" + string(req.ID)
			write(t, filepath.Join(req.Inputs["repo"].(string), "Dockerfile"), strings.ReplaceAll(text, "SECRET", secret))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			containers := func() string {
				return h.Docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Status}} {{.Command}}")
			}
			if what == "is cut off" {
				ended := make(chan struct{})
				defer func() { <-ended }()
				go func() {
					defer close(ended)
					for !strings.Contains(containers(), secret) && ctx.Err() == nil {
						pause(t, 200*time.Millisecond)
					}
					cancel()
				}()
			}
			handle, err := ext.Provision(ctx, req)
			if (err == nil) != (what == "succeeds") {
				t.Errorf("it ended with %v", err)
			}
			if rep, err := ext.Teardown(context.Background(), target(req, handle)); err != nil {
				t.Errorf("%v\n%+v", err, rep)
			}
			nothingLeft(t, h, req.ID)
			if left := containers(); strings.Contains(left, secret) {
				t.Errorf("containers are left:\n%s", left)
			}
			for _, image := range strings.Fields(h.Docker("images", "-aq", "--no-trunc")) {
				said, err := h.Command(context.Background(), "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).Output() // another test may remove it
				if err == nil && strings.Contains(string(said), secret) {
					t.Errorf("the image %s is left:\n%s", image, said)
				}
			}
		})
	}
}

// TestSecretOfABuild: what a build prints when it fails is shown without the secrets that it was given.
func TestSecretOfABuild(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	const value = "s3cr3t-t0ken"
	req := provisionRequest(h, repository(t, "services:\n  app:\n    build: {context: ., args: {TOKEN: \"${TOKEN}\"}}\n"))
	write(t, filepath.Join(req.Inputs["repo"].(string), "Dockerfile"), "FROM "+hosttest.Image+"\nARG TOKEN\nRUN echo logging in with $TOKEN failed; exit 1\n")
	req.Inputs["secret_env"] = map[string]any{"TOKEN": "tokens/app"}
	key := req.Secret
	req.Secret = func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		if ref == "tokens/app" {
			return sandboxer.NewSecret([]byte(value), "1"), nil
		}
		return key(ctx, ref)
	}
	ext := build(t, adapter(""), "policy", "build-allowed")
	handle, err := ext.Provision(context.Background(), req)
	if err == nil || strings.Contains(err.Error(), value) || !strings.Contains(err.Error(), "redacted") {
		t.Errorf("a build that printed its secret is shown as: %v", err)
	}
	if rep, err := ext.Teardown(context.Background(), target(req, handle)); err != nil {
		t.Errorf("%v\n%+v", err, rep)
	}
}

// TestNamesOfAnEngine: two roots that share an engine do not get at each other's stacks, whatever these are called.
func TestNamesOfAnEngine(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	file := strings.Replace(oneService, `[".:/src"]`, `[".:/src", "data:/data"]`, 1) + "volumes: {data: {}}\n"
	one, other := build(t, adapter("")), build(t, adapter(""), "root", "elsewhere")
	req := provisionRequest(h, repository(t, file))
	started(t, one, req)
	all := func() string {
		return h.Docker("ps", "-a", "--no-trunc", "--filter", "name="+req.Name, "--format", "{{.ID}} {{.Names}} {{.State}}") + h.Docker("volume", "ls", "-q", "--filter", "name="+req.Name)
	}
	was := all()
	twin := provisionRequest(h, req.Inputs["repo"].(string))
	twin.ID, twin.Name = req.ID, req.Name
	twin.Labels = map[string]string{sandboxer.LabelID: string(req.ID), sandboxer.LabelName: req.Name, sandboxer.LabelOwner: "other.store"}
	handle, err := other.Provision(context.Background(), twin)
	if sandboxer.CodeOf(err) != sandboxer.AlreadyExists || !strings.Contains(err.Error(), req.Name) {
		t.Errorf("a name that another root has: %v", err)
	}
	if rep, err := other.Teardown(context.Background(), target(twin, handle)); err != nil {
		t.Errorf("%v\n%+v", err, rep)
	}
	if is := all(); is != was {
		t.Errorf("the first one's are now\n%s\nand were\n%s", is, was)
	}
}

// more is a source with one more secret.
type more struct {
	keys
	ref   sandboxer.SecretRef
	value string
}

func (m more) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	if ref == m.ref {
		return sandboxer.NewSecret([]byte(m.value), "1"), nil
	}
	return m.keys.Secret(ctx, ref, p)
}

// TestExpose: where ports are published to others, Expose says where, and the address answers.
func TestExpose(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	w := newWorld(t, repository(t, threeServices), "  publish_address: 0.0.0.0\n", h)
	req := w.request()
	req.Inputs = sandboxer.Inputs{"service": "web"}
	sb := w.create(req)
	e, err := sb.Expose(context.Background(), 80)
	if err != nil || e.Port != 80 || !strings.HasPrefix(e.URL, "tcp://") {
		t.Fatalf("exposed as %+v: %v", e, err)
	}
	conn, err := h.Dial(context.Background(), "tcp", strings.TrimPrefix(e.URL, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // it answers
	if _, err := sb.Expose(context.Background(), 81); sandboxer.CodeOf(err) != sandboxer.FailedPrecondition {
		t.Errorf("a port that nobody published: %v", err)
	}
}

// TestClonedRepository: the host clones, and the Compose file is judged as it stands there.
func TestClonedRepository(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	bare := filepath.Join(t.TempDir(), "base", "repo.git")
	work := repository(t, oneService)
	write(t, filepath.Join(work, "hello"), "from git\n")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("-C", work, "init", "-q", "-b", "main")
	git("-C", work, "add", ".")
	git("-C", work, "commit", "-q", "-m", "one")
	git("-C", work, "tag", "v1")
	write(t, filepath.Join(work, "hello"), "later\n")
	git("-C", work, "commit", "-q", "-a", "-m", "two")
	git("clone", "-q", "--bare", work, bare)
	port := h.FreePort()
	daemon := exec.CommandContext(t.Context(), "nsenter", "--net="+h.NetNS, "git", "daemon", "--export-all", "--reuseaddr", "--base-path="+filepath.Dir(bare),
		"--listen=127.0.0.1", "--port="+strconv.Itoa(port), filepath.Dir(bare))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	for begun := time.Now(); ; pause(t, 20*time.Millisecond) {
		conn, err := h.Dial(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close() // it listens
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("git's server does not come up")
		}
	}
	url := "git://127.0.0.1:" + strconv.Itoa(port) + "/repo.git"
	w := newWorld(t, url, "", h)
	req := w.request()
	req.Inputs = sandboxer.Inputs{"ref": "v1"}
	sb := w.create(req)
	if got := output(t, sb, "cat", "hello"); got != "from git\n" {
		t.Errorf("the workspace has %q", got)
	}
	for ref, code := range map[string]sandboxer.Code{"no-such-branch": sandboxer.InvalidArgument} {
		req := w.request()
		req.ID, req.Inputs = sandboxer.NewID(), sandboxer.Inputs{"ref": ref}
		_, err := w.m.Create(context.Background(), req)
		if sandboxer.CodeOf(err) != code || !strings.Contains(err.Error(), ref) {
			t.Errorf("the ref %s: %v", ref, err)
		}
		nothingLeft(t, h, req.ID)
	}
}

// TestWorkspaceBelongsToTheService: a service that is not root can write what was uploaded and what is copied in.
func TestWorkspaceBelongsToTheService(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	repo := repository(t, strings.Replace(oneService, "    volumes:", "    user: \"1234:4321\"\n    volumes:", 1))
	write(t, filepath.Join(repo, "dir", "file"), "x\n")
	w := newWorld(t, repo, "", h)
	sb := w.create(w.request())
	if err := sb.CopyIn(context.Background(), "new/sub", fstest.MapFS{"f": {Data: []byte("x"), Mode: 0o600}}); err != nil {
		t.Fatal(err)
	}
	got := output(t, sb, "sh", "-c", "echo y >> dir/file && echo y >> new/sub/f && mkdir new/made && stat -c '%u:%g' . dir/file new new/sub/f && id -u")
	if want := strings.Repeat("1234:4321\n", 4) + "1234\n"; got != want {
		t.Errorf("it is\n%s", got)
	}
}
