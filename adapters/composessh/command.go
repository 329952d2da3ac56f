package composessh

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/shellwrap"
)

// command is the line that the shell in the container evaluates: environment, directory and arguments stand in it, so that
// they are in no argument list and no environment on the host.
func (r *running) command() (string, error) {
	req := &r.req
	if len(req.Command) == 0 || req.Command[0] == "" {
		return "", badCommand("the command is empty; give argv")
	}
	var text strings.Builder
	text.WriteString(`N=$(printf '\n_');N=${N%_};`)
	for _, name := range slices.Sorted(maps.Keys(req.Env)) {
		if !envName.MatchString(name) || strings.HasPrefix(name, "SANDBOXER_") {
			return "", badCommand("%q is no environment variable that can be set", name)
		}
		value, err := word("environment variable "+name, req.Env[name])
		if err != nil {
			return "", err
		}
		text.WriteString("export " + name + "=" + value + ";")
	}
	// A service without the workspace begins where its image says.
	if dir := path.Join(r.b.Dirs[r.service], req.Dir); dir != "" || req.Dir != "" {
		if path.IsAbs(req.Dir) {
			dir = req.Dir
		}
		quoted, err := word("directory", dir)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "cd -- %s 2>/dev/null||{ printf %%s %s-dir >&2;exit 125;};", quoted, r.mark)
	}
	text.WriteString("set -- " + r.mark)
	for i, arg := range req.Command {
		w, err := word(fmt.Sprintf("argument %d", i), arg)
		if err != nil {
			return "", err
		}
		text.WriteString(" " + w)
	}
	// Of the two marks each begins its stream: what came before is the engine's.
	fmt.Fprintf(&text, `;unset N;printf '\036%%s+' %s;`, r.mark)
	if req.TTY != nil {
		text.WriteString("SANDBOXER_TTY=1;")
	} else {
		fmt.Fprintf(&text, `SANDBOXER_TTY=;printf '\036%%s+' %s >&2;`, r.mark)
		if req.Stdin == nil {
			text.WriteString("exec </dev/null;")
		}
	}
	text.WriteString(strings.ReplaceAll(shellwrap.Script, "\n", ";"))
	return text.String() + "\n", nil
}

func badCommand(format string, args ...any) error {
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
}

// word quotes for a line that has no line breaks in it; the variable N holds one.
func word(what, s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", badCommand("%s contains NUL", what)
	}
	return strings.ReplaceAll("'"+strings.ReplaceAll(s, "'", `'\''`)+"'", "\n", `'"$N"'`), nil
}

// place is a path as the main service's containers see it.
func (s *stack) place(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join(s.RemoteDir, p)
}

// gate lets the reader behind it begin when open is closed, or when all is over.
type gate struct{ open, done <-chan struct{} }

func (g *gate) Read([]byte) (int, error) {
	select {
	case <-g.open:
	case <-g.done:
	}
	return 0, io.EOF
}
