package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// load is policy.Load for the stage's project and workspace.
func (s *stage) load(src string, o policy.Options) *policy.Stack {
	s.t.Helper()
	o.Name, o.Workspace = s.project, s.ws
	o.Labels = map[string]string{"sandboxer-id": s.project}
	stack, err := policy.Load(s.t.Context(), []byte(src), o)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range stack.SecretEnv {
		s.env = append(s.env, name+"="+o.Env[name])
	}
	return stack
}

// everything is a stack with every field that an old engine has and that the policy allows.
const everything = `
services:
  web:
    image: IMAGE
    attach: true
    build: {context: ./app, dockerfile: ci/Dockerfile, args: {A: "x$$y"}, target: last, pull: false}
    cap_drop: [ALL]
    cgroup: private
    command: ["sleep", "300"]
    entrypoint: [/bin/sh, -c, 'exec "$$@"', sh]
    cpus: 0.5
    depends_on: {db: {condition: service_healthy, restart: true, required: true}}
    dns: [127.0.0.1]
    dns_opt: ["attempts:2"]
    dns_search: [example.com]
    domainname: example.com
    environment: {A: "1", B: "x$$y", C: ""}
    expose: ["80", "90-91"]
    extra_hosts: ["h:10.0.0.1", "v6:[::1]"]
    group_add: ["20", nogroup]
    healthcheck: {test: ["CMD", "true"], interval: 500ms, timeout: 3s, retries: 3, start_period: 1s}
    hostname: hosty
    init: true
    ipc: shareable
    links: [db, "db:alias"]
    logging: {driver: json-file, options: {max-size: 1m, max-file: "2", compress: "true"}}
    mem_limit: 64m
    mem_reservation: 32m
    networks: {front: {aliases: [w], priority: 10}, back: }
    oom_score_adj: 100
    pids_limit: 50
    platform: linux/amd64
    ports: ["80", "127.0.0.1::53/udp", {target: 81, name: web, app_protocol: http, mode: host}]
    pull_policy: missing
    restart: on-failure:3
    scale: 1
    security_opt: [no-new-privileges]
    shm_size: 64m
    stdin_open: true
    stop_grace_period: 2s
    stop_signal: SIGKILL
    sysctls: {net.core.somaxconn: 1024}
    tmpfs: [/run/x, "/tmp2:size=1m"]
    tty: true
    ulimits: {nofile: {soft: 200, hard: 200}, nproc: 100}
    user: "1000:1000"
    working_dir: /tmp
    volumes:
      - .:/src:ro
      - {type: bind, source: ./data, target: /data, consistency: cached, bind: {create_host_path: true, propagation: rprivate}}
      - ./made/here:/made
      - vol:/vol
      - {type: volume, source: vol, target: /vol2, volume: {nocopy: true}}
      - {type: tmpfs, target: /tmp, tmpfs: {size: 16m, mode: 0o1777}}
      - /anonymous
    configs: [c, {source: c, target: /etc/c, mode: 0444}, nothing]
    secrets: [s, {source: s, target: /run/s, mode: 0444}]
    deploy:
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 10s}
  db:
    image: IMAGE
    command: [sleep, "300"]
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD-SHELL", "test $$HOME"], interval: 500ms}
    networks: {back: {aliases: [postgres]}}
    scale: 2
  side:
    image: IMAGE
    command: [sleep, "300"]
    stop_signal: SIGKILL
    read_only: true
    network_mode: service:web
    pid: service:web
    ipc: service:web
networks: {front: {driver: bridge, enable_ipv4: true, ipam: {driver: default}}, back: {internal: true}}
volumes: {vol: {driver: local}}
configs: {c: {content: "a$$b ${API_KEY}"}, nothing: {content: ""}}
secrets: {s: {environment: API_KEY}}
`

