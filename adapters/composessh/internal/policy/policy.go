package policy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Policy is how far an operator trusts Compose files.
type Policy string

const (
	// Strict lets a stack reach its own containers, networks, volumes and workspace, and nothing else of the host.
	Strict Policy = "strict"
	// BuildAllowed is Strict and lets services be built from directories of the workspace. What a Dockerfile runs, runs in
	// the host's builder, outside of the sandbox's limits.
	BuildAllowed Policy = "build-allowed"
	// Trusted lets the file do what Compose lets it do, root on the host included. Only include and extends stay refused,
	// because they would have to be read here.
	Trusted Policy = "trusted"
)

// Parse returns the policy of that name; "" is Strict. Another name is an InvalidArgument that lists the valid ones.
func Parse(name string) (Policy, error) {
	switch p := Policy(name); p {
	case "":
		return Strict, nil
	case Strict, BuildAllowed, Trusted:
		return p, nil
	}
	valid := []string{string(Strict), string(BuildAllowed), string(Trusted)}
	return "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("unknown Compose policy %q%s", name, sandboxer.DidYouMean(name, valid)))
}

// Options are what is known of a stack beside its file.
type Options struct {
	Policy    Policy            // Defaults to Strict.
	Name      string            // the project's name: the attempt's name
	ImageTag  string            // the tag of what is built. One that nobody can guess keeps other stacks of the engine from using it
	File      string            // what messages call the file; Defaults to "compose.yaml"
	Workspace string            // the workspace on the host: an absolute, clean path with slashes
	Service   string            // the main service; may be left out where the file has one only
	Env       map[string]string // the only variables that the file can refer to; their values end up in the canonical project
	Profiles  []string          // Compose's profiles to enable
	Ports     []int             // TCP ports of the main service to publish beside those of the file
	Labels    map[string]string // for every container, network and volume
	Limits    Limits            // of all services together
}

// Limits bound a stack. A limit of 0 is none.
type Limits struct {
	CPUMillis   int64 // thousandths of a CPU
	MemoryBytes int64
	PIDs        int64
}

// Stack is a file that was accepted.
type Stack struct {
	// JSON is the canonical project: the text for the host's Compose, and the same for the same input.
	JSON []byte
	// Service is the main service.
	Service string
	// Services are the names of all services, sorted.
	Services []string
	// Paths are what the engine will open in the workspace, relative to it ("." is the workspace), sorted. The package's
	// comment says what has to be checked of them. Under Trusted, they are those that lie below the workspace by name.
	Paths []string
	// SecretEnv names the variables of Options.Env that Compose needs in its environment, because secrets come from them;
	// their values are not in JSON.
	SecretEnv []string
	// Images are the names of the images that will be built.
	Images []string
	// Dropped lists what was left out because it means nothing in a sandbox, as "compose.yaml:3:5: services.web.labels".
	Dropped []string
}

// Load judges a Compose file. Whatever it refuses is a Refused InvalidArgument; where the file is at fault, errors.As finds
// an [*Error] with every problem, up to 50. No value of Options.Env is in a message. It opens no file and no connection, starts
// nothing, and is safe for concurrent use. The file is hostile: size, nesting, aliases and ranges are capped first, so that
// Load ends within seconds whatever it is given.
func Load(ctx context.Context, compose []byte, o Options) (*Stack, error) {
	if o.File == "" {
		o.File = "compose.yaml"
	}
	var err error
	if o.Policy, err = Parse(string(o.Policy)); err != nil {
		return nil, err
	}
	if !path.IsAbs(o.Workspace) || path.Clean(o.Workspace) != o.Workspace || o.Workspace == "/" {
		return nil, sandboxer.Refused(sandboxer.Internal, fmt.Errorf("the workspace must be an absolute, clean path of its own, not %q", o.Workspace))
	}
	l := &load{o: o, src: compose}
	stack, err := l.run(ctx)
	if err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if len(l.problems) > 0 {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, l.failure())
	}
	return stack, nil
}

// Problem is one reason why a file was refused.
type Problem struct {
	Service string // "" where it is not about a service
	Field   string // as in the file: "services.web.volumes[0].source"; "" where it is about the file
	Line    int    // from 1; 0 where it is not known
	Column  int    // from 1, in bytes
	Why     string
	Allows  Policy // the least trusting policy that allows it; "" where none does
}

// Error is a file that was refused, with every reason.
type Error struct {
	File     string
	Problems []Problem
}

// Error has a line for each problem, like "compose.yaml:4:5: service web: services.web.privileged: …".
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		var b strings.Builder
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		if p.Service != "" {
			fmt.Fprintf(&b, ": service %s", p.Service)
		}
		if p.Field != "" {
			fmt.Fprintf(&b, ": %s", p.Field)
		}
		fmt.Fprintf(&b, ": %s", p.Why)
		if p.Allows != "" {
			fmt.Fprintf(&b, " (the operator's policy %q would allow it)", p.Allows)
		}
		lines = append(lines, b.String())
	}
	return strings.Join(lines, "\n")
}

// failure sorts the problems by their place and takes the values of variables out of their text.
func (l *load) failure() error {
	more := len(l.problems) - maxProblems
	l.problems = l.problems[:min(len(l.problems), maxProblems)]
	for i := range l.problems {
		l.problems[i].Why = l.scrub(l.problems[i].Why)
		l.problems[i].Field = l.scrub(l.problems[i].Field)
		l.problems[i].Service = l.scrub(l.problems[i].Service)
	}
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Field+a.Why, b.Field+b.Why)
	})
	l.problems = slices.Compact(l.problems)
	if more > 0 {
		l.problems = append(l.problems, Problem{Why: fmt.Sprintf("and %d more", more)})
	}
	return &Error{File: l.o.File, Problems: l.problems}
}

// scrub replaces the values of variables, which may be secrets, by their names.
func (l *load) scrub(s string) string {
	names := make([]string, 0, len(l.o.Env))
	for name, value := range l.o.Env {
		if len(value) > 3 { // shorter ones are no secrets, and would mangle words
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { // the longest first: one value may contain another
		if d := len(l.o.Env[b]) - len(l.o.Env[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		s = strings.ReplaceAll(s, l.o.Env[name], "${"+name+"}")
	}
	return s
}
