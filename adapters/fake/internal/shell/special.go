package shell

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

// special returns the command called name if it is one that changes the shell itself.
func special(name string) func(*shell, []string) flow {
	switch name {
	case ":":
		return nothing
	case "cd":
		return cd
	case "exit":
		return exit
	case "return":
		return ret
	case "break":
		return leave(breaking)
	case "continue":
		return leave(continuing)
	case "export":
		return export
	case "unset":
		return unset
	case "set":
		return set
	case "shift":
		return shift
	case "eval":
		return eval
	case ".":
		return source
	case "read":
		return read
	case "trap":
		return trap
	case "wait":
		return waitFor
	case "exec":
		return replace
	case "command":
		return plainCommand
	case "umask":
		return umask
	}
	return nil
}

func nothing(s *shell, _ []string) flow {
	s.last = 0
	return flow{}
}

func cd(s *shell, args []string) flow {
	to, _ := s.get("HOME")
	if len(args) > 0 {
		to = args[0]
	}
	if to == "-" {
		to, _ = s.get("OLDPWD")
	}
	in, err := s.fs().Stat(s.path(to))
	if err != nil || !in.Mode.IsDir() {
		s.complain("cd: %s: no such directory", to)
		s.last = 1
		return flow{}
	}
	old := s.dir
	s.dir = memfs.Clean(s.path(to))
	s.vars["OLDPWD"] = variable{old, true}
	s.vars["PWD"] = variable{s.dir, true}
	s.last = 0
	return flow{}
}

// count reads the number that exit, return, break, continue and shift take.
func (s *shell) count(args []string, otherwise int) int {
	if len(args) == 0 {
		return otherwise
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		s.complain("%s: not a number", args[0])
		return 2
	}
	return n
}

func exit(s *shell, args []string) flow {
	s.last = s.count(args, s.last) & 0xff
	return flow{kind: exiting}
}

func ret(s *shell, args []string) flow {
	s.last = s.count(args, s.last) & 0xff
	return flow{kind: returning}
}

func leave(kind flowKind) func(*shell, []string) flow {
	return func(s *shell, args []string) flow {
		n := s.count(args, 1)
		s.last = 0
		return flow{kind, n}
	}
}

func export(s *shell, args []string) flow {
	s.last = 0
	for _, a := range args {
		name, value, given := strings.Cut(a, "=")
		if !isName(name) {
			s.complain("export: %s: not a name", name)
			s.last = 1
			continue
		}
		if !given {
			value = s.vars[name].value
		}
		s.vars[name] = variable{value, true}
	}
	return flow{}
}

func unset(s *shell, args []string) flow {
	for _, name := range args {
		delete(s.vars, name)
		if len(args) > 1 && args[0] == "-f" {
			delete(s.funcs, name)
		}
	}
	s.last = 0
	return flow{}
}

func set(s *shell, args []string) flow {
	s.last = 0
	for i, a := range args {
		if a == "--" {
			s.params = args[i+1:]
			return flow{}
		}
		if len(a) < 2 || a[0] != '-' && a[0] != '+' {
			s.params = args[i:]
			return flow{}
		}
		for _, c := range a[1:] {
			switch c {
			case 'e':
				s.errexit = a[0] == '-'
			case 'u':
				s.nounset = a[0] == '-'
			default:
				s.complain("set: -%c is not supported", c)
				s.last = 2
				return flow{kind: exiting}
			}
		}
	}
	return flow{}
}

func shift(s *shell, args []string) flow {
	n := s.count(args, 1)
	s.last = 0
	if n < 0 || n > len(s.params) {
		s.last = 1
		return flow{}
	}
	s.params = s.params[n:]
	return flow{}
}

func eval(s *shell, args []string) flow {
	body, err := parse(strings.Join(args, " "))
	if err != nil {
		return s.expansionFailed(err)
	}
	s.last = 0
	return s.list(body)
}

func source(s *shell, args []string) flow {
	if len(args) == 0 {
		s.last = 2
		return flow{}
	}
	data, err := s.fs().ReadFile(s.path(args[0]))
	if err != nil {
		return s.expansionFailed(err)
	}
	body, err := parse(string(data))
	if err != nil {
		return s.expansionFailed(err)
	}
	s.last = 0
	f := s.list(body)
	if f.kind == returning {
		return flow{}
	}
	return f
}

