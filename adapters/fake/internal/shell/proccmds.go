package shell

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

func sleep(p *proc) int {
	if len(p.args) < 2 {
		p.complain("a number of seconds is missing")
		return 2
	}
	for _, a := range p.args[1:] {
		d, err := seconds(a)
		if err != nil {
			p.complain("%s: not a number of seconds", a)
			return 2
		}
		if !p.pause(d) {
			return 1
		}
	}
	return 0
}

func seconds(s string) (time.Duration, error) {
	if s == "infinity" {
		return 1<<63 - 1, nil
	}
	if s != "" && strings.IndexByte("smh", s[len(s)-1]) >= 0 {
		return time.ParseDuration(s)
	}
	return time.ParseDuration(s + "s")
}

// env prints the environment, or runs a command in a changed one.
func env(p *proc) int {
	args, vars := p.args[1:], maps.Clone(p.env)
	if len(args) > 0 && (args[0] == "-i" || args[0] == "-") {
		args, vars = args[1:], map[string]string{}
	}
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		if !ok {
			break
		}
		vars[name] = value
		args = args[1:]
	}
	if len(args) > 0 {
		p.args, p.env = args, vars
		return p.run()
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if s := p.print("%s=%s\n", name, vars[name]); s != 0 {
			return s
		}
	}
	return 0
}

func printenv(p *proc) int {
	if len(p.args) < 2 {
		return env(p)
	}
	status := 0
	for _, name := range p.args[1:] {
		value, ok := p.env[name]
		if !ok {
			status = 1
			continue
		}
		p.print("%s\n", value)
	}
	return status
}

func kill(p *proc) int {
	args, sig := p.args[1:], "SIGTERM"
	if len(args) > 1 && args[0] == "-s" {
		args = append([]string{"-" + args[1]}, args[2:]...)
	}
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		if sig = signalName(args[0][1:]); sig == "" && args[0] != "-0" {
			p.complain("%s: no such signal", args[0])
			return 2
		}
		args = args[1:]
	}
	return p.each(args, func(a string) error {
		pid, err := strconv.Atoi(a)
		if err != nil || !p.sys.signal(pid, sig) {
			return fmt.Errorf("%s: no such process", a)
		}
		return nil
	})
}

// date knows +%s, +%N, +%F, +%T and their combinations, and -u.
func date(p *proc) int {
	_, args, ok := p.options("u", "")
	if !ok {
		return 2
	}
	now := time.Now().UTC()
	if len(args) == 0 {
		return p.print("%s\n", now.Format(time.UnixDate))
	}
	r := strings.NewReplacer("%s", strconv.FormatInt(now.Unix(), 10), "%N", fmt.Sprintf("%09d", now.Nanosecond()),
		"%F", now.Format(time.DateOnly), "%T", now.Format(time.TimeOnly), "%%", "%")
	return p.print("%s\n", r.Replace(strings.TrimPrefix(args[0], "+")))
}

func id(p *proc) int {
	set, _, ok := p.options("ugn", "")
	switch {
	case !ok:
		return 2
	case has(set, 'n'):
		return p.print("root\n")
	case len(set) > 0:
		return p.print("0\n")
	}
	return p.print("uid=0(root) gid=0(root)\n")
}

func whoami(p *proc) int { return p.print("root\n") }

func uname(p *proc) int {
	set, _, ok := p.options("asmnr", "")
	switch {
	case !ok:
		return 2
	case has(set, 'a'):
		return p.print("Fake %s sandboxer memory\n", p.sys.Name)
	case has(set, 'n'):
		return hostname(p)
	case has(set, 'm'):
		return p.print("memory\n")
	case has(set, 'r'):
		return p.print("sandboxer\n")
	}
	return p.print("Fake\n")
}

func hostname(p *proc) int { return p.print("%s\n", p.sys.Name) }

// prefix runs the rest of its arguments: there is no terminal whose end nohup and setsid would have to survive.
func prefix(p *proc) int {
	if len(p.args) < 2 {
		p.complain("a command is missing")
		return 2
	}
	p.args = p.args[1:]
	return p.run()
}

func timeout(p *proc) int {
	_, args, ok := p.options("", "sk")
	if !ok || len(args) < 2 {
		p.complain("a time and a command are needed")
		return 125
	}
	d, err := seconds(args[0])
	if err != nil {
		p.complain("%s: not a number of seconds", args[0])
		return 125
	}
	ctx, cancel := context.WithTimeout(p.ctx, d)
	defer cancel()
	child := p.child(ctx)
	defer child.done()
	child.args = args[1:]
	status := child.status(child.run())
	if ctx.Err() != nil && p.ctx.Err() == nil {
		return 124
	}
	return status
}

func tty(p *proc) int {
	if p.ex.terminal == nil {
		p.print("not a tty\n")
		return 1
	}
	return p.print("/dev/pts/0\n")
}

// stty knows size.
func stty(p *proc) int {
	if p.ex.terminal == nil {
		p.complain("standard input is not a terminal")
		return 1
	}
	if len(p.args) != 2 || p.args[1] != "size" {
		p.complain("only size is supported in a fake sandbox")
		return 2
	}
	cols, rows := p.ex.terminal()
	return p.print("%d %d\n", rows, cols)
}

// nc listens: nc -l [-k] -p PORT [-e COMMAND]. A connection is joined to standard input and output, or to COMMAND, which
// is run as a script. With -k it serves one connection after the other until it is killed.
func nc(p *proc) int {
	set, rest, ok := p.options("lk", "pe")
	if ok && len(rest) == 1 && !has(set, 'p') {
		set['p'], rest = rest[0], nil
	}
	if ok && (!has(set, 'l') || len(rest) > 0) {
		p.complain("only listening is supported in a fake sandbox: nc -l [-k] -p PORT [-e COMMAND]")
		ok = false
	}
	if !ok {
		return 2
	}
	port, err := strconv.Atoi(set['p'])
	if err != nil {
		p.complain("-p %s: not a port", set['p'])
		return 2
	}
	l, err := p.sys.Listen(port)
	if err != nil {
		return p.failed(err)
	}
	stop := context.AfterFunc(p.ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		_ = l.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return p.failed(err)
		}
		status := p.serve(c, set)
		if !has(set, 'k') || p.ctx.Err() != nil {
			return status
		}
	}
}

// conn makes a stream of a connection: its waits end because it is closed when the process ends.
type conn struct{ net.Conn }

func (c conn) ReadContext(_ context.Context, b []byte) (int, error)  { return c.Read(b) }
func (c conn) WriteContext(_ context.Context, b []byte) (int, error) { return c.Write(b) }

func (p *proc) serve(c net.Conn, set map[byte]string) int {
	stop := context.AfterFunc(p.ctx, func() { _ = c.Close() })
	defer func() {
		stop()
		_ = c.Close()
	}()
	child := p.fork()
	defer child.done()
	if has(set, 'e') {
		child.files[0], child.files[1] = conn{c}, conn{c}
		child.args = []string{"sh", "-c", set['e']}
		return child.status(child.run())
	}
	done := make(chan struct{})
	go func() { // ends when the connection is closed, or with the process
		defer close(done)
		_ = p.stream(struct{ io.Writer }{c}, child.in())
	}()
	_ = p.stream(p.out(), c) // a connection that breaks has ended
	child.kill("SIGTERM")
	_ = c.Close()
	<-done
	return 0
}
