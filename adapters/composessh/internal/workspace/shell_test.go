package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// shell is a Runner that runs commands on this machine, as an adapter may wrap them: with words before.
type shell struct {
	before []string
	path   string // PATH, where it is another
}

func (s shell) String() string { return "shell" }

func (s shell) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return s.Exec(ctx, req)
}

func (s shell) Exec(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	argv := append(append([]string(nil), s.before...), req.Command...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = req.Stdin, req.Stdout, req.Stderr
	if s.path != "" {
		cmd.Env = []string{"PATH=" + s.path}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return sandboxer.ExecResult{ExitCode: exit.ExitCode()}, nil
	}
	return sandboxer.ExecResult{}, err
}

// newShell skips the test where this machine has not the tools that hosts have.
func newShell(tb testing.TB) shell {
	tb.Helper()
	for _, p := range []string{"find", "tar", "sed"} {
		if out, err := exec.Command(p, "--version").Output(); err != nil || !strings.Contains(string(out), "GNU") {
			tb.Skipf("the %s of this machine is not GNU's", p)
		}
	}
	return shell{}
}

// scripted answers commands with what is given, and keeps what it is sent.
type scripted struct {
	out    string
	result sandboxer.ExecResult
	stderr string
	err    error

	commands [][]string
	sent     bytes.Buffer
}

func (s *scripted) String() string { return "scripted" }

func (s *scripted) Exec(_ context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	s.commands = append(s.commands, req.Command)
	if req.Stderr != nil {
		_, _ = req.Stderr.Write([]byte(s.stderr))
	}
	for rest := s.out; rest != "" && req.Stdout != nil; {
		n := min(len(rest), 1000)
		if _, err := req.Stdout.Write([]byte(rest[:n])); err != nil {
			return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Unknown, err)
		}
		rest = rest[n:]
	}
	return s.result, s.err
}

func (s *scripted) Send(_ context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	s.commands = append(s.commands, req.Command)
	_, err := s.sent.ReadFrom(req.Stdin)
	return sandboxer.ExecResult{}, err
}

// lists takes the two lists off what was sent, by the lengths that the command was given.
func (s *scripted) lists(tb testing.TB) (open, removed []string, stream []byte) {
	tb.Helper()
	stream = s.sent.Bytes()
	argv := s.commands[len(s.commands)-1]
	take := func(arg string) (out []string) {
		n, err := strconv.Atoi(arg)
		if err != nil || n > len(stream) {
			tb.Fatalf("a list has %q bytes", arg)
		}
		for name := range bytes.SplitSeq(stream[:n], []byte{0}) {
			out = append(out, string(name))
		}
		stream = stream[n:]
		if n == 0 {
			return nil
		}
		if out[len(out)-1] != "" || out[len(out)-2] != "end" {
			tb.Fatalf("a list ends with %q", out[len(out)-2:])
		}
		return out[:len(out)-2]
	}
	open = take(argv[len(argv)-3]) // and the option for tar after both
	removed = take(argv[len(argv)-2])
	return open, removed, stream
}
