package composessh

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Restore makes a stack from the Compose file, the workspace and the named volumes of a snapshot. Nothing of the stack runs
// before the digest has been verified and all is in its place.
func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	in, err := decodeInputs(req.Inputs, req.ID)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	from, err := e.hostOfSnapshot(ctx, req.Host, req.Secret, s)
	if err != nil {
		return sandboxer.Handle{}, sure(err)
	}
	k, err := from.stored(ctx, s)
	if err != nil {
		return sandboxer.Handle{}, sure(err)
	}
	if in.Service == "" {
		in.Service = k.Service
	}
	dir := path.Join(from.root, ".snapshots", s.ID)
	h, err := e.host(ctx, req.Host, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, sure(err)
	}
	return e.create(ctx, h, req, func(ctx context.Context, token string) (*stack, error) {
		st, err := e.restore(ctx, h, req, in, dir, k.Snapshot.Digest, token)
		if err != nil {
			return nil, fmt.Errorf("restoring snapshot %s: %w", s.ID, err)
		}
		return st, nil
	})
}

func (e *extension) restore(ctx context.Context, h *host, req *sandboxer.ProvisionRequest, in inputs, dir, digest, token string) (*stack, error) {
	owner := req.Labels[sandboxer.LabelOwner]
	out, err := h.long(ctx, "verifying the snapshot", verifyScript, dir, digest, req.Name)
	if err != nil {
		return nil, err
	}
	if out = strings.TrimSpace(out); out != "ok" {
		return nil, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%w: %s", errDamaged, out))
	}
	file, text, err := h.compose(ctx, req.Name, "")
	if err != nil {
		return nil, err
	}
	in.ComposeFile = file
	p, err := e.load(ctx, h, req, in, file, text, token)
	if err != nil {
		return nil, err
	}
	if err := p.withFiles(ctx, h); err != nil {
		return nil, err
	}
	if err := p.noCopy(); err != nil { // what a volume held is what it holds, also where that is nothing
		return nil, err
	}
	// Where the builder reads the workspace, or the engine mounts paths in it, it is extracted first, and the host looks where they
	// lead. For a login that is not root it belongs to that login then, and is extracted once more.
	members, early, opened := p.members(), p.builds || p.ReadOnly, p
	if early {
		if _, err := h.long(ctx, "extracting the workspace", removeLib+restoreScript, req.Name, owner, dir, "", toolPath); err != nil {
			return nil, err
		}
		if err := h.check(ctx, req.Name, p.paths); err != nil {
			return nil, err
		}
	}
	if p.builds {
		if err := h.labelBuilds(ctx, req, p); err != nil {
			return nil, err
		}
		if _, err := h.up(ctx, req.Name, p, "build"); err != nil {
			return nil, err
		}
	}
	switch {
	case early && h.uid == 0:
		members = members[1:]
	case p.ReadOnly:
		if opened, err = p.openFiles(); err != nil {
			return nil, err
		}
	}
	if _, err := h.up(ctx, req.Name, opened, filesService); err != nil {
		return nil, err
	}
	all, err := h.containers(ctx, req.Name, owner)
	if err != nil {
		return nil, err
	}
	files := of(all, filesService)
	if len(files) == 0 {
		return nil, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("the container for files is not there"))
	}
	if len(members) > 0 {
		if _, err := h.long(ctx, "extracting the snapshot", restoreScript, append([]string{req.Name, owner, dir, files[0].ID, toolPath}, members...)...); err != nil {
			return nil, err
		}
	}
	return h.up(ctx, req.Name, p, "")
}

// members are what a snapshot holds, as the container for files calls it.
func (s *stack) members() []string {
	out := []string{"w"}
	for _, v := range s.Volumes {
		out = append(out, "v/"+v)
	}
	return out
}

// long runs a script that may take its time.
func (h *host) long(ctx context.Context, what, text string, args ...string) (string, error) {
	out, errs := &lines{ctx: ctx, stage: "restore"}, &lines{ctx: context.WithoutCancel(ctx)}
	req := h.script(text, args...)
	req.Stdout, req.Stderr = out, errs
	res, err := h.conn.Exec(ctx, req)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if res.ExitCode != 0 {
		return out.text(), h.failed(what, []byte(errs.text()))
	}
	return out.text(), nil
}
