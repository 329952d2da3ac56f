package policy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// harmless are the files that this host's Compose does nothing bad with, or that are too bad to be shown, and why.
var harmless = map[string]string{
	"bind-backslash":  "only a host with Windows takes it for the directory above",
	"bind-windows":    "only a host with Windows has such a path",
	"mount-npipe":     "only a host with Windows has named pipes of that kind",
	"image-option":    "Compose refuses the name; it is for programs that call docker run",
	"no-services":     "there is nothing to start",
	"include-remote":  "it would ask the network",
	"bomb":            "it takes the memory of Compose's machine: 5 GB and more",
	"deep":            "it takes minutes of Compose",
	"deep-block":      "it takes minutes of Compose",
	"port-range":      "it takes minutes of Compose",
	"many-services":   "it is an amount, not a way",
	"deploy-replicas": "it is an amount, not a way",
	"jobs":            "this Compose does not know it yet",
	"pre-start":       "this Compose does not know it yet",
	"unknown-field":   "Compose refuses it as well",
	"secret-driver":   "Compose refuses it as well",
	"models-only":     "nothing uses the model; the file models shows what would",
	"x-develop":       "only docker compose watch reads it; the file develop shows what it means",
}

// demonstrations show on a real engine what a file of the corpus does when Compose is given it. A demonstration returns what
// is wrong with it, which would be that the file is not hostile at all. Those without one are shown by what Compose makes of
// the field that the policy refuses: it takes it.
var demonstrations = map[string]func(s *stage, file string) error{
	// Files of the host.
	"bind-root":          reads("", "/host{canary}"),
	"bind-default":       reads("", "/host{canary}"),
	"bind-long":          reads("/etc", "/x/canary", "{dir}"),
	"bind-parent":        reads("", "/up/canary"),
	"bind-parent-inside": reads("../../b", "/up/canary", "../.."),
	"bind-sibling":       reads("/srv/ws-other", "/x/canary", "{dir}"),
	"bind-workspace-up":  reads("/srv/ws/../other", "/x/canary", "{ws}/.."),
	"bind-home":          inHome("/keys/canary"),
	"volume-bind-root":   reads("", "/host{canary}"),
	"config-file":        reads("/etc/shadow", "/c", "{canary}"),
	"secret-file":        reads("/root/.ssh/id_ed25519", "/run/secrets/s", "{canary}"),
	"env-file":           prints("/etc/environment", "{env}", "env"),
	"label-file":         configured("/etc/passwd", "{env}"),
	"extends":            prints("/etc/compose.yaml", "{compose}", "env"),
	"extends-here":       field("services.web.privileged"),
	"include":            included,
	"bind-swap":          swapped,
	"volumes-from":       ofAnother("container:other", "container:", "cat", "/data/canary"),
	"volume-name":        anothersVolume("other_data"),
	"volume-external":    anothersVolume("data"),
	// The environment of Compose.
	"interpolate-home":          printsOwn("HOME"),
	"interpolate-after-default": printsOwn("HOME"),
	"interpolate-nested":        printsOwn("HOME"),
	"interpolate-bare":          printsOwn("AWS_SECRET_ACCESS_KEY"),
	"config-environment":        environment("HOME", "/c"),
	"secret-environment":        environment("AWS_SECRET_ACCESS_KEY", "/run/secrets/s"),
	// Programs.
	"provider":   provided,
	"build":      built,
	"post-start": hooked,
	// Powers over the host.
	"privileged":           privileged,
	"cap-add":              holds("CapEff", bit(21)),
	"security-opt-seccomp": holds("Seccomp", func(n uint64) bool { return n == 0 }),
	"devices":              prints("", "", "sh", "-c", "test -c /dev/kmsg && echo {token}"),
	"device-cgroup-rules":  prints("", "", "sh", "-c", "mknod /tmp/k c 1 11 && : >>/tmp/k && echo {token}"),
	"docker-sock":          prints("/var/run/docker.sock:/", "{socket}:/", "sh", "-c", "test -S /var/run/docker.sock && echo {token}"),
	"use-api-socket":       created("{{.HostConfig.Binds}}", "[/var/run/docker.sock:/var/run/docker.sock:rw]"),
	"pid-host":             joins("pid"),
	"ipc-host":             joins("ipc"),
	"uts-host":             joins("uts"),
	"network_mode-host":    joins("net"),
	"network-container":    joinsAnother("net", "container:other"),
	"ipc-container":        joinsAnother("ipc", "container:other"),
	"pid-container":        joinsAnother("pid", "container:other"),
	"cgroup-parent":        outsideOfTheEngine,
	"oom-score":            created("{{.HostConfig.OomScoreAdj}}", "-1000"),
	// What the engine was asked for, and this one does not have.
	"gpus":            asks("capabilities: [[gpu]]"),
	"deploy-devices":  asks("capabilities: [[gpu]]"),
	"runtime":         asks("runc-unsafe"),
	"sysctls":         asks("kernel.core_pattern"),
	"logging-syslog":  asks("10.0.0.1:514"),
	"logging-fluentd": asks("127.0.0.1:24224"),
	"volume-driver":   asks("sshfs"),
}

