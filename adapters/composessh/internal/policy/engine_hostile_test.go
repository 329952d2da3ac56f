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
