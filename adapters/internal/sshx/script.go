package sshx

import (
	"crypto/rand"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// envToken is the variable by which everything that a command started is found again.
const envToken = "SANDBOXER_EXEC"

// newToken names one command on its host. It has 105 random bits, begins with a letter, and means nothing to a shell.
func newToken() string {
	return "x" + strings.ToLower(rand.Text()[:21])
}

// bootstrap is what sshd gives the user's login shell to run: the same for every command but for the token. Every shell
// that people log in with reads it alike. `read` takes no byte more than its line, so what follows is the command's.
// Where the login shell is known to be direct, it does so itself.
func bootstrap(token string, direct bool) string {
	if direct {
		return `IFS= read -r l&&eval "$l" #` + token
	}
	return `exec /bin/sh -c 'IFS= read -r l&&eval "$l"' ` + token
}

// isDirect reports whether a login shell is one that does what /bin/sh does.
func isDirect(shell string) bool {
	switch path.Base(shell) {
	case "bash", "dash", "sh", "ash":
		return true
	}
	return false
}

// The marks that part what login files print from what the command prints.
const (
	markBegun = "." // on both streams, right before the command
	markNoDir = "?" // on standard output: there is no such directory
	markAlone = "!" // on standard output: the keeper has gone
)

// announce tells the keeper, at the path, that this shell is about to become the command of the token. It begins nothing
// when there is no keeper any more.
func announce(keeper, token string) string {
	return "[ -p " + keeper + " ]&&echo \"+" + token + " $$\">" + keeper + "||{ printf %s " + token + markAlone + ";exit 1;};"
}

// commandLine is the line that the bootstrap evaluates. It has no line break but the one at its end.
func commandLine(req *sandboxer.ExecRequest, token string) (string, error) {
	w := words{}
	set, cd, command, err := w.parts(req)
	if err != nil {
		return "", err
	}
	line := "export " + envToken + "=" + token + set + ";"
	if req.TTY != nil {
		line = "stty sane;" + line
	}
	if cd != "" {
		line += cd + "||{ printf %s " + token + markNoDir + ";exit 1;};"
	}
	line += "printf %s " + token + markBegun + ";"
	if req.TTY == nil { // a terminal has one stream
		line += "printf %s " + token + markBegun + " >&2;"
	}
	line += "exec" + command
	if req.Stdin == nil && req.TTY == nil {
		line += " </dev/null"
	}
	return w.lineBreaks() + line + "\n", nil
}

// smallLine is a line for a resident: the command in a process of its own, and then the nonce on both streams, on standard
// output with the exit code.
func smallLine(req *sandboxer.ExecRequest, nonce string) (string, error) {
	w := words{}
	set, cd, command, err := w.parts(req)
	if err != nil {
		return "", err
	}
	line := ""
	if set != "" {
		line = "export" + set + ";"
	}
	if cd != "" {
		line += cd + "||exit 126;"
	}
	return w.lineBreaks() + "(" + line + "exec" + command + ") </dev/null;printf %s " + nonce + "$?\\;;printf %s " + nonce + " >&2\n", nil
}

// words quotes for a line that has no line breaks.
type words struct{ breaks bool }

func (w *words) quote(s string) string {
	w.breaks = w.breaks || strings.Contains(s, "\n")
	return oneLine(s)
}

// lineBreaks defines what oneLine uses, for lines that need it: it costs a fork.
func (w *words) lineBreaks() string {
	if !w.breaks {
		return ""
	}
	return `N=$(printf '\n_');N=${N%_};`
}

// parts makes " A='1' B='2'", "cd 'dir'" and " 'command' 'argument'".
func (w *words) parts(req *sandboxer.ExecRequest) (set, cd, command string, err error) {
	if err := check(req); err != nil {
		return "", "", "", err
	}
	for _, name := range slices.Sorted(maps.Keys(req.Env)) {
		set += " " + name + "=" + w.quote(req.Env[name])
	}
	if req.Dir != "" {
		cd = "cd " + w.quote(plainDir(req.Dir))
	}
	for _, arg := range req.Command {
		command += " " + w.quote(arg)
	}
	return set, cd, command, nil
}

// plainDir is the directory as one for which "-" and CDPATH have no meaning.
func plainDir(dir string) string {
	if dir == "" || strings.HasPrefix(dir, "/") {
		return dir
	}
	return "./" + dir
}

// check refuses what no command line or environment can carry.
func check(req *sandboxer.ExecRequest) error {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return invalid("the command is empty")
	}
	if strings.HasPrefix(req.Command[0], "-") {
		return invalid("the command %q begins with a hyphen; write a path with a slash", req.Command[0])
	}
	for name, value := range req.Env {
		if !validName(name) {
			return invalid("%q is no name of an environment variable", name)
		}
		if strings.IndexByte(value, 0) >= 0 {
			return invalid("environment variable %s %w", name, errNUL)
		}
	}
	if strings.IndexByte(req.Dir, 0) >= 0 {
		return invalid("directory %w", errNUL)
	}
	for i, arg := range req.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			return invalid("argument %d %w", i, errNUL)
		}
	}
	return nil
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
