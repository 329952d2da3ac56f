package shell

import (
	"slices"
	"strings"
)

// lookup returns the command called name, or nil. Each is a small part of what its name promises: flags that it does not
// take are refused, never ignored.
func lookup(name string) func(*proc) int {
	for _, c := range table() {
		if c.name == name {
			return c.run
		}
	}
	return nil
}

type entry struct {
	name string
	run  func(*proc) int
}

// Names returns the commands that a fake sandbox knows, the shell's own not among them.
func Names() []string {
	var out []string
	for _, c := range table() {
		out = append(out, c.name)
	}
	slices.Sort(out)
	return out
}

func table() []entry {
	return []entry{
		{"sh", sh}, {"bash", sh}, {"true", yesOrNo(0)}, {"false", yesOrNo(1)}, {"echo", echo}, {"cat", cat}, {"printf", printf},
		{"sleep", sleep}, {"env", env}, {"printenv", printenv}, {"pwd", pwd}, {"ls", ls}, {"mkdir", mkdir}, {"rm", rm},
		{"rmdir", rmdir}, {"cp", cp}, {"mv", mv}, {"ln", ln}, {"touch", touch}, {"chmod", chmod}, {"test", test}, {"[", test},
		{"stat", stat}, {"readlink", readlink}, {"head", head}, {"tail", tail}, {"wc", wc}, {"tee", tee}, {"seq", seq},
		{"yes", yes}, {"tr", tr}, {"sort", sortLines}, {"grep", grep}, {"find", find}, {"basename", basename}, {"dirname", dirname},
		{"date", date}, {"sha256sum", sha256sum}, {"base64", base64Cmd}, {"kill", kill}, {"id", id}, {"whoami", whoami},
		{"uname", uname}, {"hostname", hostname}, {"nohup", prefix}, {"setsid", prefix}, {"timeout", timeout}, {"tty", tty},
		{"stty", stty}, {"nc", nc},
	}
}

// options splits the arguments of p into flags and operands. with are flags that take a value. A flag that is in neither is
// refused.
func (p *proc) options(flags, with string) (set map[byte]string, operands []string, ok bool) {
	set = map[byte]string{}
	args := p.args[1:]
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			return set, args[1:], true
		}
		if len(a) < 2 || a[0] != '-' {
			break
		}
		args = args[1:]
		for i := 1; i < len(a); i++ {
			switch c := a[i]; {
			case strings.IndexByte(flags, c) >= 0:
				set[c] = ""
			case strings.IndexByte(with, c) >= 0:
				value := a[i+1:]
				if value == "" {
					if len(args) == 0 {
						p.complain("-%c needs a value", c)
						return nil, nil, false
					}
					value, args = args[0], args[1:]
				}
				set[c] = value
				i = len(a)
			default:
				p.complain("%s is not supported in a fake sandbox", a)
				return nil, nil, false
			}
		}
	}
	return set, args, true
}

func has(set map[byte]string, c byte) bool { _, ok := set[c]; return ok }

// each runs f for every operand and returns 1 if one failed.
func (p *proc) each(operands []string, f func(string) error) int {
	if len(operands) == 0 {
		p.complain("an operand is missing")
		return 2
	}
	status := 0
	for _, name := range operands {
		if err := f(name); err != nil {
			status = p.failed(err)
		}
	}
	return status
}

func yesOrNo(status int) func(*proc) int { return func(*proc) int { return status } }
