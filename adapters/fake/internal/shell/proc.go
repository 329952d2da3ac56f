package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

// System is one sandbox as its processes see it.
type System struct {
	FS     *memfs.FS
	Name   string // its host name
	Listen func(port int) (net.Listener, error)

	mu    sync.Mutex
	pid   int
	procs map[int]*proc
}

// Command is one command of a sandbox.
type Command struct {
	Argv           []string
	Env            map[string]string
	Dir            string // absolute
	Stdin          Reader
	Stdout, Stderr Writer
	Terminal       func() (cols, rows int) // nil: no terminal
	Go             func(func())            // runs a background child, beside the command and perhaps beyond it
	Children       context.Context         // ends them
}

// Result is how a command ended: with a code, or by a signal such as "SIGKILL".
type Result struct {
	Code   int
	Signal string
}

// proc is one process.
type proc struct {
	sys      *System
	ex       *execution
	ctx      context.Context
	cancel   context.CancelCauseFunc
	pid      int
	shellPID int // what $$ says
	dir      string
	env      map[string]string
	args     []string
	files    [maxFD]any // Reader, Writer or both
	mu       sync.Mutex
	ignored  map[string]bool // signals
}

// execution is what the processes of one command share.
type execution struct {
	children func(func())
	ctx      context.Context
	terminal func() (int, int)
}

// killed is why a process that a signal ended has no context any more.
type killed struct{ signal string }

func (k killed) Error() string { return "killed by " + k.signal }

func signals() map[string]int {
	return map[string]int{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGKILL": 9, "SIGUSR1": 10, "SIGUSR2": 12, "SIGPIPE": 13, "SIGTERM": 15}
}

// Run runs a command until it exits or ctx ends. Background children go on.
func (s *System) Run(ctx context.Context, c Command) Result {
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "HOSTNAME": s.Name, "PWD": c.Dir}
	maps.Copy(env, c.Env)
	p := s.start(ctx, &proc{sys: s, dir: c.Dir, env: env, args: c.Argv,
		ex: &execution{children: c.Go, ctx: c.Children, terminal: c.Terminal}})
	defer p.done()
	p.shellPID = p.pid
	p.files[0], p.files[1], p.files[2] = c.Stdin, c.Stdout, c.Stderr
	code := p.run()
	if k := (killed{}); errors.As(context.Cause(p.ctx), &k) {
		return Result{Code: -1, Signal: k.signal}
	}
	return Result{Code: code & 0xff}
}

func (s *System) start(ctx context.Context, p *proc) *proc {
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.procs == nil {
		s.procs = map[int]*proc{}
		s.pid = 100
	}
	s.pid++
	p.pid = s.pid
	s.procs[p.pid] = p
	return p
}

func (p *proc) done() {
	p.cancel(nil)
	p.sys.mu.Lock()
	defer p.sys.mu.Unlock()
	delete(p.sys.procs, p.pid)
}

// fork is a child that ends with p.
func (p *proc) fork() *proc { return p.child(p.ctx) }

// detach is a child that p leaves behind.
func (p *proc) detach() *proc { return p.child(p.ex.ctx) }

func (p *proc) child(ctx context.Context) *proc {
	return p.sys.start(ctx, &proc{sys: p.sys, ex: p.ex, shellPID: p.shellPID, dir: p.dir, env: p.env, args: p.args, files: p.files})
}

// kill ends p, and what it runs in the foreground.
func (p *proc) kill(signal string) { p.cancel(killed{signal}) }

// ignore makes p survive a signal.
func (p *proc) ignore(signal string, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ignored == nil {
		p.ignored = map[string]bool{}
	}
	p.ignored[signal] = on
}

// signal sends a signal, and reports whether there is such a process.
func (s *System) signal(pid int, signal string) bool {
	s.mu.Lock()
	p := s.procs[pid]
	s.mu.Unlock()
	if p == nil {
		return false
	}
	p.mu.Lock()
	survives := p.ignored[signal]
	p.mu.Unlock()
	if !survives && signal != "" {
		p.kill(signal)
	}
	return true
}

// status is code, or what a shell says of a process that a signal ended.
func (p *proc) status(code int) int {
	k := killed{}
	switch {
	case errors.As(context.Cause(p.ctx), &k):
		return 128 + signals()[k.signal]
	case p.ctx.Err() != nil:
		return 128 + signals()["SIGKILL"]
	}
	return code & 0xff
}

func (p *proc) fs() *memfs.FS { return p.sys.FS }

func (p *proc) path(name string) string { return memfs.Join(p.dir, name) }

func (p *proc) reader(fd int) io.Reader {
	if r, ok := p.files[fd].(Reader); ok {
		return bound{p: p, r: r}
	}
	return bytes.NewReader(nil)
}

func (p *proc) writer(fd int) io.Writer {
	if w, ok := p.files[fd].(Writer); ok {
		return bound{p: p, w: w}
	}
	return bound{p: p, w: empty{}}
}

func (p *proc) in() io.Reader  { return p.reader(0) }
func (p *proc) out() io.Writer { return p.writer(1) }
func (p *proc) err() io.Writer { return p.writer(2) }

// print writes to standard output and returns the status of having done so.
func (p *proc) print(format string, args ...any) int {
	if _, err := fmt.Fprintf(p.out(), format, args...); err != nil {
		return p.failed(err)
	}
	return 0
}

