//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// extension serves one manifest. All that it knows is on disk, but for the pipes that it goes on emptying.
type extension struct {
	id    string
	cfg   config
	log   *slog.Logger
	drain drains
	gate  chan struct{} // one call of this process at a time asks for the lock of the base
}

var (
	_ sandboxer.Finder             = (*extension)(nil)
	_ sandboxer.Lister             = (*extension)(nil)
	_ sandboxer.Executor           = (*extension)(nil)
	_ sandboxer.FileTransferer     = (*extension)(nil)
	_ sandboxer.Dialer             = (*extension)(nil)
	_ sandboxer.Snapshotter        = (*extension)(nil)
	_ sandboxer.SnapshotTransferer = (*extension)(nil)
	_ sandboxer.Inspector          = (*extension)(nil)
	_ sandboxer.Extender           = (*extension)(nil)
	_ sandboxer.Preflighter        = (*extension)(nil)
)

func newExtension(s sandboxer.Settings, c config) (sandboxer.Extension, error) {
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &extension{id: s.ExtensionID, cfg: c, log: log, gate: make(chan struct{}, 1)}, nil
}

// Close ends the reading of what background processes still write. Sandboxes live on.
func (e *extension) Close() error {
	e.drain.close()
	return nil
}

// inputs are what a profile or a request may say.
type inputs struct{ Env map[string]string }

func decodeInputs(req *sandboxer.ProvisionRequest) (map[string]string, error) {
	var in inputs
	if err := req.Inputs.Decode(&in); err != nil {
		return nil, err
	}
	for k, v := range in.Env {
		if err := checkVariable(k, v); err != nil {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input env: %w", err))
		}
	}
	return in.Env, nil
}

// Preflight checks the inputs.
func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	if err := ended(ctx); err != nil {
		return err
	}
	_, err := decodeInputs(req)
	return err
}

// state is what a handle carries: where the sandbox is, in case the configuration changes.
type state struct {
	Root string `json:"root"`
}

const stateVersion = 1

// Provision makes the directory of a sandbox.
func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	return e.create(ctx, req, func(context.Context, *os.Root) error { return nil })
}

// create claims the name, makes the directory beside its place, fills the workspace and moves it into place. Until the last
// step there is nothing that a command could run in.
func (e *extension) create(ctx context.Context, req *sandboxer.ProvisionRequest, fill func(context.Context, *os.Root) error) (sandboxer.Handle, error) {
	var none sandboxer.Handle
	if err := ended(ctx); err != nil {
		return none, err
	}
	env, err := decodeInputs(req)
	if err != nil {
		return none, err
	}
	if err := checkName(req.Name); err != nil {
		return none, err
	}
	h, err := req.Handle(stateVersion, state{Root: e.cfg.Root})
	if err != nil {
		return none, sandboxer.Refused(sandboxer.InvalidArgument, err)
	}
	b, err := openBase(e.cfg.Root, true)
	if err != nil {
		return none, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	defer b.close()
	stage, claimed, err := e.stage(ctx, b, newClaim(req, env))
	if err != nil {
		err = classify(fmt.Errorf("sandbox %s in %s: %w", req.Name, b.path, err))
		if claimed {
			return h, err
		}
		return none, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if stage == "" {
		return h, nil // it exists, complete
	}
	err = e.build(ctx, b, stage, fill)
	if err == nil {
		err = e.publish(ctx, b, req.Name, stage)
	}
	if err == nil {
		return h, nil
	}
	if rerr := e.discard(ctx, b, stage); rerr != nil {
		e.log.WarnContext(ctx, "a half-made sandbox is left to teardown", "sandbox", req.Name, "error", rerr)
	}
	return h, classify(fmt.Errorf("sandbox %s in %s: %w", req.Name, b.path, err))
}

// ended refuses a call whose context has ended.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	return nil
}

func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, "./\\\x00") || len(name) > 200 {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the name %q cannot be that of a directory; use letters, digits and hyphens", name))
	}
	return nil
}

