package composessh

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// stack is what is noted of a stack on its host when it is up; it holds no secret.
type stack struct {
	Service   string            `json:"service"`    // the main one
	RemoteDir string            `json:"remote_dir"` // where its containers have the workspace
	Dirs      map[string]string `json:"dirs"`       // the same for each service that has the workspace
	Services  []string          `json:"services"`
	OneShot   []string          `json:"one_shot,omitempty"` // services that are to end by themselves
	Volumes   []string          `json:"volumes,omitempty"`  // keys of named volumes
	Names     map[string]string `json:"names,omitempty"`    // what the engine calls them
	Mounts    []mount           `json:"mounts,omitempty"`   // of the main service, in the container for files
	ReadOnly  bool              `json:"read_only,omitempty"`
	Compose   string            `json:"-"` // the file as it was written
	File      string            `json:"-"` // and what it is called
}

// mount is a directory of the main service's containers that the container for files has as well.
type mount struct {
	Target string `json:"target"` // in the main service
	At     string `json:"at"`     // in the container for files
}

// project is a stack that can be sent to a host.
type project struct {
	stack
	json    []byte
	env     map[string]string // what Compose needs to see
	secrets []string          // what nobody else is to see
	paths   []string          // to be checked on the host
	files   tree              // the container for files as a service
	builds  bool
	name    string
}

// labelExtension tells sandboxes of different extensions on one host apart.
const labelExtension = "sandboxer-extension"

func (e *extension) labels(req *sandboxer.ProvisionRequest) map[string]string {
	out := maps.Clone(req.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[labelExtension] = e.id
	return out
}

// load judges a Compose file and completes what is sent. The token is the claim's, which other stacks do not know: they could
// use what this one builds, or keep it from being removed. Where nothing is made, it is left out.
func (e *extension) load(ctx context.Context, h *host, req *sandboxer.ProvisionRequest, in inputs, file string, text []byte, token string) (*project, error) {
	env := maps.Clone(in.Env)
	if env == nil {
		env = map[string]string{}
	}
	var secrets []string
	for name, ref := range in.SecretEnv {
		if req.Secret == nil {
			return nil, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("input secret_env: %s needs the secret %s, and there is no source of secrets", name, ref))
		}
		s, err := req.Secret(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("input secret_env: %s: %w", name, err)
		}
		env[name] = string(s.Reveal())
		secrets = append(secrets, env[name])
	}
	root := "/nowhere"
	var dirs []string
	if h != nil {
		root, dirs = h.root, h.dirs
	}
	workspace := path.Join(root, req.Name, "workspace")
	s, err := policy.Load(ctx, text, policy.Options{
		Policy: e.cfg.policy, Name: req.Name, ImageTag: token, File: file, Workspace: workspace, Service: in.Service, Env: env, Profiles: in.Profiles,
		Ports: req.Profile.Ports, Labels: e.labels(req),
		Limits: policy.Limits{CPUMillis: req.Profile.Resources.CPUMillis, MemoryBytes: req.Profile.Resources.MemoryBytes},
	})
	if err != nil {
		return nil, err
	}
	p := &project{env: map[string]string{}, secrets: secrets, paths: s.Paths, name: req.Name}
	for _, name := range s.SecretEnv {
		p.env[name] = env[name]
	}
	p.stack = stack{Service: s.Service, Services: s.Services, Compose: string(text), File: file}
	return p, p.complete(s, workspace, e.cfg, dirs, e.labels(req))
}

// tree is a decoded canonical project: mappings of names.
type tree = map[string]any

func sub(t tree, key string) tree {
	m, _ := t[key].(map[string]any)
	return m
}

