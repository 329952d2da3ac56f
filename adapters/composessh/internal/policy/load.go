package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/sand-boxer/sandboxer"
)

// load is one file on its way.
type load struct {
	o        Options
	src      []byte
	places   *places
	project  *types.Project
	problems []Problem
	dropped  []string

	text, ports int             // what interpolation has seen so far
	missing     map[string]bool // variables without a value
}

func (l *load) run(ctx context.Context) (*Stack, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := bound(l.src); err != nil {
		l.problems = append(l.problems, Problem{Why: err.Error()})
		return nil, nil
	}
	for _, port := range l.o.Ports {
		if port < 1 || port > 65535 {
			l.problems = append(l.problems, Problem{Why: fmt.Sprintf("the profile's port %d is none", port)})
		}
	}
	l.places = locate(l.src)
	if err := l.read(ctx); err != nil || l.project == nil {
		return nil, err
	}
	l.judge()
	l.together()
	main := l.mainService()
	if len(l.problems) > 0 {
		return nil, nil
	}
	return l.canonical(main)
}

// read has compose-go parse, interpolate, validate and normalise the file. It is kept from everything outside: the text is
// given, includes and extends are skipped (and refused later), paths stay as they are written (making them absolute asks
// for the home directory), and env_file and label_file stay unread.
func (l *load) read(ctx context.Context) error {
	l.missing = map[string]bool{}
	details := types.ConfigDetails{
		WorkingDir:  l.o.Workspace,
		ConfigFiles: []types.ConfigFile{{Filename: l.o.File, Content: l.unversioned()}},
		Environment: maps.Clone(l.o.Env),
	}
	set := func(o *loader.Options) {
		o.SetProjectName(l.o.Name, true)
		o.Profiles = l.o.Profiles
		o.SkipInclude = true
		o.SkipExtends = true
		o.ResolvePaths = false
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.MaxNodeVisits = 2 * maxNodes
		o.Interpolate.Substitute = l.substitute
		o.ResourceLoaders = []loader.ResourceLoader{nothingRemote{}}
	}
	dict, err := loader.LoadModelWithContext(ctx, details, set)
	if len(l.missing) > 0 {
		names := slices.Sorted(maps.Keys(l.missing))
		for _, name := range names[:min(len(names), maxProblems)] {
			line, col := l.places.text("$"+name, "${"+name)
			l.problems = append(l.problems, Problem{Line: line, Column: col, Why: fmt.Sprintf(
				"the variable %s has no value: variables come from the input env only, never from the environment of a program; give it, or write ${%s:-default}", name, name)})
		}
		return nil
	}
	if err != nil {
		return l.broken(ctx, err)
	}
	if _, ok := dict["include"]; ok {
		l.refuse([]string{"include"}, "it reads other files; write one file", "")
		delete(dict, "include")
	}
	if services, ok := dict["services"].(map[string]any); ok && len(services) > maxServices {
		l.refuse([]string{"services"}, fmt.Sprintf("there are %d services; at most %d are run", len(services), maxServices), "")
		return nil
	}
	// Normalising resolved what it could; what is left without a value would be looked up on the host.
	opts := loader.ToOptions(&details, []func(*loader.Options){set})
	if l.project, err = loader.ModelToProject(dict, opts, details); err != nil {
		// It stops at the first inconsistency; judge what can be judged, so that everything is reported at once.
		again := loader.ToOptions(&details, []func(*loader.Options){set, func(o *loader.Options) { o.SkipConsistencyCheck = true }})
		l.text, l.ports = 0, 0
		fresh, ferr := loader.LoadModelWithContext(ctx, details, set)
		if ferr != nil {
			return l.broken(ctx, ferr)
		}
		var perr error
		if l.project, perr = loader.ModelToProject(fresh, again, details); perr == nil {
			l.judge()
		}
		l.project = nil // it is not consistent
		return l.broken(ctx, err)
	}
	return nil
}

// unversioned is the text with the obsolete key version under a name that means nothing: compose-go would warn of it on the
// standard error of the program.
func (l *load) unversioned() []byte {
	line, col := l.places.of([]string{"version"})
	if line == 0 {
		return l.src
	}
	text := bytes.Clone(l.src)
	key := text[l.places.line[line-1]+col-1:]
	if key[0] == '"' || key[0] == '\'' {
		key = key[1:]
	}
	if bytes.HasPrefix(key, []byte("version")) {
		copy(key, "x-versi")
	}
	return text
}

// nothingRemote is a loader of remote resources that has none.
type nothingRemote struct{}

