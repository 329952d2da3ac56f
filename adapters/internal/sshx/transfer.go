package sshx

import (
	"context"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer"
)

// Upload extracts a tar stream into a directory of the host, which it makes, with the host's tar: modes and modification
// times are kept, owners are not. Links are extracted as they are: the stream must be one that the host may trust.
func (c *Conn) Upload(ctx context.Context, dir string, tar io.Reader) error {
	var said tail
	result, err := c.Send(ctx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", `mkdir -p "$0"&&cd "$0"&&exec tar -xpf - --no-same-owner`, notOption(dir)},
		Stdin:   tar, Stderr: &said,
	})
	if err == nil && result.Err() != nil {
		err = sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("host %s: upload to %s: %w: %s", c.name, dir, result.Err(), said.lastLine()))
	}
	return err
}

// Download writes a directory of the host as a tar stream, with names relative to it. What was written is complete only
// when it returns nil.
func (c *Conn) Download(ctx context.Context, dir string, tar io.Writer) error {
	var said tail
	result, err := c.Receive(ctx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", `cd "$0"&&exec tar -cf - .`, notOption(dir)},
		Stdout:  tar, Stderr: &said,
	})
	if err == nil && result.Err() != nil {
		err = sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("host %s: download of %s: %w: %s", c.name, dir, result.Err(), said.lastLine()))
	}
	return err
}

// notOption makes a path one that no program takes for an option.
func notOption(path string) string {
	if path == "" || path[0] != '/' {
		return "./" + path
	}
	return path
}
