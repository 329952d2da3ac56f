package registry_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// ext is a manifest of the handler my-backend; more is added below.
func ext(id, more string) string {
	return "id: " + id + "\nhandler: my-backend\ncapabilities:\n  isolation_levels: [container]\n  pricing_model: self-hosted\n" + more
}

func yamlDoc(name, doc string) registry.Option { return registry.WithYAML(name, []byte(doc)) }

// bringing is the adapter my-backend with documents of its own.
func bringing(manifest string, profiles ...string) sandboxer.Adapter {
	a := adapter("my-backend")
	a.Manifest = []byte(manifest)
	for _, p := range profiles {
		a.Profiles = append(a.Profiles, []byte(p))
	}
	return a
}

func mustNew(t testing.TB, opts ...registry.Option) *registry.Registry {
	t.Helper()
	reg, err := registry.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func profileIDs(reg *registry.Registry) []string {
	var ids []string
	for p := range reg.Profiles() {
		ids = append(ids, p.ID)
	}
	return ids
}

// TestReplaced: the supplied document counts, wherever it stands among the options.
func TestReplaced(t *testing.T) {
	t.Parallel()
	own := bringing(ext("ext.own", "title: brought\n"), "id: profile.own\nextension: ext.own\ntitle: brought\n")
	supplied := yamlDoc("mine", ext("ext.own", "title: supplied\n"))
	for _, opts := range [][]registry.Option{{registry.WithAdapters(own), supplied}, {supplied, registry.WithAdapters(own)}} {
		reg := mustNew(t, opts...)
		m, err := reg.Manifest("ext.own")
		if err != nil || m.Title != "supplied" || reg.Source("ext.own") != "mine" {
			t.Errorf("manifest %q from %q, %v; want the supplied one", m.Title, reg.Source("ext.own"), err)
		}
		p, err := reg.Profile("profile.own")
		if err != nil || p.Title != "brought" || reg.Source("profile.own") != "adapter my-backend (profile 1)" {
			t.Errorf("profile %q from %q, %v; want the adapter's", p.Title, reg.Source("profile.own"), err)
		}
	}
}

// TestFiles: real files, also behind symbolic links as in a mounted ConfigMap, CRLF and a byte order mark.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("data/ext.a.yaml", "\ufeff"+strings.ReplaceAll(ext("ext.a", "config:\n  text: |\n    a\n    b\n"), "\n", "\r\n"))
	write("extensions/.hidden.yaml", "ignored: [")
	write("extensions/my_backend.py", "ignored")
	if err := os.Symlink(filepath.Join("..", "data", "ext.a.yaml"), filepath.Join(dir, "extensions", "ext.a.yaml")); err != nil {
		// Windows lets only some users make links.
		write("extensions/ext.a.yaml", ext("ext.a", "config:\n  text: \"a\\nb\\n\"\n"))
	}
	m, err := mustNew(t, adapters(), registry.WithFS(os.DirFS(dir))).Manifest("ext.a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sandboxer.Inputs{"text": "a\nb\n"}, m.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestDecoded: every key of a profile and a manifest arrives as what it means.
func TestDecoded(t *testing.T) {
	t.Parallel()
	reg := mustNew(t, adapters(), registry.WithFS(os.DirFS(filepath.Join(manifests, "valid", "full"))))
	p, err := reg.Profile("profile.go-build")
	if err != nil {
		t.Fatal(err)
	}
	cost, err := sandboxer.ParseMoney("0.50 USD")
	if err != nil {
		t.Fatal(err)
	}
	want := sandboxer.Profile{
		ID: "profile.go-build", Title: "Go build box", Extension: "ext.compose", Isolation: sandboxer.IsolationContainer,
		Inputs:    sandboxer.Inputs{"repo": "https://example.com/repo.git", "count": 12345678901234567},
		Resources: sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30, DiskBytes: 10 << 30},
		Ports:     []int{8080, 443},
		Requires:  []sandboxer.Capability{sandboxer.CapExec, sandboxer.CapSnapshot},
		TTL:       45 * time.Minute, ReadyTimeout: 150 * time.Second,
		HostSelector: map[string]string{"arch": "amd64"},
		Burst: &sandboxer.BurstPolicy{
			To: []sandboxer.BurstTarget{{Profile: "profile.cloud"}, {Profile: "profile.cloud-small", Inputs: map[string]string{"repo": "repository"}}},
			On: []sandboxer.Code{sandboxer.ResourceExhausted, sandboxer.Unavailable}, MaxCost: &cost, Within: 30 * time.Second,
		},
		Labels: map[string]string{"team": "build"},
	}
	if diff := cmp.Diff(want, p, cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b })); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
	none, err := reg.Profile("profile.cloud")
	if err != nil || none.TTL != sandboxer.NoTTL {
		t.Errorf("ttl: none is %v, %v", none.TTL, err)
	}
	m, err := reg.Manifest("ext.compose")
	if err != nil {
		t.Fatal(err)
	}
	var wantM registry.Manifest
	wantM.ID, wantM.Title, wantM.Handler = "ext.compose", "Compose: häuslich", "compose-ssh"
	wantM.Capabilities.IsolationLevels = []sandboxer.IsolationLevel{sandboxer.IsolationContainer, sandboxer.IsolationGVisor}
	wantM.Capabilities.PricingModel = sandboxer.PricingSelfHosted
	wantM.Capabilities.Features = []sandboxer.Capability{sandboxer.CapExec, sandboxer.CapFiles, sandboxer.CapSnapshot}
	wantM.Inputs.Required, wantM.Inputs.Optional = []string{"repo"}, []string{"branch", "count"}
	network := map[string]any{"network": "default", "dns": []any{"192.0.2.1", "192.0.2.2"}}
	wantM.Config = sandboxer.Inputs{
		"compose_file": "compose.yaml", "retries": 3, "ratio": 0.5, "big": uint64(18446744073709551615), "verbose": true, "nothing": nil,
		"since": "2026-11-23", "max_tokens": 4096, "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVzZXI= user@example.com",
		"deploy_key": "file:/run/secrets/deploy", "api_key": "platform/compose-key",
		"common": network, "services": map[string]any{"web": network, "db": network},
	}
	if diff := cmp.Diff(wantM, m); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

