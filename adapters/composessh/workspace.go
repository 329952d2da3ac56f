package composessh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// src is where a workspace comes from.
type src struct{ dir string }

func source(in inputs) (src, error) { return src{in.Repo}, nil }
func (s src) git() bool             { return false }

// compose reads the Compose file of a repository that is a directory of this machine, without leaving it.
func (s src) compose(file string) (string, []byte, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input repo: %w", err))
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

// fill puts the repository into the workspace.
func (e *extension) fill(ctx context.Context, h *host, req *sandboxer.ProvisionRequest, _ inputs, s src) error {
	return h.conn.Upload(ctx, h.root+"/"+req.Name+"/workspace", tarOf(ctx, s.dir))
}

// tarOf is a directory as a tar stream.
func tarOf(ctx context.Context, dir string) io.Reader {
	r, w := io.Pipe()
	go func() {
		root, err := os.OpenRoot(dir)
		if err == nil {
			_, err = archive.PackRoot(ctx, w, root, ".", archive.PackOptions{})
			_ = root.Close() // only read
		}
		_ = w.CloseWithError(err)
	}()
	return r
}
