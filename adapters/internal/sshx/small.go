package sshx

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// maxOutput is what a small command may print on each stream.
const maxOutput = 16 << 20

// SmallResult is how a small command ended.
type SmallResult struct {
	Stdout, Stderr []byte
	ExitCode       int // 128 and the signal's number where a signal ended it
}

// Small runs a short command that reads no input and leaves nothing in the background: what an adapter asks a host all the
// time. It takes Command, Env and Dir of req, and ignores the rest. Up to 16 MiB on each stream are kept; more is an error.
//
// It is three times as fast as Exec because a shell on the host stays for the next one. What such a command leaves in the
// background is ended some time later, and what that prints makes other commands slower.
func (c *Conn) Small(ctx context.Context, req sandboxer.ExecRequest) (SmallResult, error) {
	result, err := c.h.small(ctx, &req)
	if err != nil {
		return SmallResult{}, fmt.Errorf("host %s: %w", c.name, err)
	}
	return result, nil
}

// Output is [Conn.Small] for a command alone. An exit code other than 0 is an error that is a [*sandboxer.ExitError] and
// ends with the last line on standard error.
func (c *Conn) Output(ctx context.Context, command ...string) ([]byte, error) {
	begin := time.Now()
	result, err := c.Small(ctx, sandboxer.ExecRequest{Command: command})
	if err != nil {
		return nil, err
	}
	ended := sandboxer.ExecResult{ExitCode: result.ExitCode, Duration: time.Since(begin)}
	if err := ended.Err(); err != nil {
		said := strings.TrimSpace(strings.ToValidUTF8(string(result.Stderr), ""))
		return result.Stdout, fmt.Errorf("host %s: %s: %w: %s", c.name, command[0], err, said[strings.LastIndexByte(said, '\n')+1:])
	}
	return result.Stdout, nil
}

func (h *host) small(ctx context.Context, req *sandboxer.ExecRequest) (SmallResult, error) {
	nonce := newToken()
	line, err := smallLine(req, nonce)
	if err != nil {
		return SmallResult{}, err
	}
	r, err := h.resident(ctx)
	if err != nil {
		return SmallResult{}, err
	}
	if r == nil { // all are busy for long
		return h.smallAlone(ctx, req)
	}
	result, err := r.do(ctx, line, nonce)
	if err != nil {
		r.discard()
		return SmallResult{}, err
	}
	h.putBack(r)
	return result, nil
}

// smallAlone runs a small command in a session of its own.
func (h *host) smallAlone(ctx context.Context, req *sandboxer.ExecRequest) (SmallResult, error) {
	stdout, stderr := &capped{}, &capped{}
	own := sandboxer.ExecRequest{Command: req.Command, Env: req.Env, Dir: req.Dir, Stdout: stdout, Stderr: stderr}
	s, err := h.start(ctx, &own)
	if err != nil {
		return SmallResult{}, err
	}
	ended, err := s.run(ctx, &own)
	if err != nil {
		return SmallResult{}, err
	}
	if ended.Signal != "" {
		ended.ExitCode = 128 + signalNumber(ended.Signal)
	}
	return SmallResult{stdout.kept, stderr.kept, ended.ExitCode}, nil
}

// signalNumber is what a shell calls the signal; the numbers that all systems share.
func signalNumber(name string) int {
	return map[string]int{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGABRT": 6, "SIGFPE": 8, "SIGKILL": 9, "SIGSEGV": 11, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15}[name]
}
