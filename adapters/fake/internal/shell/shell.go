// Package shell is the small POSIX-like shell of a fake sandbox: it parses and runs scripts over a file system in memory,
// with its own commands, and starts no process of the host. What it does not know it says so; it never half-does a thing.
package shell

import (
	"fmt"
	"maps"
	"strconv"
)

// maxFD is how many file descriptors a command can name.
const maxFD = 10

// shell is the state of one shell process.
type shell struct {
	*proc
	vars    map[string]variable
	funcs   map[string]command
	name    string // $0
	params  []string
	last    int
	lastJob int // $!
	jobs    []*job
	depth   int // of functions, and of conditions in which -e is off
	tested  int
	errexit bool
	nounset bool
	atExit  string // trap … EXIT
}

type variable struct {
	value    string
	exported bool
}

// flow is how the run of a command ends apart from its status.
type flow struct {
	kind  flowKind
	count int // of loops
}

type flowKind uint8

const (
	goOn flowKind = iota
	exiting
	returning
	breaking
	continuing
)

// newShell starts a shell in the process p.
func newShell(p *proc, name string, params []string) *shell {
	s := &shell{proc: p, vars: map[string]variable{}, funcs: map[string]command{}, name: name, params: params}
	for k, v := range p.env {
		s.vars[k] = variable{v, true}
	}
	s.vars["PWD"] = variable{p.dir, true}
	return s
}

// subshell is a copy that changes nothing here.
func (s *shell) subshell(p *proc) *shell {
	c := *s
	c.proc = p
	c.vars, c.funcs = maps.Clone(s.vars), maps.Clone(s.funcs)
	c.jobs, c.atExit = nil, ""
	return &c
}

// script parses and runs src and returns the status of the shell.
func (s *shell) script(src string) int {
	body, err := parse(src)
	if err != nil {
		s.complain("%v", err)
		return 2
	}
	return s.finish(s.list(body))
}

// finish runs what was left for the exit of the shell.
func (s *shell) finish(flow) int {
	if trap := s.atExit; trap != "" {
		s.atExit = ""
		status := s.last
		if body, err := parse(trap); err == nil {
			if f := s.list(body); f.kind != exiting {
				s.last = status
			}
		}
	}
	return s.last
}

func (s *shell) get(name string) (string, bool) {
	switch name {
	case "?":
		return strconv.Itoa(s.last), true
	case "#":
		return strconv.Itoa(len(s.params)), true
	case "$":
		return strconv.Itoa(s.shellPID), true
	case "!":
		return strconv.Itoa(s.lastJob), s.lastJob != 0
	case "0":
		return s.name, true
	case "-":
		flags := ""
		if s.errexit {
			flags += "e"
		}
		if s.nounset {
			flags += "u"
		}
		return flags, true
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n >= 1 && n <= len(s.params) {
			return s.params[n-1], true
		}
		return "", false
	}
	v, ok := s.vars[name]
	return v.value, ok
}

func (s *shell) set(name, value string) {
	s.vars[name] = variable{value, s.vars[name].exported}
}

// environ is what a command gets.
func (s *shell) environ() map[string]string {
	env := map[string]string{}
	for k, v := range s.vars {
		if v.exported {
			env[k] = v.value
		}
	}
	return env
}

// list runs commands one after the other.
func (s *shell) list(body list) flow {
	for _, it := range body {
		if f := s.item(it); f.kind != goOn {
			return f
		}
	}
	return flow{}
}

func (s *shell) item(it item) flow {
	if s.ctx.Err() != nil {
		s.last = s.status(0)
		return flow{kind: exiting}
	}
	if it.background {
		s.background(it.and)
		return flow{}
	}
	return s.andOr(it.and)
}

func (s *shell) andOr(chain []andOr) flow {
	for i, link := range chain {
		if link.op == "&&" && s.last != 0 || link.op == "||" && s.last == 0 {
			continue
		}
		tested := i < len(chain)-1 || link.pipe.negate
		if tested {
			s.tested++
		}
		f := s.pipeline(link.pipe)
		if tested {
			s.tested--
		}
		if f.kind != goOn {
			return f
		}
		if s.last != 0 && !tested && s.errexit && s.tested == 0 {
			return flow{kind: exiting}
		}
	}
	return flow{}
}

