package sshx

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// envToken is the variable by which everything that a command started is found again.
const envToken = "SANDBOXER_EXEC"

// newToken names one command on its host. It begins with a letter and is no word of a shell.
func newToken() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the program instead
	return "x" + hex.EncodeToString(raw[:])
}

// bootstrap is what sshd gives the user's login shell to run: the same for every command but for the token. Every shell
// that people log in with reads it alike. `read` takes no byte more than its line, so what follows is the command's.
func bootstrap(token string) string {
	return `exec /bin/sh -c 'IFS= read -r l&&eval "$l"' ` + token
}

// The marks that part what login files print from what the command prints.
const (
	markBegun = "." // on both streams, right before the command
	markNoDir = "?" // on standard output: there is no such directory
)

// commandLine is the line that the bootstrap evaluates. It has no line break and ends with one.
func commandLine(req *sandboxer.ExecRequest, token string) (string, error) {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return "", invalid("the command is empty")
	}
	if strings.HasPrefix(req.Command[0], "-") {
		return "", invalid("the command %q begins with a hyphen; write a path with a slash", req.Command[0])
	}
	var b strings.Builder
	var nul error
	word := func(what, s string) string {
		if strings.IndexByte(s, 0) >= 0 && nul == nil {
			nul = sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%s %w", what, errNUL))
		}
		return oneLine(s)
	}
	if req.TTY != nil {
		b.WriteString("stty sane;")
	}
	b.WriteString(`N=$(printf '\n_');N=${N%_};`)
	b.WriteString("export " + envToken + "=" + token)
	for _, name := range slices.Sorted(maps.Keys(req.Env)) {
		if !validName(name) {
			return "", invalid("%q is no name of an environment variable", name)
		}
		b.WriteString(" " + name + "=" + word("environment variable "+name, req.Env[name]))
	}
	b.WriteString(";")
	if dir := req.Dir; dir != "" {
		if !strings.HasPrefix(dir, "/") {
			dir = "./" + dir
		}
		fmt.Fprintf(&b, "cd %s||{ printf %%s %s;exit 1;};", word("directory", dir), token+markNoDir)
	}
	fmt.Fprintf(&b, "printf %%s %s;printf %%s %s >&2;exec", token+markBegun, token+markBegun)
	for i, w := range req.Command {
		b.WriteString(" " + word(fmt.Sprintf("argument %d", i), w))
	}
	if req.Stdin == nil && req.TTY == nil {
		b.WriteString(" </dev/null")
	}
	b.WriteString("\n")
	return b.String(), nul
}

func invalid(format string, args ...any) error {
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
}

func validName(s string) bool {
	for i, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && s != envToken
}
