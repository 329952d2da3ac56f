package registry_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// badProfile is wrong in every way that Go's types allow.
func badProfile() sandboxer.Profile {
	cost, _ := sandboxer.NewMoney(-1, "USD")
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	circle := map[string]any{}
	circle["again"] = circle
	return sandboxer.Profile{
		ID: "go-build", Title: "two\nlines", Extension: "nowhere", Isolation: "docker",
		Inputs: sandboxer.Inputs{
			"channel": make(chan int), "nan": math.NaN(), "secret": sandboxer.NewSecret([]byte("x"), "1"), "deep": deep, "circle": circle,
			"pointer": new(int), "struct": struct{ A int }{1}, "key": "AKIAIOSFODNN7EXAMPLE", "ints": map[int]string{1: "x"},
		},
		Resources: sandboxer.Resources{CPUMillis: -1, MemoryBytes: -1, DiskBytes: -1, GPUs: -1},
		Ports:     []int{-1, 80, 80}, Requires: []sandboxer.Capability{"fly"},
		TTL: -5, ReadyTimeout: -1, HostSelector: map[string]string{"": ""}, Labels: map[string]string{"a b": "c", "d": "x\x00"},
		Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{}, {Profile: "profile.x"}}, On: []sandboxer.Code{"teapot"}, MaxCost: &cost, Within: -1},
	}
}

// TestGoProfiles: a profile that is a Go value is checked like one that is a document.
func TestGoProfiles(t *testing.T) {
	t.Parallel()
	_, err := registry.New(adapters(), yamlDoc("mine", ext("ext.own", "")), registry.WithProfiles(badProfile()))
	if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Fatalf("got %v, want InvalidArgument", err)
	}
	golden(t, manifests+"/go-profile.txt", err.Error()+"\n")
}

// TestGoInputs: inputs arrive as they would from YAML.
func TestGoInputs(t *testing.T) {
	t.Parallel()
	type name string
	reg := mustNew(t, adapters(), yamlDoc("mine", ext("ext.own", "")), registry.WithProfiles(sandboxer.Profile{
		ID: "profile.a", Extension: "ext.own",
		Inputs: sandboxer.Inputs{
			"text": name("x"), "ref": sandboxer.SecretRef("env:KEY"), "wait": 90 * time.Second, "small": int8(1), "wide": uint64(math.MaxUint64),
			"half": float32(0.5), "yes": true, "none": nil, "list": []string{"a"}, "map": map[name]int{"a": 1}, "in": sandboxer.Inputs{"b": 2},
		},
	}))
	p, err := reg.Profile("profile.a")
	if err != nil {
		t.Fatal(err)
	}
	want := sandboxer.Inputs{
		"text": "x", "ref": "env:KEY", "wait": "1m30s", "small": 1, "wide": uint64(math.MaxUint64),
		"half": 0.5, "yes": true, "none": nil, "list": []any{"a"}, "map": map[string]any{"a": 1}, "in": map[string]any{"b": 2},
	}
	if diff := cmp.Diff(want, p.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
}

// TestResolve: a request's inputs go over the profile's, and both fit the extension.
func TestResolve(t *testing.T) {
	t.Parallel()
	reg := mustNew(t, adapters(),
		yamlDoc("strict", ext("ext.strict", "inputs: {required: [repo, token], optional: [branch, options]}\n")),
		yamlDoc("free", ext("ext.free", "")),
		yamlDoc("strict profile", "id: profile.strict\nextension: ext.strict\ninputs: {repo: a, branch: main, options: {x: 1, y: 2}}\n"),
		yamlDoc("free profile", "id: profile.free\nextension: ext.free\n"))
	tests := map[string]struct {
		profile string
		in      sandboxer.Inputs
		want    sandboxer.Inputs
		wrong   []string
	}{
		"over the profile's, key by key": {
			profile: "profile.strict", in: sandboxer.Inputs{"repo": "b", "token": "env:T", "options": map[string]any{"z": 3}},
			want: sandboxer.Inputs{"repo": "b", "branch": "main", "token": "env:T", "options": map[string]any{"z": 3}},
		},
		"nil takes away": {
			profile: "profile.strict", in: sandboxer.Inputs{"token": "name", "branch": nil},
			want: sandboxer.Inputs{"repo": "a", "token": "name", "options": map[string]any{"x": 1, "y": 2}},
		},
		"nil takes away what is required": {
			profile: "profile.strict", in: sandboxer.Inputs{"token": "name", "repo": nil},
			wrong: []string{"inputs.repo: is missing; ext.strict requires it"},
		},
		"all that is wrong": {
			profile: "profile.strict", in: sandboxer.Inputs{"Repo": "b", "brnch": "c", "options": func() {}},
			wrong: []string{`ext.strict takes no input "Repo"; did you mean "repo"?`, `did you mean "branch"?`, "inputs.token: is missing", "inputs.options: is a func()"},
		},
		"an extension that declares nothing": {
			profile: "profile.free", in: sandboxer.Inputs{"anything": []int{1}},
			want: sandboxer.Inputs{"anything": []any{1}},
		},
		"nothing at all": {profile: "profile.free"},
		"a secret in an input": {
			profile: "profile.free", in: sandboxer.Inputs{"url": "https://u:hunter2@example.com"},
			wrong: []string{"inputs.url: looks like a URL with a password"},
		},
		"a number of tokens": {
			profile: "profile.free", in: sandboxer.Inputs{"output_tokens": 4096},
			want: sandboxer.Inputs{"output_tokens": 4096},
		},
		"a secret by its name": {
			profile: "profile.strict", in: sandboxer.Inputs{"token": "hunter 2"},
			wrong: []string{"inputs.token: looks like a secret written out"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := reg.Resolve(tt.profile, tt.in)
			if len(tt.wrong) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, p.Inputs); diff != "" {
					t.Errorf("inputs (-want +got):\n%s", diff)
				}
				return
			}
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
				t.Fatalf("got %v, want a refused InvalidArgument", err)
			}
			for _, want := range tt.wrong {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
}

// TestTakes: declared inputs, declared emptiness and nothing declared are three things.
func TestTakes(t *testing.T) {
	t.Parallel()
	reg := mustNew(t, adapters(),
		yamlDoc("a", ext("ext.some", "inputs: {optional: [repo]}\n")),
		yamlDoc("b", ext("ext.none", "inputs: {required: []}\n")),
		yamlDoc("c", ext("ext.any", "inputs:\n")))
	for id, want := range map[string][2]bool{"ext.some": {true, false}, "ext.none": {false, false}, "ext.any": {true, true}} {
		m, err := reg.Manifest(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{m.Takes("repo"), m.Takes("other")}; got != want {
			t.Errorf("%s takes repo and other: %v, want %v", id, got, want)
		}
	}
}

// TestManyInputs: inputs that were made to fill a store are refused without being walked to the end.
func TestManyInputs(t *testing.T) {
	t.Parallel()
	wide := make([]int, 1<<20)
	_, err := mustNew(t, adapters(), yamlDoc("a", ext("ext.a", "")), yamlDoc("b", "id: profile.a\nextension: ext.a\n")).
		Resolve("profile.a", sandboxer.Inputs{"a": wide, "b": map[string][]int{"x": wide, "y": wide}})
	if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || strings.Count(err.Error(), "more than 20000 values") != 1 {
		t.Errorf("got %.300v", err)
	}
}