// failed complains about err and is a status.
func (p *proc) failed(err error) int {
	if p.ctx.Err() == nil && err != nil {
		p.complain("%s", strings.TrimPrefix(err.Error(), "memfs: "))
	}
	return 1
}

// pause waits, unless the process ends before.
func (p *proc) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// run finds the command of p and runs it.
func (p *proc) run() int {
	name := p.args[0]
	run, script, status := p.look(name)
	switch {
	case run != nil:
		return run(p)
	case status != 0:
		return status
	}
	s := newShell(p, name, p.args[1:])
	s.shellPID = p.pid
	return s.script(script)
}

// look finds a command: one of our own, or a script in the file system.
func (p *proc) look(name string) (run func(*proc) int, script string, status int) {
	dir, base := path.Split(name)
	own := lookup(base)
	if own != nil && (dir == "" || dir == "/bin/" || dir == "/usr/bin/") {
		return own, "", 0
	}
	files := []string{p.path(name)}
	if dir == "" {
		files = nil
		for d := range strings.SplitSeq(p.env["PATH"], ":") {
			files = append(files, memfs.Join(p.path(d), name))
		}
	}
	for _, file := range files {
		in, err := p.fs().Stat(file)
		if err != nil || in.Mode.IsDir() {
			continue
		}
		data, err := p.fs().ReadFile(file)
		if err != nil {
			continue
		}
		if in.Mode&0o111 == 0 {
			p.complain("permission denied")
			return nil, "", 126
		}
		first, _, _ := strings.Cut(string(data), "\n")
		interpreter, shebang := strings.CutPrefix(first, "#!")
		if strings.IndexByte(first, 0) >= 0 || shebang && path.Base(strings.TrimSpace(interpreter)) != "sh" {
			p.complain("cannot run: a fake sandbox runs sh scripts and its own commands only")
			return nil, "", 126
		}
		return nil, string(data), 0
	}
	if in, err := p.fs().Stat(p.path(name)); err == nil && in.Mode.IsDir() && dir != "" {
		p.complain("is a directory")
		return nil, "", 126
	}
	p.complain("not found (a fake sandbox knows sh and a few commands; answer others with OnExec)")
	return nil, "", 127
}

// pipe runs commands side by side, each reading what the one before writes.
func (s *shell) pipe(cmds []command) int {
	statuses := make([]int, len(cmds))
	var wg sync.WaitGroup
	var in *Pipe
	for i, c := range cmds {
		child := s.fork()
		from := in
		if from != nil {
			child.files[0] = from
		}
		var to *Pipe
		if i < len(cmds)-1 {
			to = NewPipe()
			child.files[1] = to
			in = to
		}
		sub := s.subshell(child)
		wg.Go(func() {
			sub.command(c)
			statuses[i] = child.status(sub.finish(flow{}))
			child.done()
			if from != nil {
				from.CloseRead()
			}
			if to != nil {
				to.CloseWrite()
			}
		})
	}
	wg.Wait()
	return statuses[len(statuses)-1]
}

// capture runs a substitution and returns its output without the line ends at its end.
func (s *shell) capture(body list) (string, error) {
	child := s.fork()
	defer child.done()
	var out limited
	child.files[1] = plain{Writer: &out}
	sub := s.subshell(child)
	f := sub.list(body)
	s.last = child.status(sub.finish(f))
	if out.over {
		return "", errors.New("the output of a substitution is too long")
	}
	return strings.TrimRight(strings.ReplaceAll(out.b.String(), "\x00", ""), "\n"), nil
}

// limited keeps a flood out of memory.
type limited struct {
	mu   sync.Mutex // background children write too
	b    bytes.Buffer
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len()+len(b) > 64<<20 {
		l.over = true
		return 0, io.ErrShortWrite
	}
	return l.b.Write(b)
}

// redirect opens what redirections name.
func (s *shell) redirect(rs []*redir) error {
	for _, r := range rs {
		if r.op == "<<" {
			text, err := s.text(r.arg)
			if err != nil {
				return err
			}
			s.files[r.fd] = plain{Reader: strings.NewReader(text)}
			continue
		}
		name, err := s.text(r.arg)
		if err != nil {
			return err
		}
		switch r.op {
		case "<&", ">&":
			if name == "-" {
				s.files[r.fd] = empty{}
				continue
			}
			if len(name) != 1 || name[0] < '0' || name[0] > '9' || s.files[name[0]-'0'] == nil {
				return fmt.Errorf("%s: bad file descriptor", name)
			}
			s.files[r.fd] = s.files[name[0]-'0']
			continue
		}
		f, err := s.open(name, r.op)
		if err != nil {
			return err
		}
		s.files[r.fd] = f
	}
	return nil
}

func (p *proc) open(name, op string) (any, error) {
	switch name {
	case "/dev/null":
		return empty{}, nil
	case "/dev/zero":
		return zeros{}, nil
	case "/dev/full":
		return full{}, nil
	case "/dev/stdin", "/dev/stdout", "/dev/stderr":
		return p.files[map[string]int{"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}[name]], nil
	case "":
		return nil, fs.ErrNotExist
	}
	if op == "<" {
		r, err := p.fs().OpenReader(p.path(name))
		return plain{Reader: r}, err
	}
	w, err := p.fs().OpenWriter(p.path(name), op == ">>", 0o644)
	return plain{Writer: w}, err
}
