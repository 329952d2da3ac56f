//go:build linux || darwin

package local_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// A Manager over the local adapter, with its own manifest and profile. A program that must clean up after a crash opens a
// store of manager/boltstore instead of one in memory.
func ExampleAdapter() {
	dir, err := os.MkdirTemp("", "sandboxes")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_STATE_HOME", dir) // in place of the user's own

	reg, err := registry.New(registry.WithAdapters(local.Adapter()))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: store.Memory(), Owner: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	request := sandboxer.CreateRequest{Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "example"}}
	err = m.Run(ctx, request, func(ctx context.Context, box *manager.Sandbox) error {
		out, err := box.Output(ctx, "sh", "-c", "echo hello from $(basename $PWD)")
		fmt.Printf("%s", out)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: hello from workspace
}