func (nothingRemote) Accept(string) bool { return false }
func (nothingRemote) Load(_ context.Context, p string) (string, error) {
	return "", fmt.Errorf("%s is not read: a Compose file stands alone", p)
}
func (nothingRemote) Dir(string) string { return "" }

var (
	// plainVariable is a variable that says nothing of what to do without a value, or an escaped $.
	plainVariable = regexp.MustCompile(`\$(?:\$|([_a-zA-Z][_a-zA-Z0-9]*)|\{([_a-zA-Z][_a-zA-Z0-9]*)\})`)
	errTooMuch    = errors.New("the file is too big once its aliases are resolved")
)

// substitute interpolates one string. compose-go calls it for every string of the file, right after parsing and before
// everything that costs, so the caps on what aliases and ranges grow to are here.
func (l *load) substitute(s string, lookup template.Mapping) (string, error) {
	l.text += len(s)
	wide := portsIn(s)
	l.ports += wide
	switch {
	case l.text > maxText:
		return "", errTooMuch
	case wide > 1 && l.ports > maxPorts:
		return "", fmt.Errorf("ranges of more than %d ports in all (a value that is no range of ports can be written as NAME=value in a list)", maxPorts)
	case strings.Count(s, "${") > maxRefs:
		return "", fmt.Errorf("more than %d variables in one value", maxRefs)
	}
	missing := false
	for _, m := range plainVariable.FindAllStringSubmatch(s, -1) {
		if name := m[1] + m[2]; name != "" {
			if _, ok := lookup(name); !ok {
				l.missing[name], missing = true, true
			}
		}
	}
	if missing {
		return s, nil
	}
	out, err := template.SubstituteWithOptions(s, lookup, template.WithoutLogging)
	if l.text += len(out); l.text > maxText {
		return "", errTooMuch
	}
	return out, err
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+)`)
	modelPath  = regexp.MustCompile(`\b(?:services|networks|volumes|configs|secrets|models|jobs)(?:\.[\w.-]+|\[\d+\])*`)
	modelExtra = regexp.MustCompile(`additional propert\w+ '([^']+)'`)
)

// broken is a file that compose-go does not take: bad YAML, or no Compose file by its schema.
func (l *load) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errTooMuch) {
		err = errTooMuch // it is every value's, once it is one's
	}
	msg := strings.TrimPrefix(err.Error(), "validating "+l.o.File+": ")
	p := Problem{Why: strings.TrimPrefix(msg, "failed to parse "+l.o.File+": ")}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		_, _ = fmt.Sscan(m[1], &p.Line) // digits by the expression
		p.Column = 1
	}
	if at := modelPath.FindString(msg); at != "" {
		keys := strings.Split(strings.TrimRight(at, "."), ".")
		if m := modelExtra.FindStringSubmatch(msg); m != nil {
			keys = append(keys, m[1])
		}
		p.Line, p.Column = l.places.of(keys)
		p.Field = strings.Join(keys, ".")
		if keys[0] == "services" && len(keys) > 1 {
			p.Service = keys[1]
		}
	}
	l.problems = append(l.problems, p)
	return nil
}

// refuse notes a problem at a path of the model.
func (l *load) refuse(at []string, why string, allows Policy) {
	p := Problem{Field: dotted(at), Why: why, Allows: allows}
	p.Line, p.Column = l.places.of(at)
	if at[0] == "services" && len(at) > 1 {
		p.Service = at[1]
	}
	l.problems = append(l.problems, p)
}

// mainService is the service that commands run in.
func (l *load) mainService() string {
	names := l.project.ServiceNames()
	switch {
	case len(names) == 0:
		l.problems = append(l.problems, Problem{Why: "no service is enabled: the file has none, or none without profiles that were not asked for"})
	case l.o.Service == "" && len(names) == 1:
		return names[0]
	case l.o.Service == "":
		l.problems = append(l.problems, Problem{Why: "the input service must say which of the services commands run in: " + strings.Join(names, ", ")})
	case !slices.Contains(names, l.o.Service):
		l.problems = append(l.problems, Problem{Why: fmt.Sprintf("the input service is %q, and no such service is enabled%s", l.o.Service, sandboxer.DidYouMean(l.o.Service, names))})
	}
	return l.o.Service
}

// dotted writes a path as users do: services.web.volumes[0].
func dotted(at []string) string {
	var b strings.Builder
	for i, key := range at {
		if i > 0 && !strings.HasPrefix(key, "[") {
			b.WriteByte('.')
		}
		b.WriteString(key)
	}
	return b.String()
}
