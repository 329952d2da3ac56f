package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

type scenario struct {
	play  func(context.Context, *child) error
	keep  time.Duration // Config.Keep
	meter time.Duration // Config.MeterSnapshots
}

// scenarios are what the child can be killed at. The faults that some of them meet are arranged at the backend.
func scenarios() map[string]scenario {
	fails := func(profile string) scenario { // the create is meant to fail
		return scenario{play: func(ctx context.Context, c *child) error {
			if _, err := c.create(ctx, "box", profile, ""); err == nil {
				return errors.New("the create should have failed")
			}
			return c.settled(ctx)
		}}
	}
	lives := func(profile string) scenario {
		return scenario{play: func(ctx context.Context, c *child) error {
			_, err := c.create(ctx, "box", profile, "")
			return err
		}}
	}
	return map[string]scenario{
		"create":      lives("profile.full"),
		"checkpoint":  lives("profile.steps"),
		"burst":       lives("profile.burst"),
		"unready":     fails("profile.full"),
		"adopted":     lives("profile.full"),
		"lost":        fails("profile.blind"),
		"teardown":    {play: teardown},
		"stuck":       {play: teardownStuck},
		"snapshot":    {play: snapshot},
		"snapfail":    {play: snapshotFails},
		"restore":     {play: restore},
		"transfer":    {play: transfer("profile.hosts", false)},
		"move":        {play: transfer("profile.peers", false)},
		"movelost":    {play: transfer("profile.peers", true)},
		"extend":      {play: extend},
		"pause":       {play: pause},
		"pauselost":   {play: pauseLost},
		"use":         {play: use},
		"reap":        {play: reap},
		"purge":       {play: purge, keep: time.Nanosecond},
		"estimate":    {play: estimate},
		"snapstorage": {play: snapshotDelete},
		"snapkeep":    {play: snapshotKept, meter: 400 * time.Millisecond},
		"soak":        {play: soak},
	}
}

func teardown(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	return c.drop(ctx, sb)
}

func teardownStuck(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	if err := c.drop(ctx, sb); err == nil {
		return errors.New("the teardown should have failed")
	}
	return c.settled(ctx)
}

func snapshot(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"}); err != nil {
		return err
	}
	fmt.Println("have-snapshot snap")
	return nil
}

func snapshotFails(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"}); err == nil {
		return errors.New("the snapshot should have failed")
	}
	return c.settled(ctx)
}

func snapshotDelete(ctx context.Context, c *child) error {
	if err := snapshot(ctx, c); err != nil {
		return err
	}
	fmt.Println("drop-snapshot snap")
	return c.m.DeleteSnapshot(ctx, "snap")
}

func snapshotKept(ctx context.Context, c *child) error {
	if err := snapshot(ctx, c); err != nil {
		return err
	}
	if err := c.accounted(ctx, 2); err != nil {
		return err
	}
	fmt.Println("drop-snapshot snap")
	return c.m.DeleteSnapshot(ctx, "snap")
}

func restore(ctx context.Context, c *child) error {
	if err := snapshot(ctx, c); err != nil {
		return err
	}
	_, err := c.create(ctx, "again", "profile.full", "snap")
	return err
}

// transfer copies a snapshot to the other host, or is meant to fail at that.
func transfer(profile string, fails bool) func(context.Context, *child) error {
	return func(ctx context.Context, c *child) error {
		sb, err := c.create(ctx, "box", profile, "")
		if err != nil {
			return err
		}
		status, err := sb.Status(ctx)
		if err != nil {
			return err
		}
		if _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"}); err != nil {
			return err
		}
		fmt.Println("have-snapshot snap")
		other := map[string]string{"h1": "h2", "h2": "h1"}[status.Host]
		there, err := c.m.TransferSnapshot(ctx, "snap", other)
		switch {
		case err == nil && fails:
			return errors.New("the transfer should have failed")
		case fails:
			return c.settled(ctx)
		case err == nil:
			fmt.Println("have-snapshot", there.ID)
		}
		return err
	}
}

func extend(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	_, err = sb.Extend(ctx, time.Now().Add(2*time.Hour))
	return err
}

func pause(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	if err := sb.Pause(ctx); err != nil {
		return err
	}
	return sb.Resume(ctx)
}

func pauseLost(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	if err := sb.Pause(ctx); err == nil {
		return errors.New("the pause should have failed")
	}
	return nil
}

func use(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	tree := fs.FS(fstest.MapFS{"f": {Data: []byte("x")}})
	if err := sb.CopyIn(ctx, "", tree); err != nil {
		return err
	}
	if err := sb.Sync(ctx, "synced", tree); err != nil {
		return err
	}
	if _, err := sb.Output(ctx, "true"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "crashchild-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	if err := sb.CopyOut(ctx, "", dir); err != nil {
		return err
	}
	if _, err := sb.Expose(ctx, 80); err != nil {
		return err
	}
	if _, err := sb.Dial(ctx, "tcp", "localhost:80"); err == nil {
		return errors.New("the backend carries no connections")
	}
	return nil
}

func reap(ctx context.Context, c *child) error {
	if _, err := c.create(ctx, "box", "profile.full", ""); err != nil {
		return err
	}
	report, err := c.m.Reap(ctx, manager.ReapOptions{})
	if err == nil && len(report.Orphaned) == 0 {
		err = errors.New("the reaper found no orphan")
	}
	return err
}

func purge(ctx context.Context, c *child) error {
	if err := teardown(ctx, c); err != nil {
		return err
	}
	report, err := c.m.Reap(ctx, manager.ReapOptions{})
	if err == nil && report.Purged == 0 {
		err = errors.New("nothing was purged")
	}
	return err
}

func estimate(ctx context.Context, c *child) error {
	sb, err := c.create(ctx, "box", "profile.full", "")
	if err != nil {
		return err
	}
	_, err = sb.Meter(ctx)
	return err
}
