package registry_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

func Example() {
	// The adapter is the application's own here; adapters/all has the bundled ones.
	backend := sandboxer.Adapter{
		Handler: "my-backend",
		New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) {
			return nil, sandboxer.Unsupported
		},
	}
	files := fstest.MapFS{ // usually an embed.FS, or os.DirFS("/etc/my-app")
		"extensions/ext.my-backend.yaml": {Data: []byte(`
id: ext.my-backend
title: My Backend
handler: my-backend
capabilities:
  isolation_levels: [container]
  pricing_model: self-hosted
inputs:
  required: [repo]
`)},
		"profiles/profile.go-build.yaml": {Data: []byte(`
id: profile.go-build
extension: ext.my-backend
resources: {cpu: "2", memory: 4Gi}
ttl: 45m
`)},
	}
	reg, err := registry.New(registry.WithAdapters(backend), registry.WithFS(files))
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := reg.Resolve("profile.go-build", sandboxer.Inputs{"repo": "https://example.com/repo.git"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Extension, p.Resources.CPUMillis, p.TTL, p.Inputs["repo"])
	_, err = reg.Resolve("profile.go-build", sandboxer.Inputs{"repository": "https://example.com/repo.git"})
	fmt.Println(err)
	// Output:
	// ext.my-backend 2000 45m0s https://example.com/repo.git
	// invalid_argument: the inputs do not fit profile.go-build:
	// inputs.repository: ext.my-backend takes no input "repository"; valid: repo
	// inputs.repo: is missing; ext.my-backend requires it
}

// Every problem of every document is reported at once.
func ExampleNew_problems() {
	_, err := registry.New(
		registry.WithYAML("ext.a.yaml", []byte("id: ext.a\nhandler: lokal\ncapabilities:\n  isolation_levels: [contianer]\n  pricing_model: free\n")),
		registry.WithYAML("profile.b.yaml", []byte("id: profile.b\nextension: ext.a\nttl: 7d\nresorces: {}\n")),
	)
	fmt.Println(err)
	// Output:
	// invalid_argument: 4 problems in manifests and profiles:
	// ext.a.yaml:2:10: handler: no adapter is registered for "lokal"; none is registered (adapters are registered with registry.WithAdapters)
	// ext.a.yaml:4:22: capabilities.isolation_levels[0]: unknown isolation level "contianer"; did you mean "container"?
	// profile.b.yaml:3:6: ttl: "7d" is no duration; did you mean "168h"?
	// profile.b.yaml:4:1: unknown key "resorces"; did you mean "resources"?
}
