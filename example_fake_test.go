package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// applicationFiles are the manifests and profiles of a host application, usually embedded.
var applicationFiles = fstest.MapFS{
	"extensions/ext.builders.yaml": {Data: []byte(`
id: ext.builders
title: The machines in the cellar
handler: compose-ssh
capabilities:
  isolation_levels: [container]
  pricing_model: self-hosted
`)},
	"profiles/profile.go-build.yaml": {Data: []byte(`
id: profile.go-build
extension: ext.builders
isolation: container
requires: [exec]
`)},
}

// goVersion is a function of a host application: it is what the example tests.
func goVersion(ctx context.Context, m *manager.Manager) (version string, err error) {
	request := sandboxer.CreateRequest{Profile: "profile.go-build", Consumer: sandboxer.Consumer{ID: "ci"}}
	err = m.Run(ctx, request, func(ctx context.Context, sb *manager.Sandbox) error {
		out, err := sb.Output(ctx, "go", "version")
		version = string(out)
		return err
	})
	return version, err
}

// A host application's test: its own manifest and profile run on a backend in memory, which answers as the test says, fails when it is
// told to, and says at the end what was left.
func Example_test() {
	ctx := context.Background()
	backend := fake.New()
	backend.OnExec(func(_ context.Context, _ sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
		_, err := fmt.Fprintf(r.Stdout, "%s of the test", r.Command[1])
		return sandboxer.ExecResult{}, err
	})

	reg, err := registry.New(registry.WithAdapters(backend.InPlaceOf("compose-ssh")), registry.WithFS(applicationFiles))
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: store.Memory()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = m.Close() }()

	fmt.Println(goVersion(ctx, m))

	// The backend is full, and says so before it creates anything.
	backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: sandboxer.Refused(sandboxer.ResourceExhausted, errors.New("no room"))})
	_, err = goVersion(ctx, m)
	fmt.Println(errors.Is(err, sandboxer.ResourceExhausted), backend.Live())
	backend.Heal()

	// The command never runs, and the sandbox is gone all the same.
	backend.Fail(fake.Fault{Op: sandboxer.OpExec, Err: sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset"))})
	_, err = goVersion(ctx, m)
	fmt.Println(errors.Is(err, sandboxer.Unavailable), backend.Live())
	// Output:
	// version of the test <nil>
	// true []
	// true []
}
