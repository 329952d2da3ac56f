package composessh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

// source reads where a workspace comes from.
func source(in inputs) (workspace.Source, error) {
	s, err := workspace.ParseSource(in.Repo, in.Ref)
	if err != nil {
		return s, err
	}
	refuse := func(key, format string, args ...any) (workspace.Source, error) {
		return s, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input %q "+format, append([]any{key}, args...)...))
	}
	switch {
	case s.IsGit() && len(in.Ignore) > 0:
		return refuse("ignore", "is for a repo that is a directory: what git ignores is not in a clone")
	case !s.IsGit() && in.GitCredential != "":
		return refuse("git_credential", "is for a repo that is a URL")
	}
	for _, kind := range in.Ignore {
		if kind != workspace.GitIgnore && kind != workspace.DockerIgnore {
			return refuse("ignore", "has %q; use %s and %s", kind, workspace.GitIgnore, workspace.DockerIgnore)
		}
	}
	return s, nil
}

// localCompose reads the Compose file of a repository that is a directory of this machine, without leaving it.
func localCompose(s workspace.Source, file string) (string, []byte, error) {
	root, err := s.Open()
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = root.Close() }() // only read
	names := composeNames
	if file != "" {
		names = []string{file}
	}
	for _, name := range names {
		f, err := root.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the Compose file: %w", err))
		}
		text, err := io.ReadAll(io.LimitReader(f, maxCompose))
		_ = f.Close() // only read
		if err != nil {
			return "", nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the Compose file: %w", err))
		}
		return name, text, nil
	}
	return "", nil, noCompose(file)
}

// fill puts the repository into the workspace, in which nothing runs yet.
func (e *extension) fill(ctx context.Context, h *host, req *sandboxer.ProvisionRequest, in inputs, s workspace.Source) error {
	dir := path.Join(h.root, req.Name, "workspace")
	if !s.IsGit() {
		root, err := s.Open()
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }() // only read
		_, err = workspace.Push(ctx, h.conn, dir, root, workspace.PushOptions{Ignore: in.Ignore})
		return err
	}
	o := workspace.CloneOptions{KnownHosts: in.KnownHosts}
	if in.GitCredential != "" {
		if req.Secret == nil {
			return sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("input git_credential: there is no source of secrets for %s", in.GitCredential))
		}
		secret, err := req.Secret(ctx, in.GitCredential)
		if err != nil {
			return fmt.Errorf("input git_credential: %w", err)
		}
		o.Credential = &workspace.Credential{User: in.GitUser, Secret: secret}
	}
	_, err := workspace.Clone(ctx, h.conn, dir, s, o)
	return err
}
