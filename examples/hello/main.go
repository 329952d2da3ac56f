// Hello is the program of the README: it makes a sandbox, runs a command in it, and takes it away.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/all"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // Ctrl-C: Run removes what there is
	defer stop()
	reg, err := registry.New(registry.WithAdapters(all.Adapters()...))
	check(err)
	st, err := boltstore.Open(ctx, "sandboxes.db") // remembers what exists, also after a crash
	check(err)
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: st})
	check(err)
	request := sandboxer.CreateRequest{Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "me"}}
	check(m.Run(ctx, request, func(ctx context.Context, sb *manager.Sandbox) error { // gone when Run returns
		_, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"echo", "hello"}, Stdout: os.Stdout})
		return err
	}))
	check(m.Close())
	check(st.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