// TestHostileIsHostile: each file of the corpus does to a real host what it is in the corpus for, when Compose is given it
// without asking the policy; a file that is merely broken would prove nothing.
func TestHostileIsHostile(t *testing.T) {
	t.Parallel()
	hosttest.Open(t, 1) // skips all at once
	files, _ := filepath.Glob("testdata/hostile/*.yaml")
	have := map[string]bool{}
	for i, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		have[name] = true
		if harmless[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			show := demonstrations[name]
			if show == nil {
				show = takes
			}
			s := newStage(t, 1+i%2)
			if err := show(s, strings.ReplaceAll(string(src), "image: alpine", "image: "+hosttest.Image)); err != nil {
				t.Error(err)
			}
		})
	}
	for name := range demonstrations {
		if !have[name] || harmless[name] != "" {
			t.Errorf("the demonstration %s is never shown", name)
		}
	}
	for name := range harmless {
		if !have[name] {
			t.Errorf("%s is not in the corpus", name)
		}
	}
}

// takes shows that Compose takes the refused field for what it is.
func takes(s *stage, file string) error {
	head, _, _ := strings.Cut(file, "\n")
	return field(strings.TrimSpace(strings.TrimPrefix(head, "# refused:")))(s, file)
}

func field(field string) func(*stage, string) error {
	return func(s *stage, file string) error {
		out, _, err := s.compose([]byte(file), "config", "--format", "json")
		if err != nil {
			return err
		}
		var model map[string]any
		if err := json.Unmarshal([]byte(out), &model); err != nil {
			return err
		}
		if at := lookup(model, field); at == nil || at == false {
			return fmt.Errorf("Compose knows nothing of %q: %v", field, model)
		}
		return nil
	}
}

// lookup finds services.web.volumes[0].source.
func lookup(v any, field string) any {
	for key := range strings.FieldsFuncSeq(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			n, err := strconv.Atoi(key)
			if err != nil || n >= len(at) {
				return nil
			}
			v = at[n]
		default:
			return nil
		}
	}
	return v
}

// fill puts what is of this stage into a text.
func (s *stage) fill(text string) string {
	if strings.Contains(text, "{env}") {
		text = strings.ReplaceAll(text, "{env}", s.write("secret.env", "CANARY="+s.token+"\n"))
	}
	if strings.Contains(text, "{compose}") {
		text = strings.ReplaceAll(text, "{compose}", s.write("other.yaml", "services: {x: {environment: {CANARY: "+s.token+"}}}\n"))
	}
	return strings.NewReplacer("{dir}", s.dir, "{ws}", s.ws, "{canary}", s.canary, "{token}", s.token, "{socket}", s.e.Socket).Replace(text)
}

// has says what is wrong where an output does not have the token.
func (s *stage) has(out string, err error) error {
	if err != nil {
		return err
	}
	if !strings.Contains(out, s.token) {
		return fmt.Errorf("it did not get at the canary, but at %q", out)
	}
	return nil
}

// prints shows that a command in the stack prints the token. The first of new takes the place of old in the file.
func prints(old, instead string, argv ...string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if old != "" {
			file = strings.ReplaceAll(file, old, s.fill(instead))
		}
		filled := make([]string, len(argv))
		for i, arg := range argv {
			filled[i] = s.fill(arg)
		}
		return s.has(s.run([]byte(file), filled...))
	}
}

// reads shows that a file in the stack is the canary.
func reads(old, path string, instead ...string) func(*stage, string) error {
	return prints(old, strings.Join(instead, ""), "cat", path)
}