// TestImmutable: nothing that was given or returned is connected to what the registry holds.
func TestImmutable(t *testing.T) {
	t.Parallel()
	full := []registry.Option{adapters(), registry.WithFS(os.DirFS(filepath.Join(manifests, "valid", "full")))}
	own := bringing(ext("ext.own", ""), "id: profile.own\nextension: ext.own\n")
	own.Credentials = []string{"key"}
	own.Handler = "own"
	own.Manifest = []byte(strings.ReplaceAll(string(own.Manifest), "my-backend", "own"))
	given := sandboxer.Profile{
		ID: "profile.given", Extension: "ext.own", Inputs: sandboxer.Inputs{"list": []string{"a"}, "map": map[string]string{"a": "b"}},
		Ports: []int{80}, Requires: []sandboxer.Capability{sandboxer.CapExec}, HostSelector: map[string]string{"a": "b"}, Labels: map[string]string{"a": "b"},
		Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.own", Inputs: map[string]string{"a": "b"}}}, On: []sandboxer.Code{sandboxer.Unavailable}},
	}
	reg := mustNew(t, append(full, registry.WithAdapters(own), registry.WithProfiles(given))...)
	snapshot := func() string {
		var out strings.Builder
		if err := reg.WriteCatalogue(&out); err != nil {
			t.Fatal(err)
		}
		for m := range reg.Manifests() {
			out.WriteString(cmp.Diff(registry.Manifest{}, m))
		}
		for p := range reg.Profiles() {
			out.WriteString(cmp.Diff(sandboxer.Inputs{}, p.Inputs))
		}
		a, err := reg.Adapter("own")
		if err != nil {
			t.Fatal(err)
		}
		return out.String() + string(a.Manifest) + string(a.Profiles[0]) + strings.Join(a.Credentials, ",")
	}
	before := snapshot()
	spoil := func(p *sandboxer.Profile) {
		spoilValue(map[string]any(p.Inputs))
		fill := func(m map[string]string) {
			for k := range m {
				m[k] = "spoiled"
			}
		}
		fill(p.Labels)
		fill(p.HostSelector)
		for i := range p.Ports {
			p.Ports[i] = 1
		}
		for i := range p.Requires {
			p.Requires[i] = "spoiled"
		}
		if b := p.Burst; b != nil {
			for i := range b.To {
				fill(b.To[i].Inputs)
				b.To[i].Profile = "spoiled"
			}
			for i := range b.On {
				b.On[i] = "spoiled"
			}
			if b.MaxCost != nil {
				*b.MaxCost = sandboxer.Money{}
			}
			b.Within = 1
		}
	}
	given.Inputs["list"].([]string)[0] = "spoiled"
	given.Inputs["map"].(map[string]string)["a"] = "spoiled"
	spoil(&given)
	own.Manifest[0], own.Profiles[0][0], own.Credentials[0] = 'x', 'x', "spoiled"
	for p := range reg.Profiles() {
		spoil(&p)
		in := sandboxer.Inputs{}
		for k := range p.Inputs {
			in[k] = map[string]any{"fresh": []any{"a"}}
		}
	}
	for _, id := range profileIDs(reg) {
		p, err := reg.Profile(id)
		if err != nil {
			t.Fatal(err)
		}
		spoil(&p)
		if p, err = reg.Resolve(id, nil); err == nil {
			spoil(&p)
		}
	}
	for m := range reg.Manifests() {
		spoilValue(map[string]any(m.Config))
		for i := range m.Capabilities.IsolationLevels {
			m.Capabilities.IsolationLevels[i] = "spoiled"
		}
		for i := range m.Capabilities.Features {
			m.Capabilities.Features[i] = "spoiled"
		}
		for _, names := range [][]string{m.Inputs.Required, m.Inputs.Optional} {
			for i := range names {
				names[i] = "spoiled"
			}
		}
	}
	a, err := reg.Adapter("own")
	if err != nil {
		t.Fatal(err)
	}
	a.Manifest[0], a.Profiles[0][0], a.Credentials[0] = 'x', 'x', "spoiled"
	if diff := cmp.Diff(before, snapshot()); diff != "" {
		t.Errorf("the registry changed (-before +after):\n%s", diff)
	}
}

