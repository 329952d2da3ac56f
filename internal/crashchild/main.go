// Crashchild is a program that uses a Manager and is killed while it does: the crash tests build it with the tag
// sandboxer_crash, run one scenario of it against a backend in their own process, and look at what it left. It prints what
// it was promised: "have <id>" when a Create has returned, "drop <id>" before it gives a sandbox up, the same of snapshots as
// "have-snapshot" and "drop-snapshot", and "reaped <name>" for what its reaper says should not be there.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/crashworld"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/metering"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: crashchild <store> <backend url> <scenario>")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "crashchild:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path, backend, name string) error {
	scenario, ok := scenarios()[name]
	if !ok {
		return fmt.Errorf("no scenario is called %q", name)
	}
	st, err := boltstore.Open(ctx, path)
	if err != nil {
		return err
	}
	cfg, closeExporter, err := crashworld.Config(st, path, backend)
	if err != nil {
		return err
	}
	if scenario.keep > 0 {
		cfg.Keep = scenario.keep
	}
	if scenario.meter > 0 {
		cfg.MeterSnapshots = scenario.meter
	}
	m, err := manager.New(ctx, cfg)
	if err != nil {
		return err
	}
	c := &child{m: m, st: st}
	if err := scenario.play(ctx, c); err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	if err := closeExporter(); err != nil {
		return err
	}
	return st.Close()
}

// child is what scenarios act through.
type child struct {
	m  *manager.Manager
	st *boltstore.Store
}

func (c *child) create(ctx context.Context, id, profile, snapshot string) (*manager.Sandbox, error) {
	sb, err := c.m.Create(ctx, sandboxer.CreateRequest{
		ID: sandboxer.ID(id), Profile: profile, Consumer: sandboxer.Consumer{ID: "crash", Tenant: "t1"},
		FromSnapshot: snapshot, TTL: time.Hour,
	})
	if err == nil {
		fmt.Println("have", id)
	}
	return sb, err
}

func (c *child) drop(ctx context.Context, sb *manager.Sandbox) error {
	fmt.Println("drop", sb.ID())
	_, err := sb.Teardown(ctx)
	return err
}

// accounted waits until n meter records wait for their delivery.
func (c *child) accounted(ctx context.Context, n int) error {
	for range 200 {
		if got, err := metering.Pending(ctx, c.st); err != nil || got >= n {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("there are not %d meter records after 10 s", n)
}

// settled waits until nothing is orphaned any more: the Manager tries again by itself.
func (c *child) settled(ctx context.Context) error {
	for range 200 {
		busy := false
		for sb, err := range c.m.List(ctx, manager.Filter{States: []sandboxer.State{sandboxer.StateOrphaned, sandboxer.StateTearingDown}}) {
			if err != nil {
				return err
			}
			_ = sb
			busy = true
		}
		for s, err := range c.m.Snapshots(ctx, manager.Filter{}) {
			if err != nil {
				return err
			}
			busy = busy || s.Status == sandboxer.SnapshotDeleting
		}
		if !busy {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("something is still orphaned after 10 s")
}