func inHome(path string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if err := os.MkdirAll(filepath.Join(s.e.Home, ".ssh"), 0o700); err != nil {
			return err
		}
		if err := os.Link(s.canary, filepath.Join(s.e.Home, ".ssh", "canary")); err != nil {
			return err
		}
		return s.has(s.run([]byte(file), "cat", path))
	}
}

// configured shows that the token is in what Compose makes of the file.
func configured(old, instead string) func(*stage, string) error {
	return func(s *stage, file string) error {
		out, _, err := s.compose([]byte(strings.ReplaceAll(file, old, s.fill(instead))), "config")
		return s.has(out, err)
	}
}

func included(s *stage, file string) error {
	other := s.write("other.yaml", "services: {other: {image: x, environment: {CANARY: "+s.token+"}}}\n")
	return configured("/etc/compose.yaml", other)(s, file)
}

// printsOwn shows that the stack's own command prints a variable of Compose's environment.
func printsOwn(variable string) func(*stage, string) error {
	return func(s *stage, file string) error {
		s.env = append(s.env, variable+"="+s.token)
		return s.has(s.run([]byte(file)))
	}
}

func environment(variable, path string) func(*stage, string) error {
	return func(s *stage, file string) error {
		s.env = append(s.env, variable+"="+s.token)
		return s.has(s.run([]byte(file), "cat", path))
	}
}

// swapped shows that a service that can write the workspace has the engine follow a link out of it.
func swapped(s *stage, file string) error {
	if _, _, err := s.compose([]byte(file), "run", "--rm", "-T", "a"); err != nil {
		return err
	}
	out, _, err := s.compose([]byte(file), "run", "--rm", "-T", "--no-deps", "b", "cat", "/host"+s.canary)
	return s.has(out, err)
}

// another starts a container that is not of the stack, with a volume that has the canary.
func (s *stage) another() string {
	name := s.project + "-other"
	s.e.Docker("run", "-d", "--name", name, "--ipc", "shareable", "-v", s.canary+":/data/canary", hosttest.Image, "sleep", "300")
	return name
}

func ofAnother(old, prefix string, argv ...string) func(*stage, string) error {
	return func(s *stage, file string) error {
		return s.has(s.run([]byte(strings.ReplaceAll(file, old, prefix+s.another())), argv...))
	}
}

func anothersVolume(name string) func(*stage, string) error {
	return func(s *stage, file string) error {
		volume := s.project + "-others"
		s.e.Docker("run", "--rm", "-v", volume+":/d", hosttest.Image, "sh", "-c", "echo "+s.token+" >/d/canary")
		return s.has(s.run([]byte(strings.ReplaceAll(file, name, volume)), "cat", "/d/canary"))
	}
}

// provided shows that Compose runs a program of the host.
func provided(s *stage, file string) error {
	marker := filepath.Join(s.dir, "marker")
	program := s.write("program", "#!/bin/sh\nid -u >"+marker+"\n")
	if err := os.Chmod(program, 0o755); err != nil {
		return err
	}
	_, said, _ := s.compose([]byte(strings.ReplaceAll(file, "/bin/sh", program)), "up", "-d") // it fails: nothing is to start
	out, err := os.ReadFile(marker)
	if err != nil || string(out) != "0\n" {
		return fmt.Errorf("the program ran as %q: %w, %s", out, err, said)
	}
	return nil
}

// built shows that the host's builder runs what the workspace says.
func built(s *stage, file string) error {
	s.write("ws/Dockerfile", "FROM "+hosttest.Image+"\nRUN echo "+s.token+" >/built\n")
	file = strings.ReplaceAll(file, hosttest.Image, s.project+"-image")
	if _, _, err := s.compose([]byte(file), "build"); err != nil {
		return err
	}
	return s.has(s.run([]byte(file), "cat", "/built"))
}

func bit(n int) func(uint64) bool { return func(v uint64) bool { return v&(1<<n) != 0 } }

// holds shows what a container's first process is allowed, as the host's kernel sees it; the same without the refused field
// is not.
func holds(key string, all ...func(uint64) bool) func(*stage, string) error {
	return func(s *stage, file string) error {
		without := s.status("services: {web: {image: '"+hosttest.Image+"'}}", key)
		with := s.status(file, key)
		for _, f := range all {
			if !f(with) || f(without) {
				return fmt.Errorf("%s is %x, and %x without it", key, with, without)
			}
		}
		return nil
	}
}