// locked runs f with the lock of the base.
func (e *extension) locked(ctx context.Context, b *base, f func() error) error {
	select {
	case e.gate <- struct{}{}:
		defer func() { <-e.gate }()
	case <-ctx.Done():
		return ctx.Err()
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// stage claims the name and makes an empty directory to build in. It is "" where the sandbox exists, complete and ours.
// claimed is whether the name is ours afterwards, also after an error.
func (e *extension) stage(ctx context.Context, b *base, want *claim) (stage string, claimed bool, err error) {
	err = e.locked(ctx, b, func() error {
		have, err := b.claimOf(want.Name)
		if err != nil {
			return err
		}
		info, serr := b.root.Lstat(want.Name)
		switch {
		case serr != nil && !errors.Is(serr, fs.ErrNotExist):
			return serr
		case have == nil && serr == nil:
			return sandboxer.Mark(sandboxer.AlreadyExists, fmt.Errorf("%s was not made by sandboxer and is left alone", filepath.Join(b.path, want.Name)))
		case have != nil && !have.ours(want.Labels):
			return sandboxer.Mark(sandboxer.AlreadyExists, errors.New("the name belongs to another owner"))
		case have != nil && have.removing:
			return sandboxer.Mark(sandboxer.Aborted, errors.New("the sandbox is being removed; tear it down and try again"))
		case have != nil && serr == nil && !info.IsDir():
			return sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("something else took the place of the sandbox's directory; tear it down"))
		case have != nil && serr == nil:
			return nil
		}
		if have == nil {
			if err := b.writeClaim(want); err != nil {
				_ = b.sweep(want.Name) // removes the directory of claims where it is empty
				return err
			}
		}
		claimed = true
		stage = stageName + want.Name + "." + strings.ToLower(rand.Text())
		err = b.root.Mkdir(stage, 0o700)
		if err != nil && have == nil {
			rerr := b.root.Remove(path.Join(claimsDir, want.Name+liveEnd))
			claimed = rerr != nil
			_ = b.sweep(want.Name) // as above
			return errors.Join(err, rerr)
		}
		return err
	})
	return stage, claimed, err
}

// The directories of a sandbox.
const (
	workspaceDir = "workspace"
	homeDir      = "home"
	tmpDir       = "tmp"
)

func (e *extension) build(ctx context.Context, b *base, stage string, fill func(context.Context, *os.Root) error) error {
	for _, d := range []string{workspaceDir, homeDir, tmpDir} {
		if err := b.root.Mkdir(path.Join(stage, d), 0o700); err != nil {
			return err
		}
	}
	ws, err := b.root.OpenRoot(path.Join(stage, workspaceDir))
	if err != nil {
		return err
	}
	return errors.Join(fill(ctx, ws), ws.Close())
}

// publish moves what was built into its place, unless somebody was faster or took the claim away.
func (e *extension) publish(ctx context.Context, b *base, name, stage string) error {
	return e.locked(ctx, b, func() error {
		c, err := b.claimOf(name)
		if err != nil {
			return err
		}
		if c == nil || c.removing {
			return sandboxer.Mark(sandboxer.Aborted, errors.New("it was torn down while it was being made"))
		}
		if info, err := b.root.Lstat(name); err == nil && info.IsDir() {
			return e.discard(ctx, b, stage) // another call with this name was faster: its result is ours
		}
		return b.root.Rename(stage, name)
	})
}

// WaitReady says where the workspace is; there is nothing to wait for.
func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	x, err := e.open(ctx, t)
	if err != nil {
		return sandboxer.Reachability{}, err
	}
	defer x.close()
	return sandboxer.Reachability{RemoteDir: x.dir(workspaceDir)}, nil
}

// box is one complete sandbox, looked up for one call.
type box struct {
	*base
	claim *claim
}

// dir is the path of one of the sandbox's directories.
func (x *box) dir(elem ...string) string {
	return filepath.Join(append([]string{x.path, x.claim.Name}, elem...)...)
}

// open looks a sandbox up by name. NotFound where there is none of ours.
func (e *extension) open(ctx context.Context, t sandboxer.Target) (*box, error) {
	name := t.Handle.Ref().Name()
	if err := ended(ctx); err != nil {
		return nil, err
	}
	b, err := e.baseOf(t.Handle)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, gone(name)
	}
	x, err := b.box(name, t.Labels)
	if err != nil {
		b.close()
		return nil, err
	}
	return x, nil
}

// still reports that the sandbox is what it was when it was opened: what was read of it until then is whole, and was not
// just being removed.
func (x *box) still() error {
	c, err := x.claimOf(x.claim.Name)
	if err == nil && (c == nil || c.removing || c.Token != x.claim.Token) {
		err = sandboxer.Mark(sandboxer.Aborted, errors.New("it was torn down meanwhile"))
	}
	return err
}

func (b *base) box(name string, labels map[string]string) (*box, error) {
	c, err := b.claimOf(name)
	switch {
	case err != nil:
		return nil, err
	case c == nil || !c.ours(labels):
		return nil, gone(name)
	case c.removing:
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s is being removed", name))
	}
	if info, err := b.root.Lstat(name); err != nil || !info.IsDir() {
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s has no directory: it was never completed, or something removed %s; tear it down", name, filepath.Join(b.path, name)))
	}
	return &box{base: b, claim: c}, nil
}

// baseOf opens the directory in which the sandbox of h was made; nil where there is no such directory.
func (e *extension) baseOf(h sandboxer.Handle) (*base, error) {
	if err := checkName(h.Ref().Name()); err != nil {
		return nil, err
	}
	root := e.cfg.Root
	if h.HasState() {
		if h.StateVersion() > stateVersion {
			return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the handle of %s was written by a newer release; upgrade", h.Ref().Name()))
		}
		var s state
		if err := h.State(&s); err != nil {
			return nil, err
		}
		if !filepath.IsAbs(s.Root) {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the handle of %s names no absolute root", h.Ref().Name()))
		}
		root = s.Root
	}
	return openBase(root, false)
}
