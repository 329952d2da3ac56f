//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
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
	if err := e.locked(ctx, b, func() error { return b.trash(c, report) }); err != nil {
		return err
	}
	if err := b.emptyTrash(ctx, c, report); err != nil {
		return err
	}
	if err := kill(); err != nil { // whoever was only being started when the first look was taken
		return err
	}
	return e.locked(ctx, b, func() error {
		now, err := b.claimOf(c.Name)
		if err != nil || now == nil || now.Token != c.Token {
			return err // another call came to the end first
		}
		if b.exists(c.Name) {
			return sandboxer.Mark(sandboxer.Aborted, errors.New("its directory is there again"))
		}
		return b.unclaim(c.Name)
	})
}

// trash moves all directories of a sandbox to names that only its own teardown looks for. Whoever only knows the old path
// puts nothing into it any more, and a later sandbox of the same name is safe. The caller holds the lock.
func (b *base) trash(c *claim, report *sandboxer.CleanupReport) error {
	now, err := b.claimOf(c.Name)
	if err != nil || now == nil || now.Token != c.Token {
		return err // another call was faster
	}
	dirs, err := elements(b.root, ".", stageName+c.Name+".")
	if err != nil {
		return err
	}
	for _, d := range append(dirs, c.Name) {
		err := b.root.Rename(d, c.trashPrefix()+strings.ToLower(rand.Text()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		report.Removed = append(report.Removed, "directory "+filepath.Join(b.path, d))
	}
	return nil
}

func (c *claim) trashPrefix() string { return trashName + c.Token + "." }

func (b *base) emptyTrash(ctx context.Context, c *claim, report *sandboxer.CleanupReport) error {
	dirs, err := elements(b.root, ".", c.trashPrefix())
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range dirs {
		if err := rmtree.Remove(ctx, b.root, d); err != nil {
			report.Left = append(report.Left, "directory "+filepath.Join(b.path, d))
			errs = append(errs, err)
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