// status reads a number of a process's status.
func (s *stage) status(file, key string) uint64 {
	s.t.Helper()
	text, err := os.ReadFile("/proc/" + s.start([]byte(file)) + "/status")
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+key+":")
	n, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// hooked shows that a hook is root where the service is not.
func hooked(s *stage, file string) error {
	file = strings.ReplaceAll(file, "command: id", "command: [sh, -c, 'id -u >/tmp/who']")
	file = strings.ReplaceAll(file, "privileged: true", "") // not every host can
	file = strings.ReplaceAll(file, "    post_start:", "    command: [sleep, '300']\n    user: '1000'\n    post_start:")
	if _, _, err := s.compose([]byte(file), "up", "-d"); err != nil {
		return err
	}
	out, _, err := s.compose([]byte(file), "exec", "-T", "web", "cat", "/tmp/who")
	if err == nil && out != "0\n" {
		err = fmt.Errorf("the hook ran as %q", out)
	}
	return err
}

// privileged shows that the engine makes such a container and, on a host that may do so itself, that it has the powers.
func privileged(s *stage, file string) error {
	if err := created("{{.HostConfig.Privileged}}", "true")(s, file); err != nil {
		return err
	}
	var own uint64
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\nCapBnd:")
	if _, err := fmt.Sscanf(rest, "%x", &own); err != nil || own != 1<<41-1 {
		return err // runc cannot give what it has not
	}
	return prints("", "", "sh", "-c", "test -c /dev/kmsg && echo {token}")(s, file)
}

// created shows what the engine notes of a container that is made and not started.
func created(format, want string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if _, _, err := s.compose([]byte(file), "create"); err != nil {
			return err
		}
		if got := s.e.Docker("inspect", "-f", format, s.project+"-web-1"); got != want {
			return fmt.Errorf("the engine says %q", got)
		}
		return nil
	}
}

// joins shows that the stack is in a namespace of the engine, which is the host's.
func joins(kind string) func(*stage, string) error {
	return func(s *stage, file string) error {
		its := "/proc/" + s.start([]byte(file)) + "/ns/" + kind
		hosts := "/proc/self/ns/" + kind
		if kind == "net" {
			hosts = s.e.NetNS
		}
		return same(its, hosts)
	}
}

// same says what is wrong where two files are not one namespace.
func same(one, other string) error {
	a, err := os.Stat(one)
	if err != nil {
		return err
	}
	b, err := os.Stat(other)
	if err == nil && !os.SameFile(a, b) {
		err = fmt.Errorf("%s and %s are two namespaces", one, other)
	}
	return err
}

func joinsAnother(kind, old string) func(*stage, string) error {
	return func(s *stage, file string) error {
		other := s.another()
		pid := s.start([]byte(strings.ReplaceAll(file, old, "container:"+other)))
		return same("/proc/"+pid+"/ns/"+kind, "/proc/"+s.e.Docker("inspect", "-f", "{{.State.Pid}}", other)+"/ns/"+kind)
	}
}

// outsideOfTheEngine shows that the stack is in none of the cgroups that the engine keeps its containers in.
func outsideOfTheEngine(s *stage, file string) error {
	parent := func(file string) string {
		id, _, err := s.compose([]byte(file), "run", "-d", "-T", "web", "sleep", "300")
		if err != nil {
			s.t.Fatal(err)
		}
		pid := s.e.Docker("inspect", "-f", "{{.State.Pid}}", strings.TrimSpace(id))
		text, err := os.ReadFile("/proc/" + pid + "/cgroup")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if _, path, _ := strings.Cut(line[strings.IndexByte(line, ':')+1:], ":"); strings.Contains(path, strings.TrimSpace(id)) {
				return filepath.Dir(path)
			}
		}
		s.t.Fatalf("the container is in no cgroup of its own: %s", text)
		return ""
	}
	with, without := parent(file), parent("services: {web: {image: '"+hosttest.Image+"'}}")
	if with == without || with != "/" {
		return fmt.Errorf("it is in %s, and in %s without it", with, without)
	}
	return nil
}

// asks shows that Compose asked the engine for it, which could not do it.
func asks(said string) func(*stage, string) error {
	return func(s *stage, file string) error {
		out, err := s.run([]byte(file), "true")
		if err == nil {
			return fmt.Errorf("it ran, and said %q", out)
		}
		if !strings.Contains(err.Error(), said) {
			return fmt.Errorf("the engine said nothing of %q: %w", said, err)
		}
		return nil
	}
}
