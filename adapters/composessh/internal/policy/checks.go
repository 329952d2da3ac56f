package policy

import (
	"fmt"
	"net"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

const leastInterval = 200 * time.Millisecond

// The checks say why a value is refused, or "".

func oneOf(v reflect.Value, why string, values ...string) string {
	if slices.Contains(values, v.String()) {
		return ""
	}
	return fmt.Sprintf("%q: %s", v.String(), why)
}

func privateOnly(_ *load, v reflect.Value) string { return oneOf(v, hostNamespace, "private") }

func replicated(_ *load, v reflect.Value) string { return oneOf(v, swarmOnly, "replicated") }

func networkDriver(_ *load, v reflect.Value) string {
	return oneOf(v, "other drivers than bridge join networks of the host", "bridge", "default")
}

func ipamDriver(_ *load, v reflect.Value) string { return oneOf(v, hostDriver, "default") }

func volumeDriver(_ *load, v reflect.Value) string {
	return oneOf(v, "other drivers than local are plugins of the host", "local")
}

func protocol(_ *load, v reflect.Value) string {
	return oneOf(v, "only tcp and udp are published", "tcp", "udp")
}

func mountType(_ *load, v reflect.Value) string {
	return oneOf(v, "mounts are volumes, tmpfs, or of the workspace", "volume", "bind", "tmpfs")
}

// propagation takes what an engine does anyway. It is not written, because Compose makes no missing directory with it.
func propagation(_ *load, v reflect.Value) string {
	if v.String() == "rprivate" {
		v.SetString("")
	}
	return oneOf(v, "it spreads mounts to the host or from it", "", "private")
}

func buildNetwork(_ *load, v reflect.Value) string {
	return oneOf(v, "it joins a network of the host", "none", "default")
}

// serviceOnly is for namespaces that a service may share with another of its stack.
func serviceOnly(l *load, v reflect.Value) string {
	name, ok := strings.CutPrefix(v.String(), types.ServicePrefix)
	if _, known := l.project.Services[name]; ok && known {
		return ""
	}
	return fmt.Sprintf("%q: %s, or of a container of another stack; only service:<name> is taken", v.String(), hostNamespace)
}

func ipc(l *load, v reflect.Value) string {
	if slices.Contains([]string{"private", "none", "shareable"}, v.String()) {
		return ""
	}
	return serviceOnly(l, v)
}

func networkMode(l *load, v reflect.Value) string {
	if v.String() == "none" {
		return ""
	}
	if why := serviceOnly(l, v); why != "" {
		return fmt.Sprintf("%q: it is the network of the host, of all its stacks or of somebody else; use networks", v.String())
	}
	return ""
}

func restart(_ *load, v reflect.Value) string {
	policy, _, _ := strings.Cut(v.String(), ":")
	if slices.Contains([]string{"no", "always", "on-failure", "unless-stopped"}, policy) {
		return ""
	}
	return fmt.Sprintf("%q: there are no, always, on-failure[:max] and unless-stopped", v.String())
}

// image refuses what the engine's command line would not take for a name.
func image(_ *load, v reflect.Value) string {
	if s := v.String(); strings.HasPrefix(s, "-") || strings.ContainsAny(s, " \t\r\n\x00") {
		return fmt.Sprintf("%q is no name of an image", s)
	}
	return ""
}

func oomScore(_ *load, v reflect.Value) string {
	if v.Int() < 0 {
		return "a negative score has the host kill other processes first"
	}
	return ""
}

func bytesAbove(_ *load, v reflect.Value) string {
	if v.Int() < 0 {
		return "it would lift the limit of the sandbox"
	}
	return ""
}

func pids(_ *load, v reflect.Value) string {
	if v.Int() < 0 {
		return "it would lift the limit of the sandbox"
	}
	return ""
}

// interval keeps health checks from busying the engine, which is in no sandbox's limits.
func interval(_ *load, v reflect.Value) string {
	if d := time.Duration(v.Elem().Int()); d < leastInterval {
		return fmt.Sprintf("%v: the engine would do little else; at least %v is taken", d, leastInterval)
	}
	return ""
}

func securityOpt(_ *load, v reflect.Value) string {
	for i := range v.Len() {
		switch v.Index(i).String() {
		case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true":
		default:
			return fmt.Sprintf("%q: it changes what holds the container in; only no-new-privileges is taken", v.Index(i).String())
		}
	}
	return ""
}

// sysctls takes those that the kernel keeps for each network namespace and that cost the host nothing.
func sysctls(_ *load, v reflect.Value) string {
	valid := []string{"net.core.somaxconn", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_keepalive_time"}
	for _, key := range sortedKeys(v) {
		if !slices.Contains(valid, key) {
			return fmt.Sprintf("%q: it can be a setting of the host's kernel; taken are %s", key, strings.Join(valid, ", "))
		}
	}
	return ""
}

func ulimits(_ *load, v reflect.Value) string {
	valid := []string{"memlock", "nofile", "nproc", "stack"}
	for _, key := range sortedKeys(v) {
		if !slices.Contains(valid, key) {
			return fmt.Sprintf("%q: it can raise what the container may take of the host; taken are %s", key, strings.Join(valid, ", "))
		}
	}
	return ""
}

func logging(_ *load, v reflect.Value) string {
	driver := v.Elem().FieldByName("Driver").String()
	if slices.Contains([]string{"", "json-file", "local", "none"}, driver) {
		return ""
	}
	return fmt.Sprintf("the driver %q sends logs to services of the host or to others; taken are json-file, local and none", driver)
}

func logOptions(_ *load, v reflect.Value) string {
	valid := []string{"compress", "max-file", "max-size"}
	for _, key := range sortedKeys(v) {
		if !slices.Contains(valid, key) {
			return fmt.Sprintf("%q: taken are %s", key, strings.Join(valid, ", "))
		}
	}
	return ""
}

func extraHosts(_ *load, v reflect.Value) string {
	for _, key := range sortedKeys(v) {
		for _, ip := range v.MapIndex(reflect.ValueOf(key)).Interface().([]string) {
			if net.ParseIP(strings.Trim(ip, "[]")) == nil {
				return fmt.Sprintf("%q: only addresses are taken; host-gateway leads to services of the host", ip)
			}
		}
	}
	return ""
}

// loopback refuses a port that asks for an address which others reach. All ports end on the loopback address.
func loopback(_ *load, v reflect.Value) string {
	if ip := net.ParseIP(v.String()); ip != nil && ip.IsLoopback() {
		return ""
	}
	return fmt.Sprintf("%q: ports are published on the host's loopback address only, and forwarded from there; leave the address out", v.String())
}

// plainName is what a name holds that is one word in every listing; an engine takes any for a network.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// projectName refuses a name that a network or volume was given by hand: it may be that of another stack.
func projectName(l *load, v reflect.Value) string {
	if rest, ok := strings.CutPrefix(v.String(), l.o.Name+"_"); ok && plainName.MatchString(rest) {
		return ""
	}
	return fmt.Sprintf("%q: a chosen name can be that of another stack; leave it out", v.String())
}

// given refuses a variable that was not given: the host would look it up in its own environment.
func given(l *load, v reflect.Value) string {
	if _, ok := l.o.Env[v.String()]; ok {
		return ""
	}
	return fmt.Sprintf("the variable %s has no value: give it in the input env", v.String())
}

func subpath(_ *load, v reflect.Value) string {
	if below(v.String()) {
		return ""
	}
	return fmt.Sprintf("%q lies outside of the volume", v.String())
}

func dockerfile(_ *load, v reflect.Value) string {
	if below(v.String()) {
		return ""
	}
	return fmt.Sprintf("%q lies outside of the directory that is built", v.String())
}

// below reports whether a relative path stays, by name, where it begins.
func below(p string) bool {
	if p == "" || path.IsAbs(p) || strings.HasPrefix(p, "~") || strings.ContainsAny(p, "\\\x00\n\r") {
		return false
	}
	clean := path.Clean(p)
	return clean != ".." && !strings.HasPrefix(clean, "../")
}

func sortedKeys(m reflect.Value) []string {
	var keys []string
	for _, k := range m.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}
