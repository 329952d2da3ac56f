//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local/internal/proctree"
	"github.com/sand-boxer/sandboxer/adapters/local/internal/rmtree"
)

// Teardown ends the processes of a sandbox, removes its directories and gives its name free. In that order: as long as
// anything is left, the name is still claimed, and a next call goes on where this one stopped.
func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	name := t.Handle.Ref().Name()
	if err := ended(ctx); err != nil {
		return sandboxer.CleanupReport{}, err
	}
	b, err := e.baseOf(t.Handle)
	if b == nil || err != nil {
		return sandboxer.CleanupReport{}, err
	}
	defer b.close()
	c, err := e.doom(ctx, b, name, t.Labels)
	if c == nil || err != nil {
		return sandboxer.CleanupReport{}, err
	}
	var report sandboxer.CleanupReport
	err = e.remove(ctx, b, c, &report)
	if err != nil {
		if len(report.Left) == 0 {
			report.Left = append(report.Left, "sandbox "+name+" in "+b.path)
		}
		err = classify(fmt.Errorf("removing sandbox %s from %s: %w", name, b.path, err))
	}
	return report, err
}

// doom marks a sandbox of ours as going, after which nothing new starts in it. nil: there is nothing of ours.
func (e *extension) doom(ctx context.Context, b *base, name string, labels map[string]string) (c *claim, err error) {
	err = e.locked(ctx, b, func() error {
		if c, err = b.claimOf(name); err != nil {
			return err
		}
		if c == nil {
			return classify(b.sweep(name))
		}
		if !c.ours(labels) {
			c = nil
			return nil
		}
		if c.removing {
			return nil
		}
		_, release, err := b.hold(ctx, name, syscall.LOCK_EX) // waits for processes that are just being started
		if err != nil {
			return err
		}
		defer release()
		c.removing = true
		return classify(b.markRemoving(name))
	})
	return c, err
}

func (e *extension) remove(ctx context.Context, b *base, c *claim, report *sandboxer.CleanupReport) error {
	sel := proctree.Selector{Marker: c.marker()}
	kill := func() error {
		n, err := proctree.Kill(ctx, sel)
		if err != nil {
			report.Left = append(report.Left, "processes of "+c.Name)
			return err
		}
		if n > 0 {
			report.Removed = append(report.Removed, fmt.Sprintf("%d processes", n))
		}
		return nil
	}
	if err := kill(); err != nil {
		return err
	}
	there := b.exists(c.Name)
	if there {
		// Under another name nobody who only knows the path puts anything into it any more.
		if err := b.root.Rename(c.Name, trashName+c.Name+"."+strings.ToLower(rand.Text())); err != nil {
			return err
		}
	}
	if err := e.empty(ctx, b, c.Name, report); err != nil {
		return err
	}
	if there {
		report.Removed = append(report.Removed, "directory "+filepath.Join(b.path, c.Name))
	}
	if err := kill(); err != nil { // whoever was only being started when the first look was taken
		return err
	}
	return e.locked(ctx, b, func() error {
		if err := e.empty(ctx, b, c.Name, report); err != nil { // a creation that was slow to give up
			return err
		}
		if b.exists(c.Name) {
			return errors.New("its directory is there again")
		}
		return b.unclaim(c.Name)
	})
}

// empty removes all directories of name that are being made or removed.
func (e *extension) empty(ctx context.Context, b *base, name string, report *sandboxer.CleanupReport) error {
	var errs []error
	for _, prefix := range []string{stageName + name + ".", trashName + name + "."} {
		dirs, err := elements(b.root, ".", prefix)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			if err := rmtree.Remove(ctx, b.root, d); err != nil {
				report.Left = append(report.Left, "directory "+filepath.Join(b.path, d))
				errs = append(errs, err)
				continue
			}
			if strings.HasPrefix(d, stageName) {
				report.Removed = append(report.Removed, "half-made directory "+filepath.Join(b.path, d))
			}
		}
	}
	return errors.Join(errs...)
}

// discardTimeout bounds what a failed creation spends on its own remains; Teardown finds the rest.
const discardTimeout = 30 * time.Second

// discard removes a directory that was being made. It outlives ctx, which is often why it is called.
func (e *extension) discard(ctx context.Context, b *base, stage string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	return rmtree.Remove(ctx, b.root, stage)
}