// TestComposeReadsTheCanonicalProject: Compose makes of a canonical project what stands there, and nothing more: it is
// Compose's own canonical form.
func TestComposeReadsTheCanonicalProject(t *testing.T) {
	t.Parallel()
	files := map[string]string{"everything": everything}
	for _, name := range []string{"web", "small", "readonly"} {
		src, err := os.ReadFile(filepath.Join("testdata/friendly", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(src)
	}
	hosttest.Open(t, 1) // skips all at once
	for name, src := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 1)
			o := options(map[string]string{"web": "app", "small": ""}[name])
			if o.Service == "" && name != "small" {
				o.Service = "web"
			}
			o.Policy = policy.BuildAllowed
			stack := s.load(strings.ReplaceAll(src, "IMAGE", hosttest.Image), o)
			out, said, err := s.compose(stack.JSON, "config", "--format", "json")
			if err != nil {
				t.Fatal(err)
			}
			if said != "" {
				t.Errorf("Compose said: %s", said)
			}
			var sent, read map[string]any
			if err := json.Unmarshal(stack.JSON, &sent); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(out), &read); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(substance(sent), substance(read)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// substance is a tree without what says nothing.
func substance(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, item := range v {
			item = substance(item)
			if m, ok := item.(map[string]any); item == nil || item == "" || ok && len(m) == 0 {
				continue
			}
			if key == "deploy" { // Compose repeats the scale there
				delete(item.(map[string]any), "replicas")
				if len(item.(map[string]any)) == 0 {
					continue
				}
			}
			out[key] = item
		}
		return out
	case []any:
		for i := range v {
			v[i] = substance(v[i])
		}
	}
	return v
}

// TestStackRuns: what the policy lets through starts, does what it says within the limits that it was given, is reached on the
// host's loopback only, and leaves nothing.
func TestStackRuns(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.write("ws/app/ci/Dockerfile", "FROM "+hosttest.Image+" AS first\nRUN echo first >/stage\nFROM first AS last\nARG A\nRUN echo \"$A\" >/built\nFROM first\n")
	s.write("ws/file", "of the workspace\n")
	o := options("web")
	o.Policy = policy.BuildAllowed
	stack := s.load(strings.ReplaceAll(everything, "IMAGE", hosttest.Image), o)
	if _, _, err := s.compose(stack.JSON, "up", "-d", "--wait"); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"x$y", // the build's argument, and then the environment
		"1 x$y .",
		"a$b topsecret", "a$b topsecret", "topsecret", "topsecret",
		"of the workspace",
		"uid=1000 gid=1000 groups=20,1000,65534(nogroup)", "hosty", "/tmp",
		"10.0.0.1 h h", "1024", "CapEff: 0000000000000000", "NoNewPrivs: 1", "200 200", "100", "50", "100",
	}, "\n")
	out, _, err := s.compose(stack.JSON, "exec", "-T", "web", "sh", "-c", `cat /built; echo $A $B $C.
		for f in /c /etc/c /run/s /run/secrets/s; do cat $f; echo; done
		cat /src/file; id; hostname; pwd; getent hosts h 2>/dev/null || echo 10.0.0.1 h h
		cat /proc/sys/net/core/somaxconn; grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr '\t' ' '
		echo $(ulimit -Sn) $(ulimit -Hn); ulimit -u; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; cat /proc/1/oom_score_adj
		touch /data/x 2>/dev/null; test ! -w /src || echo the workspace is writable; test -d /made || echo it was not made
		nc -w 2 postgres 1 2>&1 | grep -q refused || echo the network is not there`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, strings.TrimSpace(out)); diff != "" {
		t.Error(diff)
	}
	var total struct{ cpus, memory, pids int64 }
	var states []struct {
		Name       string
		HostConfig struct {
			NanoCpus, Memory, MemorySwap, PidsLimit int64
			PortBindings                            map[string]any
		}
		NetworkSettings struct {
			Ports map[string][]struct{ HostIP, HostPort string }
		}
		Config struct{ Labels map[string]string }
	}
	ids := strings.Fields(s.e.Docker("ps", "-aq", "--filter", "label=com.docker.compose.project="+s.project))
	if err := json.Unmarshal([]byte(s.e.Docker(append([]string{"inspect"}, ids...)...)), &states); err != nil {
		t.Fatal(err)
	}
	if len(states) != 4 {
		t.Errorf("%d containers", len(states))
	}
	for _, c := range states {
		total.cpus += c.HostConfig.NanoCpus
		total.memory += c.HostConfig.Memory
		total.pids += c.HostConfig.PidsLimit
		if c.HostConfig.NanoCpus == 0 || c.HostConfig.Memory == 0 || c.HostConfig.PidsLimit == 0 || c.HostConfig.MemorySwap != c.HostConfig.Memory {
			t.Errorf("%s has no limit of one kind: %+v", c.Name, c.HostConfig)
		}
		if c.Config.Labels["sandboxer-id"] != s.project {
			t.Errorf("%s has no label: %v", c.Name, c.Config.Labels)
		}
		for port, at := range c.NetworkSettings.Ports {
			for _, b := range at {
				if b.HostIP != "127.0.0.1" || b.HostPort == "" {
					t.Errorf("%s publishes %s at %v", c.Name, port, b)
				}
			}
			if at == nil && !strings.HasPrefix(port, "9") { // which are exposed only
				t.Errorf("%s does not publish %s", c.Name, port)
			}
		}
	}
	if total.cpus > 2e9 || total.memory > 4<<30 || total.pids > 1000 {
		t.Errorf("together they may have more than the sandbox: %+v", total)
	}
	resources := s.e.Resources(s.project)
	for _, kind := range []string{"container", "network", "volume", "image"} {
		if !strings.Contains(strings.Join(resources, "\n"), kind+" "+s.project) {
			t.Errorf("no %s of the stack is found by its name: %q", kind, resources)
		}
	}
	if _, _, err := s.compose(stack.JSON, "down", "-v", "--remove-orphans", "--rmi", "local"); err != nil {
		t.Fatal(err)
	}
	for _, image := range stack.Images {
		_ = s.e.Command(t.Context(), "rmi", image).Run() // local are those without a name, and these have one
	}
	if left := s.e.Resources(s.project); left != nil {
		t.Errorf("it left %q", left)
	}
}

