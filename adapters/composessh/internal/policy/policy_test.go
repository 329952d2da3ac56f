package policy_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files")

// options are those of a stack in the tests; a single service needs no name.
func options(service string) policy.Options {
	return policy.Options{
		Name: "sbx-1-a1", Workspace: "/srv/ws", Service: service,
		Env:    map[string]string{"DB_PASSWORD": "hunter2$X", "API_KEY": "topsecret"},
		Labels: map[string]string{sandboxer.LabelID: "sbx-1", sandboxer.LabelOwner: "me.store"},
		Limits: policy.Limits{CPUMillis: 2000, MemoryBytes: 4 << 30, PIDs: 1000},
	}
}

func refusal(t *testing.T, err error) *policy.Error {
	t.Helper()
	if err == nil {
		t.Fatal("the file was accepted")
	}
	if !errors.Is(err, sandboxer.InvalidArgument) || !sandboxer.IsRefused(err) {
		t.Errorf("a refused file must be a refused InvalidArgument, not %v", err)
	}
	var e *policy.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is no policy.Error: %v", err, err)
	}
	return e
}

// TestHostile: every file of the corpus is refused under Strict, with the field that its first line names, at the line
// that is marked with "# here", within seconds.
func TestHostile(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/hostile/*.yaml")
	if len(files) < 100 {
		t.Fatalf("only %d files in the corpus", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(src), "\n")
			want := strings.TrimSpace(strings.TrimPrefix(head, "# refused:"))
			begun := spent()
			_, err = policy.Load(t.Context(), src, options(""))
			if d := spent() - begun; d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
			e := refusal(t, err)
			line := 0
			for n, text := range strings.Split(string(src), "\n") {
				if strings.HasSuffix(text, "# here") {
					line = n + 1
				}
			}
			for _, p := range e.Problems {
				if p.Field == want && (line == 0 || p.Line == line) && p.Why != "" {
					if strings.HasPrefix(want, "services.web.") && p.Service != "web" {
						t.Errorf("the problem names service %q", p.Service)
					}
					return
				}
			}
			t.Errorf("want %q at line %d, got:\n%v", want, line, err)
		})
	}
}

// TestFriendly: usual stacks pass, and what is sent is what the golden files say.
func TestFriendly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ file, service string }{{"web", "app"}, {"small", ""}, {"readonly", "web"}} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile("testdata/friendly/" + test.file + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			stack, err := policy.Load(t.Context(), src, options(test.service))
			if err != nil {
				t.Fatal(err)
			}
			golden := "testdata/friendly/" + test.file + ".golden.json"
			if *update {
				if err := os.WriteFile(golden, stack.JSON, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := os.ReadFile(golden)
			if diff := cmp.Diff(string(want), string(stack.JSON)); diff != "" {
				t.Error(diff)
			}
			again, err := policy.Load(t.Context(), stack.JSON, options(test.service))
			if err != nil {
				t.Fatalf("the canonical project is refused: %v", err)
			}
			if diff := cmp.Diff(string(stack.JSON), string(again.JSON)); diff != "" {
				t.Errorf("the canonical project is not its own canonical form: %s", diff)
			}
			if strings.Contains(string(stack.JSON), "topsecret") {
				t.Error("the value of a secret is in the canonical project")
			}
		})
	}
}

func TestStackSaysWhatTheHostMustKnow(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/friendly/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := options("app")
	o.Profiles = []string{"mail"}
	got, err := policy.Load(t.Context(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	got.JSON = nil
	want := &policy.Stack{
		Service: "app", Services: []string{"app", "db", "mail", "redis"}, Paths: []string{"."}, SecretEnv: []string{"API_KEY"},
		Dropped: []string{"compose.yaml:16:5: services.app.labels: labels steer other programs of the host (proxies, schedulers, updaters)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := policy.Load(t.Context(), []byte(`services:
  web:
    image: alpine
    privileged: true
    volumes: [/:/host]
  db:
    image: postgres
    pid: host
    build: ./db
    extends: {service: web}
include: [x.yaml]
`), options("web"))
	refusal(t, err)
	want := `invalid_argument: compose.yaml:4:5: service web: services.web.privileged: a privileged container is root on the host (the operator's policy "trusted" would allow it)
compose.yaml:5:15: service web: services.web.volumes[0].source: "/" is not in the workspace: only relative paths that stay below the Compose file's directory are mounted (the operator's policy "trusted" would allow it)
compose.yaml:8:5: service db: services.db.pid: "host": it can be a namespace of the host, or of a container of another stack; only service:<name> is taken (the operator's policy "trusted" would allow it)
compose.yaml:9:5: service db: services.db.build: what a Dockerfile runs, runs in the host's builder and outside of the sandbox's limits; use an image (the operator's policy "build-allowed" would allow it)
compose.yaml:10:5: service db: services.db.extends: it reads other files or services; write the service out
compose.yaml:11:1: include: it reads other files; write one file`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// project is what Compose reads in a canonical project.
type project struct {
	Services map[string]struct {
		Image        string
		PullPolicy   string `json:"pull_policy"`
		Build        map[string]any
		CPUs         float64
		MemLimit     string `json:"mem_limit"`
		Scale        *int
		Privileged   bool
		Environment  map[string]string
		EnvFile      []any `json:"env_file"`
		Ports        []map[string]any
		Volumes      []map[string]any
		Labels       map[string]string
		MemswapLimit string `json:"memswap_limit"`
	}
}

func accept(t *testing.T, src string, o policy.Options) (*policy.Stack, project) {
	t.Helper()
	stack, err := policy.Load(t.Context(), []byte(src), o)
	if err != nil {
		t.Fatal(err)
	}
	var p project
	if err := json.Unmarshal(stack.JSON, &p); err != nil {
		t.Fatal(err)
	}
	return stack, p
}

func TestBuildAllowed(t *testing.T) {
	t.Parallel()
	o := options("web")
	o.Policy, o.ImageTag = policy.BuildAllowed, "hard-to-guess"
	stack, p := accept(t, `services:
  web: {image: postgres, build: {context: ./app, dockerfile: ci/Dockerfile, args: {A: "1", HOME: }}}
  worker: {image: postgres}
`, o)
	if diff := cmp.Diff([]string{"app", "app/.dockerignore", "app/ci/Dockerfile", "app/ci/Dockerfile.dockerignore"}, stack.Paths); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"sbx-1-a1-web:hard-to-guess"}, stack.Images); diff != "" {
		t.Error(diff)
	}
	if p.Services["web"].Image != "sbx-1-a1-web:hard-to-guess" || p.Services["worker"].Image != "sbx-1-a1-web:hard-to-guess" {
		t.Errorf("a built image must not take the name of another: %s", stack.JSON)
	}
	if p.Services["web"].PullPolicy != "never" || p.Services["worker"].PullPolicy != "never" {
		t.Errorf("a registry would be asked for the name of the sandbox: %s", stack.JSON)
	}
	if p.Services["web"].Build["context"] != "/srv/ws/app" || strings.Contains(string(stack.JSON), "HOME") {
		t.Errorf("%s", stack.JSON)
	}
	for _, build := range []string{
		`{context: ..}`, `{context: /etc}`, `{context: https://evil.example/x.git}`, `{context: "git@evil:x"}`, `{context: "~/x"}`,
		`{context: ., dockerfile: /etc/passwd}`, `{context: ., dockerfile: ../../x}`, `{context: ., network: host}`, `{context: ., privileged: true}`,
		`{context: ., entitlements: [security.insecure]}`, `{context: ., ssh: [default]}`, `{context: ., cache_to: ["type=local,dest=/etc"]}`,
		`{context: ., cache_from: ["type=local,src=/etc"]}`, `{context: ., additional_contexts: {h: /}}`, `{context: ., tags: [postgres]}`,
		`{context: ., extra_hosts: ["a:1.1.1.1"]}`, `{context: ., ulimits: {nofile: 1}}`, `{context: ., platforms: [linux/arm64]}`,
	} {
		_, err := policy.Load(t.Context(), []byte("services:\n  web: {build: "+build+"}\n"), o)
		if e := refusal(t, err); !strings.HasPrefix(e.Problems[0].Field, "services.web.build.") || e.Problems[0].Line != 2 {
			t.Errorf("%s: %v", build, err)
		}
	}
}

func TestTrusted(t *testing.T) {
	t.Parallel()
	o := options("web")
	o.Policy = policy.Trusted
	stack, p := accept(t, `services:
  web:
    image: alpine
    privileged: true
    env_file: [conf/app.env]
    volumes: [/var/run/docker.sock:/var/run/docker.sock, ./x:/x]
    ports: ["0.0.0.0:80:80"]
`, o)
	web := p.Services["web"]
	if !web.Privileged || len(web.EnvFile) != 1 || web.Ports[0]["host_ip"] != "0.0.0.0" || web.Volumes[0]["source"] != "/var/run/docker.sock" || web.Volumes[1]["source"] != "/srv/ws/x" {
		t.Errorf("%s", stack.JSON)
	}
	if web.Labels[sandboxer.LabelOwner] != "me.store" {
		t.Errorf("labels: %v", web.Labels)
	}
	for _, name := range []string{"include", "extends"} {
		src, err := os.ReadFile("testdata/hostile/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		_, err = policy.Load(t.Context(), src, o)
		refusal(t, err)
	}
}

// TestCanonicalIsReadAgain: characters and values that JSON and YAML treat differently survive.
func TestCanonicalIsReadAgain(t *testing.T) {
	t.Parallel()
	o := options("web")
	o.Env["EMPTY"] = ""
	for _, src := range []string{
		`services: {web: {image: a, environment: ["a\x7f\x80\x85\x9f\uFEFF\uFFFE\u2028=\x7f\x80\x85\x9f\uFEFF\uFFFE\u2028"]}}`,
		`services: {web: {image: a, command: ["\uFEFFa", "\x85"], hostname: "\x7f"}}`,
		`services: {web: {image: a, environment: [` + strings.Repeat("k", 2000) + `=1]}}`,
		`services: {web: {image: a, environment: {Z: 0x7fffffffffffffffff, W: 2001-01-01, V: 1_000, U: 0o17, T: 1e3, S: yes, R: 1.10}}}`,
		`{services: {web: {image: a, configs: [c]}}, configs: {c: {content: ""}}}`,
		`{services: {web: {image: a, configs: [c]}}, configs: {c: {environment: EMPTY}}}`,
	} {
		stack, err := policy.Load(t.Context(), []byte(src), o)
		if err != nil {
			t.Error(err)
			continue
		}
		again, err := policy.Load(t.Context(), stack.JSON, o)
		if err != nil {
			t.Errorf("%v\n%s", err, stack.JSON)
		} else if diff := cmp.Diff(string(stack.JSON), string(again.JSON)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNoSecretInMessages(t *testing.T) {
	t.Parallel()
	o := options("")
	_, err := policy.Load(t.Context(), []byte("services:\n  web: {image: alpine, pid: '${API_KEY}', scale: '${API_KEY}', volumes: ['/${API_KEY}:/x']}\n"), o)
	refusal(t, err)
	if strings.Contains(err.Error(), "topsecret") {
		t.Error(err)
	}
	_, err = policy.Load(t.Context(), []byte("services:\n  web: {image: alpine, pid: '${API_KEY}', volumes: ['/${API_KEY}:/x']}\n"), o)
	refusal(t, err)
	if strings.Contains(err.Error(), "topsecret") || !strings.Contains(err.Error(), "${API_KEY}") {
		t.Error(err)
	}
}

func TestMainService(t *testing.T) {
	t.Parallel()
	const two = "services:\n  web: {image: a}\n  worker: {image: a}\n  db: {image: a, profiles: [x]}\n"
	for service, want := range map[string]string{
		"":    "the input service must say which of the services commands run in: web, worker",
		"wbe": `the input service is "wbe", and no such service is enabled; did you mean "web"?`,
		"db":  `the input service is "db", and no such service is enabled; did you mean "web"?`,
	} {
		_, err := policy.Load(t.Context(), []byte(two), options(service))
		if e := refusal(t, err); service != "db" && e.Problems[0].Why != want {
			t.Errorf("%q: %q", service, e.Problems[0].Why)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if p, err := policy.Parse(""); p != policy.Strict || err != nil {
		t.Error(p, err)
	}
	if _, err := policy.Parse("trust"); err == nil || !strings.Contains(err.Error(), `did you mean "trusted"?`) {
		t.Error(err)
	}
	for _, workspace := range []string{"", "relative", "/", "/a/../b", "/a/"} {
		o := options("")
		o.Workspace = workspace
		if _, err := policy.Load(t.Context(), []byte("services: {a: {image: a}}"), o); err == nil {
			t.Errorf("the workspace %q was taken", workspace)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := policy.Load(gone, []byte("services: {a: {image: a}}"), options("")); !errors.Is(err, sandboxer.Canceled) {
		t.Error(err)
	}
}
