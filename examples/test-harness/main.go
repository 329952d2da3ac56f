// Test-harness is a host application and its tests: it counts the lines of a text in a sandbox. Its tests run it on the fake,
// which behaves like a backend, and on mocks, which check single calls; neither needs anything but Go.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	m, err := open(ctx, local.Adapter())
	if err != nil {
		return err
	}
	n, err := countLines(ctx, m, "profile.counter", "one\ntwo\nthree\n")
	if err != nil {
		return err
	}
	fmt.Println(n, "lines")
	return m.Close()
}

// The application's own manifest and profile. In production the handler is the local adapter's.
const extension = `
id: ext.counter
title: Where lines are counted
handler: local
capabilities:
  isolation_levels: [process]
  pricing_model: free
`

// open makes the application's Manager over whatever serves its handler: this is all that a test has to replace.
func open(ctx context.Context, adapter sandboxer.Adapter) (*manager.Manager, error) {
	reg, err := registry.New(
		registry.WithAdapters(adapter),
		registry.WithYAML("ext.counter.yaml", []byte(extension)),
		registry.WithProfiles(sandboxer.Profile{ID: "profile.counter", Extension: "ext.counter", Requires: []sandboxer.Capability{sandboxer.CapExec}}),
	)
	if err != nil {
		return nil, err
	}
	return manager.New(ctx, manager.Config{Registry: reg, Store: store.Memory()})
}

// countLines is what the application does.
func countLines(ctx context.Context, m *manager.Manager, profile, text string) (n int, err error) {
	req := sandboxer.CreateRequest{Profile: profile, Consumer: sandboxer.Consumer{ID: "counter"}}
	err = m.Run(ctx, req, func(ctx context.Context, sb *manager.Sandbox) error {
		var out bytes.Buffer
		res, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"wc", "-l"}, Stdin: strings.NewReader(text), Stdout: &out})
		if err == nil {
			err = res.Err()
		}
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(out.String()))
		}
		return err
	})
	return n, err
}
