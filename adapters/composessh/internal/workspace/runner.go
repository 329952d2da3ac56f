package workspace

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Runner runs commands on the host. A [*sshx.Conn] is one; a wrapper may run them inside a container instead, by putting
// words before Command. Commands use neither Env nor Dir nor a terminal, and need a POSIX shell and the GNU tools.
//
// [*sshx.Conn]: https://pkg.go.dev/github.com/sand-boxer/sandboxer/adapters/internal/sshx#Conn
type Runner interface {
	// Exec follows the rules of [sandboxer.Executor].
	Exec(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error)
	// Send is Exec for a command that reads much.
	Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error)
	// String names the host for messages.
	String() string
}

// The exit codes of our own scripts, out of the way of those of git, tar, find and shells.
const (
	exitMissing = 81 // a program is missing; its name is the last line on standard error
	exitTaken   = 82 // there is something else in the place
	exitNoDir   = 83 // the directory cannot be made or entered

	exitNoCommand = 127 // the shell's
)

// script makes the command that runs a shell script with arguments.
func script(text string, args ...string) []string {
	return append([]string{"sh", "-c", text, "sh"}, args...)
}

// cleanUpTime is how long what a failed call left is tried to be removed, after its own context has ended.
const cleanUpTime = 10 * time.Second

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const maxTail = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - maxTail; extra > maxTail {
		t.kept = append([]byte(nil), t.kept[extra:]...)
	}
	return len(p), nil
}

// lastLine is the last line that says something, fit for a message.
func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.kept)
	return printable(string(text[bytes.LastIndexByte(text, '\n')+1:]))
}

// printable makes text of the other side harmless and short.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// failed is the error for a command that ended with another exit code than 0.
func failed(r Runner, code sandboxer.Code, format string, args ...any) error {
	return sandboxer.Mark(code, fmt.Errorf("host %s: %w", r, fmt.Errorf(format, args...)))
}
