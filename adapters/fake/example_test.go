package fake_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/registry"
)

// A sandbox in memory: its commands and its files are one world.
func ExampleBackend_Adapter() {
	ctx := context.Background()
	backend := fake.New()
	ext, err := backend.Adapter().New(ctx, sandboxer.Settings{ExtensionID: "ext.fake"})
	if err != nil {
		fmt.Println(err)
		return
	}
	req := &sandboxer.ProvisionRequest{ID: "demo", Attempt: 1, Name: "demo",
		Profile: sandboxer.Profile{ID: "profile.fake", Extension: "ext.fake"}}
	h, err := ext.Provision(ctx, req)
	if err != nil {
		fmt.Println(err)
		return
	}
	shell, _ := sandboxer.As[sandboxer.Executor](ext)
	res, err := shell.Exec(ctx, sandboxer.Target{Handle: h}, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "seq 3 > numbers; wc -l < numbers; exit 4"}, Stdout: os.Stdout,
	})
	fmt.Println(res.ExitCode, err)
	fmt.Println(backend.Live())
	_, err = ext.Teardown(ctx, sandboxer.Target{Handle: h})
	fmt.Println(backend.Live(), err)
	// Output:
	// 3
	// 4 <nil>
	// [demo]
	// [] <nil>
}

// The host application's own manifests, served from memory. Its adapter says that it is Hosted, and so does the fake.
func ExampleBackend_InPlaceOf() {
	backend := fake.New()
	adapter := backend.InPlaceOf("compose-ssh", sandboxer.CapExec, sandboxer.CapFiles)
	adapter.Hosted = true
	reg, err := registry.New(
		registry.WithAdapters(adapter),
		registry.WithYAML("extensions/ext.build.yaml", []byte(`
id: ext.build
handler: compose-ssh
capabilities:
  isolation_levels: [container]
  pricing_model: self-hosted
config:
  anything: goes
`)),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := reg.Manifest("ext.build")
	fmt.Println(m.Handler, err)
	// Output:
	// compose-ssh <nil>
}

// The reply of one create is lost: the sandbox exists, and nobody was told.
func ExampleBackend_Fail() {
	ctx := context.Background()
	backend := fake.New()
	backend.Fail(fake.Fault{
		Op: sandboxer.OpProvision, Times: 1, Effect: fake.After,
		Err: sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset")),
	})
	ext, err := backend.Adapter().New(ctx, sandboxer.Settings{ExtensionID: "ext.fake"})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := ext.Provision(ctx, &sandboxer.ProvisionRequest{ID: "demo", Attempt: 1, Name: "demo"})
	fmt.Println(h, err)
	fmt.Println(backend.Live())
	// Output:
	// no handle unavailable: connection reset
	// [demo]
}
