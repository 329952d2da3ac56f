// Custom-adapter is a program in a module of its own that brings an adapter of its own: see package shed.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"

	"example.com/custom-adapter/shed"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	reg, err := registry.New(registry.WithAdapters(shed.Adapter()),
		registry.WithProfiles(sandboxer.Profile{ID: "profile.box", Extension: "ext.shed"}))
	if err != nil {
		return err
	}
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: store.Memory()})
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // Run has removed everything
	return m.Run(ctx, sandboxer.CreateRequest{Profile: "profile.box", Consumer: sandboxer.Consumer{ID: "me"}},
		func(ctx context.Context, sb *manager.Sandbox) error {
			s, err := sb.Status(ctx)
			if err == nil {
				fmt.Println(s.State, "in", s.Reachability.RemoteDir)
			}
			return err
		})
}