func (s *shell) pipeline(p pipeline) flow {
	var f flow
	if len(p.cmds) == 1 {
		f = s.command(p.cmds[0])
	} else {
		s.last = s.pipe(p.cmds)
	}
	if p.negate && f.kind == goOn {
		s.last = truth(s.last != 0)
	}
	return f
}

// truth is the status of a condition.
func truth(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// command runs one command with its redirections.
func (s *shell) command(c command) flow {
	if s.depth++; s.depth > maxDepth {
		s.complain("nested more than %d deep", maxDepth)
		s.last = 2
		s.depth--
		return flow{kind: exiting}
	}
	defer func() { s.depth-- }()
	if c, ok := c.(*simple); ok {
		return s.simple(c)
	}
	saved := s.files
	defer func() { s.files = saved }()
	if err := s.redirect(c.redirs()); err != nil {
		s.complain("%v", err)
		s.last = 1
		return flow{}
	}
	switch c := c.(type) {
	case *group:
		if !c.subshell {
			return s.list(c.body)
		}
		sub := s.subshell(s.fork())
		s.last = sub.proc.status(sub.finish(sub.list(c.body)))
		sub.proc.done()
		return flow{}
	case *ifClause:
		return s.ifClause(c)
	case *loop:
		return s.loop(c)
	case *forClause:
		return s.forClause(c)
	case *caseClause:
		return s.caseClause(c)
	case *function:
		s.funcs[c.name] = c.body
		s.last = 0
	}
	return flow{}
}

// expansionFailed ends a shell whose words cannot be expanded, as POSIX wants.
func (s *shell) expansionFailed(err error) flow {
	s.complain("%v", err)
	s.last = 2
	return flow{kind: exiting}
}

// simple runs assignments and one command.
func (s *shell) simple(c *simple) flow {
	status := s.last
	s.last = 0 // a substitution in the words sets it
	args, err := s.fieldsWith(c.words, status)
	if err != nil {
		return s.expansionFailed(err)
	}
	assigned := make([]string, len(c.assigns))
	for i, a := range c.assigns {
		if assigned[i], err = s.text(a.value); err != nil {
			return s.expansionFailed(err)
		}
	}
	saved := s.files
	keep := len(args) > 0 && args[0] == "exec"
	defer func() {
		if !keep {
			s.files = saved
		}
	}()
	if err := s.redirect(c.redir); err != nil {
		s.complain("%v", err)
		s.last, keep = 1, false
		return flow{}
	}
	if len(args) == 0 {
		for i, a := range c.assigns {
			s.set(a.name, assigned[i])
		}
		return flow{}
	}
	s.last = status
	if f, ok := s.funcs[args[0]]; ok {
		defer s.during(c.assigns, assigned)()
		return s.call(f, args[1:])
	}
	if b := special(args[0]); b != nil {
		defer s.during(c.assigns, assigned)()
		return b(s, args[1:])
	}
	env := s.environ()
	for i, a := range c.assigns {
		env[a.name] = assigned[i]
	}
	s.last = s.spawn(args, env)
	return flow{}
}

// during sets variables for one command of the shell itself and returns what takes them back.
func (s *shell) during(assigns []assign, values []string) func() {
	if len(assigns) == 0 {
		return func() {}
	}
	old := maps.Clone(s.vars)
	for i, a := range assigns {
		s.set(a.name, values[i])
	}
	return func() {
		for _, a := range assigns {
			if v, ok := old[a.name]; ok {
				s.vars[a.name] = v
			} else {
				delete(s.vars, a.name)
			}
		}
	}
}

func (s *shell) call(body command, args []string) flow {
	params := s.params
	s.params = args
	f := s.command(body)
	s.params = params
	if f.kind == returning {
		return flow{}
	}
	return f
}

// spawn runs a command that is not the shell's own, in the foreground.
func (s *shell) spawn(args []string, env map[string]string) int {
	child := s.fork()
	defer child.done()
	child.env, child.args = env, args
	return child.status(child.run())
}

// complain writes to standard error, as "name: message".
func (p *proc) complain(format string, args ...any) {
	name := "sh"
	if len(p.args) > 0 {
		name = p.args[0]
	}
	_, _ = fmt.Fprintf(p.err(), name+": "+format+"\n", args...) // nobody to tell when stderr is gone
}
