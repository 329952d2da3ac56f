package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/sand-boxer/sandboxer"
)

// canonical makes the accepted project definite and writes it.
func (l *load) canonical(main string) (*Stack, error) {
	p := l.project
	stack := &Stack{Service: main, Services: p.ServiceNames(), Dropped: l.dropped, Paths: l.paths()}
	services := map[string]*types.ServiceConfig{}
	for name, s := range p.Services {
		services[name] = &s
	}
	for _, s := range services {
		l.definite(s)
	}
	if s := services[main]; l.o.Policy == Trusted || !strings.HasPrefix(s.NetworkMode, types.ServicePrefix) {
		for _, port := range l.o.Ports {
			publish(s, uint32(port), "tcp")
		}
	} else if len(l.o.Ports) > 0 { // its network is another's, which then publishes
		if owner := services[strings.TrimPrefix(s.NetworkMode, types.ServicePrefix)]; owner != nil {
			for _, port := range l.o.Ports {
				publish(owner, uint32(port), "tcp")
			}
		}
	}
	stack.Images = l.images(services)
	l.share(services)
	if len(l.problems) > 0 {
		return nil, nil
	}
	for name, s := range services {
		settle(s)
		p.Services[name] = *s
	}
	p.Name = l.o.Name
	p.Extensions = nil // they mean nothing, and would be written
	p = p.WithoutUnnecessaryResources()
	for key, n := range p.Networks {
		if !n.External {
			n.Labels = l.labels(n.Labels)
			p.Networks[key] = n
		}
	}
	for key, v := range p.Volumes {
		if !v.External {
			v.Labels = l.labels(v.Labels)
			p.Volumes[key] = v
		}
	}
	for key, c := range p.Configs {
		if _, ok := l.o.Env[c.Environment]; ok {
			c.Environment = "" // its value is in Content
			p.Configs[key] = c
		}
	}
	for _, s := range p.Secrets {
		if s.Environment != "" {
			stack.SecretEnv = append(stack.SecretEnv, s.Environment)
		}
	}
	slices.Sort(stack.SecretEnv)
	stack.SecretEnv = slices.Compact(stack.SecretEnv)
	var err error
	if stack.JSON, err = write(p); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("writing the canonical project: %w", err))
	}
	return stack, nil
}

// definite takes from a service what the host would have to look up or decide.
func (l *load) definite(s *types.ServiceConfig) {
	s.Profiles = nil // they were applied
	s.Labels = l.labels(s.Labels)
	resolve(s.Environment)
	for name, d := range s.DependsOn {
		if _, ok := l.project.Services[name]; !ok && !d.Required {
			delete(s.DependsOn, name) // of a profile that is not enabled
		}
	}
	for i, v := range s.Volumes {
		if rel, ok := l.inWorkspace(v.Source); ok && v.Type == types.VolumeTypeBind {
			s.Volumes[i].Source = path.Join(l.o.Workspace, rel)
		}
	}
	if b := s.Build; b != nil {
		resolve(b.Args)
		b.Labels = l.labels(b.Labels)
		if rel, ok := l.inWorkspace(b.Context); ok && !strings.Contains(b.Context, ":") {
			b.Context = path.Join(l.o.Workspace, rel)
		}
	}
	if l.o.Policy == Trusted {
		return
	}
	ports := s.Ports
	s.Ports = nil
	for _, port := range ports {
		publish(s, port.Target, port.Protocol)
	}
	if s.NetworkMode != "" {
		s.Ports = nil // there is no network to publish from, or it is another's
	}
}

// resolve leaves out variables without a value: Compose would take them from its own environment.
func resolve(env types.MappingWithEquals) {
	maps.DeleteFunc(env, func(_ string, v *string) bool { return v == nil })
}

// publish publishes a port on a free port of the host's loopback address, once.
func publish(s *types.ServiceConfig, target uint32, protocol string) {
	if protocol == "" {
		protocol = "tcp"
	}
	for _, have := range s.Ports {
		if have.Target == target && have.Protocol == protocol {
			return
		}
	}
	s.Ports = append(s.Ports, types.ServicePortConfig{Mode: "ingress", HostIP: "127.0.0.1", Target: target, Protocol: protocol})
}

