package e2btest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/creack/pty"
)

var rpcStatus = map[string]int{
	"invalid_argument": 400, "unauthenticated": 401, "permission_denied": 403, "not_found": 404, "already_exists": 409,
	"unimplemented": 501, "internal": 500, "unavailable": 503,
}

func rpcFail(w http.ResponseWriter, code, message string) {
	writeJSON(w, rpcStatus[code], map[string]any{"code": code, "message": message})
}

// frame writes one message of a stream.
func frame(w http.ResponseWriter, flag byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	head := [5]byte{0: flag}
	binary.BigEndian.PutUint32(head[1:], uint32(len(text)))
	if _, err := w.Write(append(head[:], text...)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// unframe reads the one message that a client sends.
func unframe(r io.Reader, into any) error {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > 64<<20 {
		return errors.New("too long")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func streamFail(w http.ResponseWriter, code, message string) {
	_ = frame(w, 2, map[string]any{"error": map[string]any{"code": code, "message": message}}) // the client went away
}

// selected is the part of most requests that names a process.
type selected struct {
	Process struct {
		PID int `json:"pid"`
	} `json:"process"`
	Input struct {
		Stdin []byte `json:"stdin"`
		PTY   []byte `json:"pty"`
	} `json:"input"`
	Signal string `json:"signal"`
	PTY    *struct {
		Size ptySize `json:"size"`
	} `json:"pty"`
}

func (s *Server) processRPC(w http.ResponseWriter, r *http.Request, b *box, method string) {
	switch method {
	case "Start":
		w.Header().Set("Content-Type", "application/connect+json")
		var in startRequest
		if err := unframe(r.Body, &in); err != nil {
			streamFail(w, "invalid_argument", err.Error())
			return
		}
		rd := &reader{events: make(chan map[string]any, 64), gone: make(chan struct{})}
		p, err := b.launch(in, rd, s.opts.HoldPipes)
		if err != nil {
			streamFail(w, "invalid_argument", "error starting process: "+err.Error())
			return
		}
		s.follow(w, r, b, p, rd)
		return
	case "List":
		writeJSON(w, http.StatusOK, map[string]any{"processes": b.list()})
		return
	}
	var in selected
	decode := func() error { return json.NewDecoder(r.Body).Decode(&in) }
	if method == "Connect" {
		w.Header().Set("Content-Type", "application/connect+json")
		decode = func() error { return unframe(r.Body, &in) }
	}
	if err := decode(); err != nil {
		rpcFail(w, "invalid_argument", err.Error())
		return
	}
	b.mu.Lock()
	p := b.processes[in.Process.PID]
	b.mu.Unlock()
	if method == "Connect" {
		if p == nil {
			streamFail(w, "not_found", "process with pid "+strconv.Itoa(in.Process.PID)+" not found")
			return
		}
		rd := &reader{events: make(chan map[string]any, 64), gone: make(chan struct{})}
		rd.events <- map[string]any{"start": map[string]any{"pid": p.pid}}
		p.attach(rd)
		s.follow(w, r, b, p, rd)
		return
	}
	if p == nil {
		rpcFail(w, "not_found", "process with pid "+strconv.Itoa(in.Process.PID)+" not found")
		return
	}
	if code, err := p.command(method, in); err != nil {
		rpcFail(w, code, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{})
}

func (b *box) list() []map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []map[string]any{}
	for _, p := range b.processes {
		out = append(out, map[string]any{"pid": p.pid, "config": map[string]any{"cmd": p.args[0], "args": p.args[1:]}})
	}
	return out
}

// follow streams a process to one client. The end of the client does not end the process; its time limit does.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, b *box, p *process, rd *reader) {
	defer p.detach(rd)
	s.mu.Lock()
	stopped := b.stopped
	s.mu.Unlock()
	var limit <-chan time.Time
	if ms, err := strconv.Atoi(r.Header.Get("Connect-Timeout-Ms")); err == nil && ms > 0 {
		t := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer t.Stop()
		limit = t.C
	}
	every := 50 * time.Second
	if sec, err := strconv.Atoi(r.Header.Get("Keepalive-Ping-Interval")); err == nil && sec > 0 {
		every = time.Duration(sec) * time.Second
	}
	ping := time.NewTicker(every)
	defer ping.Stop()
	send := func(ev map[string]any) bool { return frame(w, 0, map[string]any{"event": ev}) == nil }
	for {
		select {
		case ev := <-rd.events:
			if !send(ev) {
				return
			}
			continue
		default:
		}
		select {
		case ev := <-rd.events:
			if !send(ev) {
				return
			}
		case <-p.done:
			select {
			case <-stopped:
				panic(http.ErrAbortHandler)
			default:
			}
			for len(rd.events) > 0 {
				if !send(<-rd.events) {
					return
				}
			}
			if send(map[string]any{"end": p.end}) {
				_ = frame(w, 2, map[string]any{}) // the client went away
			}
			return
		case <-ping.C:
			if !send(map[string]any{"keepalive": map[string]any{}}) {
				return
			}
		case <-limit:
			p.kill()
			streamFail(w, "deadline_exceeded", "the time limit of the stream has passed")
			return
		case <-stopped:
			panic(http.ErrAbortHandler) // its connections are gone
		case <-r.Context().Done():
			return
		}
	}
}

// command does what a request asks of a running process.
func (p *process) command(method string, in selected) (code string, err error) {
	switch method {
	case "SendInput":
		if p.tty != nil {
			_, err = p.tty.Write(in.Input.PTY)
			return "internal", err
		}
		p.mu.Lock()
		stdin := p.stdin
		p.mu.Unlock()
		if stdin == nil {
			return "internal", errors.New("stdin not enabled or closed")
		}
		_, err = stdin.Write(in.Input.Stdin)
		return "internal", err
	case "CloseStdin":
		if p.tty != nil {
			return "internal", errors.New("cannot close stdin for PTY process - send Ctrl+D (0x04) instead")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stdin != nil {
			err = p.stdin.Close()
			p.stdin = nil
		}
		return "internal", err
	case "SendSignal":
		if in.Signal == "SIGNAL_SIGTERM" {
			return "internal", p.cmd.Process.Signal(syscall.SIGTERM)
		}
		p.kill()
		return "", nil
	case "Update":
		if p.tty == nil || in.PTY == nil {
			return "invalid_argument", errors.New("tty not assigned to process")
		}
		return "internal", pty.Setsize(p.tty, &pty.Winsize{Cols: in.PTY.Size.Cols, Rows: in.PTY.Size.Rows})
	}
	return "unimplemented", errors.New(method)
}
