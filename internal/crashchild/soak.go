package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

// soakers is how many callers use the Manager at once.
const soakers = 16

// soak makes, uses and removes sandboxes at random until the process is killed, or its standard input would end.
func soak(ctx context.Context, c *child) error {
	var group sync.WaitGroup
	for range soakers {
		group.Go(func() {
			for ctx.Err() == nil {
				c.something(ctx)
			}
		})
	}
	group.Wait()
	return nil
}

// something is one random thing that a host application does. Failures are part of it: what counts is what is left.
func (c *child) something(ctx context.Context) {
	if rand.IntN(10) == 0 { // an impatient caller
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rand.N(20*time.Millisecond))
		defer cancel()
	}
	switch n := rand.IntN(100); {
	case n < 50:
		c.makeOne(ctx)
	case n < 52:
		c.reap(ctx)
	default:
		c.useOne(ctx)
	}
}

// reap has the reaper look beside everything else that goes on. It should find nothing: what it finds was leaked, or is not
// its to remove. That is said before it is removed, lest the process dies in between.
func (c *child) reap(ctx context.Context) {
	for _, dry := range []bool{true, false} {
		report, err := c.m.Reap(ctx, manager.ReapOptions{DryRun: dry})
		for _, r := range slices.Concat(report.Orphaned, report.Snapshots) {
			fmt.Println("reaped", r.Name)
		}
		if err != nil {
			return
		}
	}
	fmt.Println("did reap")
}

func (c *child) snapshotOne(ctx context.Context, sb *manager.Sandbox) {
	s, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
	if err != nil {
		return
	}
	fmt.Println("have-snapshot", s.ID)
	if rand.IntN(3) > 0 {
		fmt.Println("drop-snapshot", s.ID)
		_ = c.m.DeleteSnapshot(ctx, s.ID)
	}
}

func (c *child) makeOne(ctx context.Context) {
	profiles := []string{"profile.full", "profile.full", "profile.burst", "profile.hosts", "profile.steps", "profile.blind"}
	req := sandboxer.CreateRequest{
		ID: sandboxer.NewID(), Profile: profiles[rand.IntN(len(profiles))], TTL: time.Hour,
		Consumer: sandboxer.Consumer{ID: "soak", Tenant: "t1"},
	}
	if rand.IntN(5) == 0 {
		req.TTL = time.Duration(1+rand.IntN(2000)) * time.Millisecond
		fmt.Println("drop", req.ID)
	}
	if rand.IntN(5) == 0 {
		for s, err := range c.m.Snapshots(ctx, manager.Filter{Extension: "ext.full"}) {
			if err == nil && s.Status == sandboxer.SnapshotReady {
				req.FromSnapshot, req.Profile = s.ID, "profile.full"
			}
			break
		}
	}
	callers := 1 + 3*rand.IntN(2) // sometimes the same request several times at once
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			if _, err := c.m.Create(ctx, req); err == nil {
				fmt.Println("have", req.ID)
			}
		})
	}
	group.Wait()
}

// useOne does something with a sandbox that is there.
func (c *child) useOne(ctx context.Context) {
	var sb *manager.Sandbox
	seen := 0
	for s, err := range c.m.List(ctx, manager.Filter{States: []sandboxer.State{sandboxer.StateReady, sandboxer.StatePaused}}) {
		if err != nil {
			return
		}
		if seen++; rand.IntN(seen) == 0 {
			sb = s
		}
		if seen == 50 {
			break
		}
	}
	if sb == nil {
		return
	}
	switch rand.IntN(10) {
	case 0:
		_ = sb.Pause(ctx)
	case 1:
		_ = sb.Resume(ctx)
	case 2:
		_, _ = sb.Extend(ctx, time.Now().Add(2*time.Hour))
	case 3:
		c.snapshotOne(ctx, sb)
	case 4:
		_, _ = sb.Output(ctx, "true")
	case 5:
		_, _ = sb.Meter(ctx)
	default:
		_ = c.drop(ctx, sb)
	}
}
