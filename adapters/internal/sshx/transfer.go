package sshx

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/sand-boxer/sandboxer"
)

// biggerRecords makes GNU's tar move so many blocks at a time: its 20 cost a quarter of its time. What it
// writes is filled up to a multiple of that.
func biggerRecords(blocks int) string {
	return `case $(tar --version 2>/dev/null) in *GNU*)b=-b` + strconv.Itoa(blocks) + `;;*)b=;;esac;`
}

// Upload extracts a tar stream into a directory of the host, which it makes, with the host's tar: modes and modification
// times are kept, owners are not. Links are extracted as they are: the stream must be one that the host may trust.
func (c *Conn) Upload(ctx context.Context, dir string, tar io.Reader) error {
	var said tail
	result, err := c.Send(ctx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", biggerRecords(512) + `mkdir -p "$0"&&cd "$0"&&exec tar $b -xpf - --no-same-owner`, notOption(dir)},
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
		Command: []string{"sh", "-c", biggerRecords(64) + `cd "$0"&&exec tar $b -cf - .`, notOption(dir)},
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

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - 4096; extra > 0 {
		t.kept = append([]byte(nil), t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := bytes.TrimSpace(bytes.ToValidUTF8(t.kept, nil))
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