func spoilValue(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			spoilValue(item)
			v[k] = "spoiled"
		}
	case []any:
		for i, item := range v {
			spoilValue(item)
			v[i] = "spoiled"
		}
	}
}

// TestLookups: what is not there is a NotFound that names what was probably meant.
func TestLookups(t *testing.T) {
	t.Parallel()
	reg := mustNew(t, registry.WithAdapters(bringing(ext("ext.own", ""), "id: profile.own\nextension: ext.own\n", "id: profile.far\nextension: ext.far\n")))
	for _, tt := range []struct {
		name string
		look func() error
		want string
	}{
		{"profile", func() error { _, err := reg.Profile("profile.onw"); return err }, `did you mean "profile.own"?`},
		{"resolve", func() error { _, err := reg.Resolve("profile.onw", nil); return err }, `did you mean "profile.own"?`},
		{"another profile", func() error { _, err := reg.Profile("profile.vm"); return err }, `"profile.vm"; valid: profile.own`},
		{"profile without its prefix", func() error { _, err := reg.Profile("own"); return err }, `did you mean "profile.own"?`},
		{"extension without its prefix", func() error { _, err := reg.Manifest("own"); return err }, `did you mean "ext.own"?`},
		{"left out", func() error { _, err := reg.Profile("profile.far"); return err }, `its extension "ext.far" is not registered`},
		{"manifest", func() error { _, err := reg.Manifest("ext.owm"); return err }, `did you mean "ext.own"?`},
		{"adapter", func() error { _, err := reg.Adapter("my-backnd"); return err }, `did you mean "my-backend"?`},
		{"long", func() error { _, err := reg.Adapter(strings.Repeat("x\n", 4096)); return err }, `…"`},
	} {
		err := tt.look()
		if sandboxer.CodeOf(err) != sandboxer.NotFound || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 300 {
			t.Errorf("%s: got %v, want a NotFound with %s", tt.name, err, tt.want)
		}
	}
	if _, err := reg.Adapter("sandboxer.extensions.my_backend:MyExtension"); err != nil {
		t.Errorf("the long form of a handler: %v", err)
	}
	if got := reg.Source("ext.nowhere"); got != "" {
		t.Errorf("source of an unknown id is %q", got)
	}
}

// TestDeterministic: the same documents give the same order and the same messages.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	var first string
	for range 10 {
		var all []string
		for _, dir := range cases(t, "invalid") {
			_, err := registry.New(adapters(), registry.WithFS(os.DirFS(dir)), registry.WithProfiles(badProfile()))
			all = append(all, err.Error())
		}
		if got := strings.Join(all, "\n"); first == "" {
			first = got
		} else if diff := cmp.Diff(first, got); diff != "" {
			t.Fatalf("another time, another message:\n%s", diff)
		}
	}
	ids := profileIDs(mustNew(t, adapters(), registry.WithFS(os.DirFS(filepath.Join(manifests, "valid", "full")))))
	if !slices.IsSorted(ids) || len(ids) != 3 {
		t.Errorf("profiles are %v", ids)
	}
}