// TestNothingIsInterpolated: whatever a file says in its values arrives at the container as it is, whatever Compose has in
// its environment, in a .env file of the workspace, or in further files there.
func TestNothingIsInterpolated(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	leak := "leaked-" + s.token
	s.env = []string{"LEAK=" + leak, "x=" + leak, "COMPOSE_PROFILES=leak"}
	s.write("ws/.env", "LEAK="+leak+"\nCOMPOSE_FILE=other.yaml\nCOMPOSE_PROFILES=leak\nCOMPOSE_PROJECT_NAME=leak\nDOCKER_HOST=unix:///leak\n")
	for _, name := range []string{"compose.yaml", "compose.override.yaml", "docker-compose.override.yml", "other.yaml"} {
		s.write("ws/"+name, "services: {web: {environment: {LEAK: "+leak+"}}, leak: {image: "+leak+", profiles: [leak]}}\n")
	}
	values := []string{
		"$LEAK", "${LEAK}", "$$LEAK", "$$$LEAK", "${LEAK:-x}", "${LEAK:?x}", "${LEAK:+x}", "${LEAK", "$", "$$", "$ $", "${}", "a$", "${x}$x$$x", "$1", "$(id)", "`id`",
		" lead and trail ", "tab\tand\nlines\r\n", "\"quoted\" 'and' \\ back", "no: yaml", "- list", "{a: b}", "[x]", "# no comment", "&a", "*a", "!t", "|", ">", "%", "@", "~", "null", "true", "0x10", "1e3", "012",
		"üñí ☃ \U0001F600", "\u007f\u0080\u0085\u009f\u00a0\u2028\u2029\ufeff", "\u0001\u0002\u001b[31m", "<&>", "\ufffd\ue000", "=", "a=b=c",
	}
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("$${}xLEAK:-?+'\"\\ \n\tü#&*!|>%@`")
	for range 100 {
		var b strings.Builder
		for range random.IntN(20) {
			b.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		values = append(values, b.String())
	}
	env := map[string]string{}
	for i, v := range values {
		env[fmt.Sprintf("V%d", i)] = v
	}
	env["K$LEAK"], env["K${LEAK}"] = "key", "key"
	// An author who means a $ writes two.
	escaped := map[string]string{}
	for k, v := range env {
		escaped[k] = strings.ReplaceAll(v, "$", "$$")
	}
	command := []string{"sh", "-c", "echo $LEAK ${LEAK:-x}", "$LEAK", "${x}"}
	written := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer("\u007f", `\u007f`, "\u0080", `\u0080`, "\u0085", `\u0085`, "\u009f", `\u009f`, "\ufeff", `\ufeff`).Replace(string(raw))
	}
	o := options("web")
	o.Env = map[string]string{"GIVEN": "given $LEAK ${LEAK}"}
	stack := s.load(`services: {web: {image: "`+hosttest.Image+`", environment: `+written(escaped)+`, command: `+strings.ReplaceAll(written(command), "$", "$$")+
		`, working_dir: "/$$LEAK/${GIVEN}", healthcheck: {test: [CMD, "$$LEAK"]}, tmpfs: ["/$$LEAK"], volumes: ["./$$LEAK:/$${LEAK}", "vol:/vol"]}}
volumes: {vol: }`, o)
	if _, said, err := s.compose(stack.JSON, "create"); err != nil || strings.Contains(said, "LEAK") {
		t.Fatal(err, said)
	}
	var got struct {
		Config struct {
			Env, Cmd    []string
			WorkingDir  string
			Healthcheck struct{ Test []string }
		}
		HostConfig struct {
			Binds []string
			Tmpfs map[string]string
		}
	}
	raw := s.e.Docker("inspect", "-f", "{{json .}}", s.project+"-web-1")
	if strings.Contains(raw, leak) {
		t.Errorf("a value of Compose's environment is in the container: %s", raw)
	}
	if err := json.Unmarshal([]byte(raw), &got); err != nil {
		t.Fatal(err)
	}
	arrived := map[string]string{}
	for _, kv := range got.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		arrived[k] = v
	}
	delete(arrived, "PATH")
	if diff := cmp.Diff(env, arrived); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(command, got.Config.Cmd); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/$LEAK/given $LEAK ${LEAK}", "$LEAK"}, []string{got.Config.WorkingDir, got.Config.Healthcheck.Test[1]}); diff != "" {
		t.Error(diff)
	}
	if bind := s.ws + "/$LEAK:/${LEAK}:rw"; !slices.Contains(got.HostConfig.Binds, bind) { // Compose has them in no order
		t.Errorf("%q is not among %q", bind, got.HostConfig.Binds)
	}
	if _, ok := got.HostConfig.Tmpfs["/$LEAK"]; !ok {
		t.Error(got.HostConfig.Tmpfs)
	}
	if out := s.e.Docker("ps", "-a", "--filter", "label=com.docker.compose.project="+s.project, "--format", "{{.Names}}"); out != s.project+"-web-1" {
		t.Errorf("there are containers of other files: %q", out)
	}
	if _, _, err := s.compose(stack.JSON, "down", "-v"); err != nil {
		t.Error(err)
	}
}