// images gives what is built a name of the project, in place of one that another stack may use, also where a service uses
// what another builds. No registry is asked for such a name, as Compose would before it builds.
func (l *load) images(services map[string]*types.ServiceConfig) []string {
	var built []string
	renamed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		switch {
		case s.Build == nil:
		case l.o.Policy == Trusted: // the file may call it what it likes
			built = append(built, cmp.Or(s.Image, l.o.Name+"-"+name))
		default:
			image := l.built(name)
			if _, ok := renamed[s.Image]; !ok && s.Image != "" {
				renamed[s.Image] = image
			}
			built = append(built, image)
		}
	}
	if l.o.Policy == Trusted {
		return built
	}
	for name, s := range services {
		if s.Build != nil {
			s.Image = l.built(name)
			if s.PullPolicy != types.PullPolicyBuild {
				s.PullPolicy = types.PullPolicyNever
			}
		} else if image, ok := renamed[s.Image]; ok {
			s.Image, s.PullPolicy = image, types.PullPolicyNever
		}
	}
	return built
}

// built is the name of the image that a service builds.
func (l *load) built(service string) string {
	image := l.o.Name + "-" + service
	if l.o.ImageTag != "" {
		image += ":" + l.o.ImageTag
	}
	return image
}

// settle moves the counts and limits of the deploy section to the service, where every Compose reads them.
func settle(s *types.ServiceConfig) {
	if s.Deploy != nil {
		settleDeploy(s)
	}
	if s.MemLimit > 0 {
		s.MemReservation = min(s.MemReservation, s.MemLimit) // an engine takes no more
	}
}

func settleDeploy(s *types.ServiceConfig) {
	if n := s.GetScale(); n != 1 {
		s.Scale = &n
	}
	s.Deploy.Replicas = nil
	if r := s.Deploy.Resources.Reservations; r != nil && s.MemReservation == 0 {
		s.MemReservation = r.MemoryBytes
	}
	devices := s.Deploy.Resources.Reservations
	s.Deploy.Resources = types.Resources{}
	if devices != nil && len(devices.Devices) > 0 { // only under Trusted
		s.Deploy.Resources.Reservations = &types.Resource{Devices: devices.Devices}
	}
	s.Deploy.Mode = ""
}

func (l *load) labels(have types.Labels) types.Labels {
	all := types.Labels{}
	maps.Copy(all, have)
	maps.Copy(all, l.o.Labels)
	return all
}

// write is the project as JSON without anything that Compose would interpolate.
func write(p *types.Project) ([]byte, error) {
	raw, err := p.MarshalJSON()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	silent(tree)
	configs, _ := tree["configs"].(map[string]any)
	for _, item := range configs {
		if c, ok := item.(map[string]any); ok && c["content"] == nil && c["file"] == nil && c["environment"] == nil && c["external"] == nil {
			c["content"] = "" // compose-go's JSON leaves it out, and Compose wants to see it
		}
	}
	if len(p.Models) > 0 { // only under Trusted; compose-go's JSON leaves them out
		tree["models"] = p.Models
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(literal(tree)); err != nil {
		return nil, err
	}
	return escaped(out.Bytes()), nil
}

// escaped writes those characters of a JSON text as \u that JSON takes in a string and YAML does not, or not as themselves:
// Compose reads JSON as YAML.
func escaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// silent leaves out what compose-go writes of fields that say nothing.
func silent(tree map[string]any) {
	services, _ := tree["services"].(map[string]any)
	for _, item := range services {
		s, _ := item.(map[string]any)
		for _, key := range []string{"command", "entrypoint"} {
			if s[key] == nil {
				delete(s, key)
			}
		}
		deploy, _ := s["deploy"].(map[string]any)
		empty(deploy, "placement", "resources")
		empty(s, "deploy")
	}
	networks, _ := tree["networks"].(map[string]any)
	for _, item := range networks {
		n, _ := item.(map[string]any)
		empty(n, "ipam")
	}
}

// empty leaves out keys whose value is an empty mapping.
func empty(m map[string]any, keys ...string) {
	for _, key := range keys {
		if v, ok := m[key].(map[string]any); ok && len(v) == 0 {
			delete(m, key)
		}
	}
}

// literal doubles every $ of the values: Compose would read a variable of its own environment into them.
func literal(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "$", "$$")
	case []any:
		for i := range v {
			v[i] = literal(v[i])
		}
	case map[string]any:
		for key, item := range v {
			v[key] = literal(item)
		}
	}
	return v
}
