package e2btest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// process is one command in a sandbox, as the daemon keeps it.
type process struct {
	pid   int
	cmd   *exec.Cmd
	args  []string
	tty   *os.File
	done  chan struct{} // closed when the end is known
	end   map[string]any
	quit  chan struct{} // closed to drop what was not read yet
	quits sync.Once

	moved   atomic.Int64 // bytes read of the outputs
	sending atomic.Int32 // outputs of which something is on its way to clients

	mu      sync.Mutex
	stdin   io.WriteCloser
	readers map[*reader]bool
}

// reader is one client that follows a process.
type reader struct {
	events chan map[string]any
	gone   chan struct{}
}

type startRequest struct {
	Process struct {
		Cmd  string            `json:"cmd"`
		Args []string          `json:"args"`
		Envs map[string]string `json:"envs"`
		Cwd  string            `json:"cwd"`
	} `json:"process"`
	PTY *struct {
		Size ptySize `json:"size"`
	} `json:"pty"`
	Stdin *bool `json:"stdin"`
}

type ptySize struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

var errNoDir = errors.New("cwd does not exist")

// launch starts a process with first as its first reader. hold: see Options.HoldPipes.
func (b *box) launch(in startRequest, first *reader, hold bool) (*process, error) {
	dir := b.real(in.Process.Cwd)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, errNoDir
	}
	cmd := exec.Command(in.Process.Cmd, in.Process.Args...) //nolint:noctx // it outlives the request
	cmd.Dir, cmd.Env = dir, b.environ(in.Process.Envs)
	p := &process{cmd: cmd, args: append([]string{in.Process.Cmd}, in.Process.Args...), done: make(chan struct{}), quit: make(chan struct{}), readers: map[*reader]bool{first: true}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil, errors.New("the sandbox has ended")
	}
	outputs, err := p.start(in)
	if err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	b.processes[p.pid] = p
	first.events <- map[string]any{"start": map[string]any{"pid": p.pid}}
	go b.watch(p, outputs, hold)
	return p, nil
}

// environ is what the daemon gives a process; nothing of this process's own environment but the path.
func (b *box) environ(envs map[string]string) []string {
	out := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home(), "USER=user", "LOGNAME=user", "E2B_SANDBOX=true", "E2B_SANDBOX_ID=" + b.id}
	for _, m := range []map[string]string{b.envs, envs} {
		for k, v := range m {
			out = append(out, k+"="+v)
		}
	}
	return out
}

// output is one of a process's outputs, and what the events call it.
type output struct {
	name string
	file *os.File
}

func (p *process) start(in startRequest) ([]output, error) {
	if in.PTY != nil {
		tty, err := pty.StartWithSize(p.cmd, &pty.Winsize{Cols: in.PTY.Size.Cols, Rows: in.PTY.Size.Rows})
		if err != nil {
			return nil, err
		}
		p.tty = tty
		return []output{{"pty", tty}}, nil
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, outR.Close(), outW.Close())
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	if in.Stdin == nil || *in.Stdin {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	err = errors.Join(err, outW.Close(), errW.Close())
	if err != nil {
		return nil, errors.Join(err, outR.Close(), errR.Close())
	}
	return []output{{"stdout", outR}, {"stderr", errR}}, nil
}

const drain = 100 * time.Millisecond // how long an output is waited for after the end of a process, when nothing comes

// drained returns when all outputs have ended, or nothing came of them for a while: something else holds them then. A client
// that takes what came slowly is not that.
func (p *process) drained(read <-chan struct{}) {
	t := time.NewTicker(drain)
	defer t.Stop()
	for was := int64(-1); ; {
		select {
		case <-read:
			return
		case <-p.quit:
			return
		case <-t.C:
			now := p.moved.Load()
			if now == was && p.sending.Load() == 0 {
				return
			}
			was = now
		}
	}
}

// watch reads a process's outputs and notes its end.
func (b *box) watch(p *process, outputs []output, hold bool) {
	var reading sync.WaitGroup
	for _, o := range outputs {
		reading.Go(func() { p.copy(o) })
	}
	read := make(chan struct{})
	go func() { reading.Wait(); close(read) }()
	if hold && p.tty == nil {
		select {
		case <-read:
		case <-p.quit:
		}
	}
	err := p.cmd.Wait()
	p.drained(read)
	p.drop()
	for _, o := range outputs {
		_ = o.file.Close() // it was read
	}
	<-read
	st := p.cmd.ProcessState
	end := map[string]any{"status": st.String()}
	if st.ExitCode() != 0 {
		end["exitCode"] = st.ExitCode()
	}
	if st.Exited() {
		end["exited"] = true
	}
	if err != nil {
		end["error"] = err.Error()
	}
	b.mu.Lock()
	delete(b.processes, p.pid)
	b.mu.Unlock()
	p.end = end
	close(p.done)
}

func (p *process) drop() { p.quits.Do(func() { close(p.quit) }) }

func (p *process) copy(o output) {
	buf := make([]byte, 32<<10)
	for {
		n, err := o.file.Read(buf)
		p.sending.Add(1)
		p.moved.Add(int64(n))
		sent := n == 0 || p.send(map[string]any{"data": map[string]any{o.name: bytes.Clone(buf[:n])}})
		p.sending.Add(-1)
		if !sent || err != nil {
			return
		}
	}
}

// send gives an event to all readers, and waits for slow ones unless the process is over.
func (p *process) send(ev map[string]any) bool {
	p.mu.Lock()
	readers := make([]*reader, 0, len(p.readers))
	for r := range p.readers {
		readers = append(readers, r)
	}
	p.mu.Unlock()
	for _, r := range readers {
		select {
		case r.events <- ev:
		case <-r.gone:
		case <-p.quit:
			return false
		}
	}
	return true
}

func (p *process) attach(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[r] = true
}

func (p *process) detach(r *reader) {
	close(r.gone)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, r)
}

// kill ends one process, not its children.
func (p *process) kill() {
	p.drop()
	_ = p.cmd.Process.Kill() // it may have ended
}

// killAll ends everything that runs in the sandbox.
func (b *box) killAll() {
	b.mu.Lock()
	b.over = true
	ps := make([]*process, 0, len(b.processes))
	for _, p := range b.processes {
		ps = append(ps, p)
	}
	b.mu.Unlock()
	for range 20 {
		if !signalMarked(b.mark(), syscall.SIGKILL) {
			break
		}
	}
	for _, p := range ps {
		p.kill()
		<-p.done
	}
}

// signalMarked sends a signal to every process whose environment contains mark and reports whether there was one. It needs
// /proc.
func signalMarked(mark []byte, sig syscall.Signal) bool {
	found := false
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(env, mark) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if proc, err := os.FindProcess(pid); err == nil && proc.Signal(sig) == nil {
			found = true
		}
	}
	return found
}