// complete adds what is ours to the canonical project: the workspace's mount, the container for files, where ports are
// published.
func (p *project) complete(s *policy.Stack, workspace string, cfg config, dirs []string, labels map[string]string) error {
	dec := json.NewDecoder(bytes.NewReader(s.JSON))
	dec.UseNumber()
	var doc tree
	if err := dec.Decode(&doc); err != nil {
		return sandboxer.Refused(sandboxer.Internal, fmt.Errorf("the canonical project cannot be read: %w", err))
	}
	services := sub(doc, "services")
	main := sub(services, s.Service)
	if _, taken := services[filesService]; taken || main == nil {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%s: services.%s: the name is this adapter's own; rename the service", p.File, filesService))
	}
	// Who can write next to a path that the engine mounts could put a link in its place.
	p.ReadOnly = slices.ContainsFunc(s.Paths, func(at string) bool { return at != "." }) && cfg.policy != policy.Trusted
	p.RemoteDir = mounted(main, workspace)
	if p.RemoteDir == "" {
		p.RemoteDir = cfg.Workspace
		mount := tree{"type": "bind", "source": workspace, "target": cfg.Workspace, "bind": tree{}}
		if p.ReadOnly {
			mount["read_only"] = true
		}
		vs, _ := main["volumes"].([]any)
		main["volumes"] = append(vs, mount)
	}
	p.Dirs = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		svc := sub(services, name)
		if dir := mounted(svc, workspace); dir != "" {
			p.Dirs[name] = dir
		}
		p.builds = p.builds || svc["build"] != nil
		for on, how := range sub(svc, "depends_on") {
			if d, _ := how.(map[string]any); d["condition"] == "service_completed_successfully" && !slices.Contains(p.OneShot, on) {
				p.OneShot = append(p.OneShot, on)
			}
		}
		ports, _ := svc["ports"].([]any)
		for _, port := range ports {
			if m, ok := port.(map[string]any); ok && m["host_ip"] == "127.0.0.1" {
				m["host_ip"] = cfg.PublishAddress
			}
		}
	}
	slices.Sort(p.OneShot)
	p.Names = map[string]string{}
	used := volumes(services)
	for _, v := range slices.Sorted(maps.Keys(sub(doc, "volumes"))) {
		volume := sub(sub(doc, "volumes"), v)
		if external, _ := volume["external"].(bool); external || !used[v] { // external ones only a trusted file may name
			continue
		}
		p.Volumes = append(p.Volumes, v)
		if p.Names[v], _ = volume["name"].(string); p.Names[v] == "" {
			p.Names[v] = p.name + "_" + v
		}
	}
	p.Mounts = mounts(main, workspace)
	p.files = p.filesService(workspace, dirs, labels)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return sandboxer.Refused(sandboxer.Internal, err)
	}
	p.json = out.Bytes()
	return nil
}

// mounted is where a service has the whole workspace, writable.
func mounted(service tree, workspace string) string {
	vs, _ := service["volumes"].([]any)
	for _, v := range vs {
		m, _ := v.(map[string]any)
		target, _ := m["target"].(string)
		if m["type"] == "bind" && m["source"] == workspace && target != "" {
			return target
		}
	}
	return ""
}

// mounts are the bind mounts and named volumes of the main service, longest target first.
func mounts(service tree, workspace string) []mount {
	vs, _ := service["volumes"].([]any)
	var out []mount
	for _, v := range vs {
		m, _ := v.(map[string]any)
		source, _ := m["source"].(string)
		target, _ := m["target"].(string)
		target = path.Clean("/" + target)
		rel, below := strings.CutPrefix(source, workspace)
		switch {
		case m["type"] == "bind" && below && (rel == "" || rel[0] == '/'):
			out = append(out, mount{target, path.Join("/w", rel)})
		case m["type"] == "volume" && source != "" && sub(m, "volume")["subpath"] == nil:
			out = append(out, mount{target, "/v/" + source})
		default: // it hides what is below it, and the container for files does not have it
			out = append(out, mount{target, ""})
		}
	}
	slices.SortFunc(out, func(a, b mount) int { return len(b.Target) - len(a.Target) })
	return out
}

// noCopy keeps the engine from filling empty volumes with what the images have in their place.
func (p *project) noCopy() error {
	text, err := edited(p.json, func(doc tree) {
		for _, svc := range sub(doc, "services") {
			s, _ := svc.(map[string]any)
			vs, _ := s["volumes"].([]any)
			for _, v := range vs {
				if m, _ := v.(map[string]any); m["type"] == "volume" {
					if sub(m, "volume") == nil {
						m["volume"] = tree{}
					}
					sub(m, "volume")["nocopy"] = true
				}
			}
		}
	})
	if err == nil {
		p.json = text
	}
	return err
}

// openFiles is the project with a container for files that can write the workspace, for as long as nothing else runs. Compose
// replaces that container when the project itself is started.
func (p *project) openFiles() (*project, error) {
	open := *p
	var err error
	open.json, err = edited(p.json, func(doc tree) {
		vs, _ := sub(sub(doc, "services"), filesService)["volumes"].([]any)
		for _, v := range vs {
			if m, _ := v.(map[string]any); m["target"] == "/w" {
				m["read_only"] = false
			}
		}
	})
	return &open, err
}

func edited(text []byte, edit func(doc tree)) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var doc tree
	if err := dec.Decode(&doc); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, err)
	}
	edit(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, err)
	}
	return out, nil
}
