package policy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// sent are the keys that a canonical project may have under Strict, by where they stand; written down a second time, by
// hand, because the tables are what is tested.
var sent = map[string]string{
	"": "name services networks volumes configs secrets",
	"services.*": `cap_drop cgroup command configs cpus depends_on deploy dns dns_opt dns_search domainname entrypoint environment
		expose extra_hosts group_add healthcheck hostname image init ipc labels links logging mem_limit mem_reservation memswap_limit
		network_mode networks oom_score_adj pid pids_limit platform ports pull_policy pull_refresh_after read_only restart scale
		secrets security_opt shm_size stdin_open stop_grace_period stop_signal sysctls tmpfs tty ulimits umask user volumes
		working_dir attach`,
	"services.*.deploy":     "restart_policy",
	"services.*.networks.*": "aliases gw_priority interface_name priority use_service_name_alias",
	"services.*.ports[]":    "name mode host_ip target protocol app_protocol",
	"services.*.volumes[]":  "type source target read_only consistency bind volume tmpfs",
	"services.*.logging":    "driver options",
	"networks.*":            "name driver internal labels enable_ipv4 enable_ipv6 ipam",
	"volumes.*":             "name driver labels",
	"configs.*":             "name content",
	"secrets.*":             "name environment",
}

// contained says what of a canonical project reaches beyond the stack.
func contained(raw []byte) error {
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return err
	}
	var visit func(at string, v any) error
	visit = func(at string, v any) error {
		m, _ := v.(map[string]any)
		keys, known := sent[at]
		for key, item := range m {
			if known && !slices.Contains(strings.Fields(keys), key) {
				return fmt.Errorf("%s has %q", at, key)
			}
			next := strings.TrimPrefix(at+"."+key, ".")
			if slices.Contains([]string{"services", "networks", "volumes", "configs", "secrets", "services.*.networks"}, at) {
				next = at + ".*"
			}
			if err := visit(next, item); err != nil {
				return err
			}
		}
		list, _ := v.([]any)
		for _, item := range list {
			if err := visit(at+"[]", item); err != nil {
				return err
			}
		}
		s, _ := v.(string)
		switch at {
		case "services.*.volumes[]":
			if source, _ := m["source"].(string); m["type"] == "bind" && source != "/srv/ws" && (!strings.HasPrefix(source, "/srv/ws/") || filepath.Clean(source) != source) {
				return fmt.Errorf("it mounts %q", source)
			}
			if !slices.Contains([]any{"bind", "volume", "tmpfs"}, m["type"]) {
				return fmt.Errorf("it mounts a %v", m["type"])
			}
		case "services.*.ports[]":
			if m["host_ip"] != "127.0.0.1" {
				return fmt.Errorf("it publishes on %v", m["host_ip"])
			}
		case "services.*.network_mode", "services.*.pid", "services.*.ipc", "services.*.cgroup":
			if s == "host" || strings.HasPrefix(s, "container:") {
				return fmt.Errorf("%s is %s", at, s)
			}
		case "networks.*", "volumes.*":
			if name, _ := m["name"].(string); !strings.HasPrefix(name, "sbx-1-a1_") {
				return fmt.Errorf("%s is called %q", at, name)
			}
		}
		if strings.Contains(strings.ReplaceAll(s, "$$", ""), "$") {
			return fmt.Errorf("%s is left to interpolate: %q", at, s)
		}
		return nil
	}
	return visit("", tree)
}

// FuzzLoad: whatever is accepted under Strict reaches nothing outside of the stack, and is its own canonical form.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/hostile/*.yaml", "testdata/friendly/*.yaml", "testdata/friendly/*.json"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if len(src) < 4096 {
				f.Add(src)
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 8192 {
			return
		}
		o := options("")
		stack, err := policy.Load(t.Context(), src, o)
		if err != nil {
			refusal(t, err)
			return
		}
		if err := contained(stack.JSON); err != nil {
			t.Fatalf("%v\n%s", err, stack.JSON)
		}
		o.Service = stack.Service
		again, err := policy.Load(t.Context(), stack.JSON, o)
		if err != nil {
			t.Fatalf("its canonical form is refused: %v\n%s", err, stack.JSON)
		}
		if string(again.JSON) != string(stack.JSON) {
			t.Fatalf("its canonical form is another:\n%s\n%s", stack.JSON, again.JSON)
		}
	})
}