// read takes one line, byte by byte: what follows is the next command's.
func read(s *shell, args []string) flow {
	raw := len(args) > 0 && args[0] == "-r"
	if raw {
		args = args[1:]
	}
	var line []byte
	in, one := s.in(), make([]byte, 1)
	s.last = 0
	for {
		n, err := in.Read(one)
		if n == 0 && err != nil {
			s.last = 1
			break
		}
		if n == 0 {
			continue
		}
		if one[0] == '\n' {
			break
		}
		if one[0] == '\\' && !raw {
			if n, _ := in.Read(one); n == 0 || one[0] == '\n' {
				continue
			}
		}
		line = append(line, one[0])
	}
	rest := strings.Trim(string(line), " \t")
	if len(args) == 0 {
		args = []string{"REPLY"}
	}
	for i, name := range args {
		value := rest
		if i < len(args)-1 {
			end := strings.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}
			value, rest = rest[:end], strings.TrimLeft(rest[end:], " \t")
		}
		s.set(name, value)
	}
	return flow{}
}

// trap keeps what is to run at the exit; signals that are to be ignored are named but no others are caught.
func trap(s *shell, args []string) flow {
	s.last = 0
	if len(args) < 2 {
		return flow{}
	}
	for _, name := range args[1:] {
		sig := signalName(name)
		switch {
		case name == "EXIT" || name == "0":
			s.atExit = args[0]
			if args[0] == "-" {
				s.atExit = ""
			}
		case sig == "" || sig == "SIGKILL":
			s.complain("trap: %s: bad trap", name)
			s.last = 1
		case args[0] == "" || args[0] == "-":
			s.proc.ignore(sig, args[0] == "")
		default:
			s.complain("trap: only '' and EXIT are supported")
			s.last = 2
		}
	}
	return flow{}
}

func signalName(name string) string {
	if n, err := strconv.Atoi(name); err == nil {
		for sig, number := range signals() {
			if number == n {
				return sig
			}
		}
		return ""
	}
	name = "SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if signals()[name] == 0 {
		return ""
	}
	return name
}

func waitFor(s *shell, args []string) flow {
	s.last = 0
	for _, j := range s.jobs {
		if len(args) > 0 && !slices.Contains(args, strconv.Itoa(j.pid)) {
			continue
		}
		status, ok := j.await(s.ctx)
		if !ok {
			s.last = s.status(0)
			return flow{kind: exiting}
		}
		if len(args) > 0 {
			s.last = status
		}
	}
	return flow{}
}

// replace runs a command in the place of the shell; without one its redirections stay.
func replace(s *shell, args []string) flow {
	if len(args) == 0 {
		s.last = 0
		return flow{}
	}
	s.atExit = ""
	s.proc.args, s.proc.env = args, s.environ()
	s.last = s.proc.run()
	return flow{kind: exiting}
}

func plainCommand(s *shell, args []string) flow {
	if len(args) == 2 && (args[0] == "-v" || args[0] == "-V") {
		_, function := s.funcs[args[1]]
		s.last = truth(function || special(args[1]) != nil || lookup(args[1]) != nil)
		if s.last == 0 {
			_, _ = fmt.Fprintln(s.out(), args[1])
		}
		return flow{}
	}
	if len(args) == 0 {
		s.last = 0
		return flow{}
	}
	if b := special(args[0]); b != nil {
		return b(s, args[1:])
	}
	s.last = s.spawn(args, s.environ())
	return flow{}
}

func umask(s *shell, args []string) flow {
	s.last = 0
	if len(args) == 0 {
		s.last = s.print("0022\n")
	}
	return flow{}
}

// sh runs a script: of -c, of a file, or of standard input.
func sh(p *proc) int {
	args := p.args[1:]
	var flags []string
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "-c" {
		if strings.Trim(args[0][1:], "euc") != "" {
			p.complain("%s is not supported", args[0])
			return 2
		}
		flags = append(flags, strings.ReplaceAll(args[0], "c", ""))
		if strings.Contains(args[0], "c") {
			args[0] = "-c"
			break
		}
		args = args[1:]
	}
	var text string
	name, params := "sh", []string(nil)
	switch {
	case len(args) > 0 && args[0] == "-c":
		if len(args) < 2 {
			p.complain("-c needs a script")
			return 2
		}
		text = args[1]
		if len(args) > 2 {
			name, params = args[2], args[3:]
		}
	case len(args) > 0:
		data, err := p.fs().ReadFile(p.path(args[0]))
		if err != nil {
			p.failed(err)
			return 127
		}
		text, name, params = string(data), args[0], args[1:]
	default:
		data, err := io.ReadAll(bufio.NewReader(p.in()))
		if err != nil {
			return p.failed(err)
		}
		text = string(data)
	}
	s := newShell(p, name, params)
	s.shellPID = p.pid
	for _, f := range flags {
		if f != "-" {
			set(s, []string{f})
		}
	}
	return s.script(text)
}
