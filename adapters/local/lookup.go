//go:build linux || darwin

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Find returns the handle of what a lost Provision or Restore made, also where it did not get to the end: WaitReady says so
// then. What is not there now never will be: an attempt that is no longer waited for gives up when its claim is gone.
func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, _ time.Time) (sandboxer.Handle, error) {
	if err := errors.Join(ended(ctx), checkName(req.Name)); err != nil {
		return sandboxer.Handle{}, err
	}
	b, err := openBase(e.cfg.Root, false)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	if b == nil {
		return sandboxer.Handle{}, gone(req.Name)
	}
	defer b.close()
	c, err := b.claimOf(req.Name)
	switch {
	case err != nil:
		return sandboxer.Handle{}, err
	case c == nil || !c.ours(req.Labels):
		return sandboxer.Handle{}, gone(req.Name)
	case c.removing:
		return sandboxer.Handle{}, &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: time.Second, Err: fmt.Errorf("sandbox %s is being removed", req.Name)}
	}
	return req.Handle(stateVersion, state{Root: b.path})
}

// List yields the sandboxes of this extension, also half-made ones and those that are being removed.
func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		b, err := openBase(e.cfg.Root, false)
		if err != nil {
			yield(sandboxer.Instance{}, err)
			return
		}
		if b == nil {
			return
		}
		defer b.close()
		names, err := b.names()
		if err != nil {
			yield(sandboxer.Instance{}, classify(err))
			return
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				yield(sandboxer.Instance{}, classify(err))
				return
			}
			c, err := b.claimOf(name)
			if err == nil && (c == nil || c.Extension != e.id || !matches(c.Labels, q.Labels)) {
				continue
			}
			var in sandboxer.Instance
			if err == nil {
				in, err = b.instance(c)
			}
			if !yield(in, err) {
				return
			}
		}
	}
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func (b *base) instance(c *claim) (sandboxer.Instance, error) {
	h, err := sandboxer.NewHandle(c.ref(), stateVersion, state{Root: b.path})
	if err != nil {
		return sandboxer.Instance{}, fmt.Errorf("the claim on %s: %w", c.Name, err)
	}
	in := sandboxer.Instance{Handle: h, State: sandboxer.StateReady, Labels: maps.Clone(c.Labels), CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt}
	if c.removing {
		in.State = sandboxer.StateTearingDown
	} else if info, err := b.root.Lstat(c.Name); err != nil || !info.IsDir() {
		in.State = sandboxer.StateProvisioning
	}
	return in, nil
}

// Inspect looks one sandbox up.
func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	name := t.Handle.Ref().Name()
	if err := ended(ctx); err != nil {
		return sandboxer.Instance{}, err
	}
	b, err := e.baseOf(t.Handle)
	if err != nil {
		return sandboxer.Instance{}, err
	}
	if b == nil {
		return sandboxer.Instance{}, gone(name)
	}
	defer b.close()
	c, err := b.claimOf(name)
	if err != nil {
		return sandboxer.Instance{}, err
	}
	if c == nil || !c.ours(t.Labels) {
		return sandboxer.Instance{}, gone(name)
	}
	return b.instance(c)
}

// Extend stores a later deadline. Nothing here ends a sandbox by itself, so all that is asked for is granted.
func (e *extension) Extend(ctx context.Context, t sandboxer.Target, until time.Time) (time.Time, error) {
	x, err := e.open(ctx, t)
	if err != nil {
		return time.Time{}, err
	}
	defer x.close()
	var granted time.Time
	err = e.locked(ctx, x.base, func() error {
		// Alone, so that nobody starts a process under a claim that is just being replaced.
		c, release, err := x.hold(ctx, x.claim.Name, syscall.LOCK_EX)
		if err != nil {
			return err
		}
		defer release()
		granted = c.ExpiresAt
		if granted.IsZero() || !until.After(granted) {
			return nil // no end, or a later one: it never shortens
		}
		c.ExpiresAt = until.UTC()
		if err := x.writeClaim(c); err != nil {
			return err
		}
		granted = c.ExpiresAt
		return nil
	})
	if err != nil {
		return time.Time{}, classify(fmt.Errorf("deadline of %s: %w", x.claim.Name, err))
	}
	if granted.IsZero() {
		granted = until // there is no end; what was asked for holds
	}
	return granted, nil
}

// exists reports whether anything is at a path below the base.
func (b *base) exists(elem ...string) bool {
	_, err := b.root.Lstat(path.Join(elem...))
	return !errors.Is(err, fs.ErrNotExist)
}
