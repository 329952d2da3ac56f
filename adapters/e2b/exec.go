package e2b

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/shellwrap"
)

// wrapper lingers for two seconds behind the command's end, so that what is under way arrives: envd waits for background
// children that hold the pipes, or drops what a slow reader has not taken yet, depending on its release (seen August 2026).
const wrapper = shellwrap.Script + `
exec sleep 2 </dev/null >/dev/null 2>&1`

const (
	keepalive   = 20 * time.Second // how often envd is asked to show that it lives
	silence     = 75 * time.Second // without any message the connection counts as dead
	markerEnv   = "SANDBOXER_EXEC" // marks a command and all its children, so that they can be killed
	ttyEnv      = "SANDBOXER_TTY"
	defaultTerm = "xterm-256color"
)

var (
	errTimeout = errors.New("the time limit of the command has passed")
	errSilence = errors.New("nothing was heard of the sandbox for a long time")
)

// Exec runs a command through /bin/sh of the template, which says how it ended. A command that ends by itself with 130 or
// 141 is reported as ended by SIGINT or SIGPIPE, because the shell cannot tell them apart; where /bin/sh is bash that holds
// for all 128+n.
func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if err := checkExec(req); err != nil {
		return sandboxer.ExecResult{}, err
	}
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, req.Timeout, errTimeout)
		defer cancel()
	}
	var res sandboxer.ExecResult
	err := e.talk(ctx, t, func(ses *session) error {
		root, err := e.workspace(ctx, t, ses)
		if err != nil {
			return err
		}
		r := &run{e: e, t: t, ses: ses, req: req, dir: place(root, req.Dir), nonce: nonce()}
		res, err = r.run(ctx)
		return err
	})
	if err != nil && errors.Is(context.Cause(ctx), errTimeout) && !errors.Is(err, errKill) {
		return sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL", TimedOut: true, Duration: req.Timeout}, nil
	}
	return res, err
}

func checkExec(req sandboxer.ExecRequest) error {
	bad := func(format string, args ...any) error {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
	}
	if len(req.Command) == 0 || req.Command[0] == "" {
		return bad("the command is empty; give argv")
	}
	if req.Service != "" {
		return bad("service %q: a sandbox of E2B has no services", req.Service)
	}
	for _, s := range append([]string{req.Dir}, req.Command...) {
		if strings.ContainsRune(s, 0) {
			return bad("the command or its directory contains a NUL character")
		}
	}
	for k, v := range req.Env {
		if !envName.MatchString(k) || strings.ContainsRune(v, 0) {
			return bad("environment variable %q cannot be set: names are letters, digits and underscores, values have no NUL", k)
		}
	}
	return nil
}

func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// run is one command.
type run struct {
	e     *extension
	t     sandboxer.Target
	ses   *session
	req   sandboxer.ExecRequest
	dir   string
	nonce string

	left     atomic.Bool // the request left
	pid      atomic.Uint32
	out, err *shellwrap.Sentinel
	input    chan error // how reading and sending stdin failed
	died     bool       // the shell around the command was killed
	nowhere  bool       // there is no such directory, so that the shell did not run the command
}

func (r *run) run(ctx context.Context) (sandboxer.ExecResult, error) {
	begun := time.Now()
	res, err := r.stream(ctx)
	res.Duration = time.Since(begun)
	if r.pid.Load() != 0 && err != nil && !r.nowhere {
		err = sandboxer.Mark(sandboxer.CodeOf(err), err) // it began, whatever was refused since
	}
	if sandboxer.IsRefused(err) || (err == nil && !r.died) {
		return res, err
	}
	// It may run on: see that it does not.
	away, killErr := r.kill(ctx)
	switch {
	case err == nil && killErr == nil:
		return res, nil // what was left below the shell has ended as it did
	case err == nil:
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Unknown, killErr)
	case killErr != nil:
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.CodeOf(err), errors.Join(err, killErr))
	case away != nil && ctx.Err() == nil && sandboxer.CodeOf(err) == sandboxer.Unavailable:
		return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.CodeOf(away), fmt.Errorf("while the command ran: %w", away))
	}
	return sandboxer.ExecResult{}, err
}

// stream starts the command and follows it until it ended.
func (r *run) stream(ctx context.Context) (sandboxer.ExecResult, error) {
	var none sandboxer.ExecResult
	sub, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(r.e.limits.silence, func() { cancel(errSilence) })
	defer idle.Stop()
	text, err := json.Marshal(r.start())
	if err != nil {
		return none, sandboxer.Refused(sandboxer.Internal, err)
	}
	req, err := r.e.envdRequest(traced(sub, &r.left), r.ses, http.MethodPost, "/process.Process/Start", "", bytes.NewReader(envelope(text)))
	if err != nil {
		return none, err
	}
	streamHeaders(req)
	res, err := r.e.envd.http.Do(req)
	if err != nil {
		return none, r.broken(ctx, sub, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxUnary)) // a cut message is still a message
		return none, r.e.envdFailure(ctx, r.t, r.ses, res, body)
	}
	r.out, r.err = shellwrap.NewSentinel(r.nonce), shellwrap.NewSentinel(r.nonce)
	r.input = make(chan error, 1)
	f := frames{r: res.Body}
	for {
		idle.Reset(r.e.limits.silence)
		text, end, err := f.next()
		if err != nil {
			return none, r.broken(ctx, sub, err)
		}
		idle.Stop() // a writer of the caller's that takes its time is no silence of the sandbox's
		if end {
			return none, r.trailed(text)
		}
		ev, err := decodeEvent(text)
		if err != nil {
			return none, err
		}
		if ev.Event.Start != nil && r.pid.Swap(ev.Event.Start.PID) == 0 {
			r.follow(sub, cancel)
		}
		if err := r.write(ev); err != nil {
			return none, err
		}
		if r.out.Seen() && (r.err.Seen() || r.req.TTY != nil) {
			exit, signal := r.out.Outcome()
			return sandboxer.ExecResult{ExitCode: exit, Signal: signal}, nil
		}
		if ev.Event.End != nil {
			return r.ended(ev.Event.End)
		}
	}
}

func streamHeaders(req *http.Request) {
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	req.Header.Set("Keepalive-Ping-Interval", strconv.Itoa(int(keepalive/time.Second)))
}

type startBody struct {
	Process startProcess `json:"process"`
	PTY     *startPTY    `json:"pty,omitempty"`
	Stdin   bool         `json:"stdin"`
}

type startProcess struct {
	Cmd  string            `json:"cmd"`
	Args []string          `json:"args"`
	Envs map[string]string `json:"envs"`
	Cwd  string            `json:"cwd"`
}

type startPTY struct {
	Size ptySize `json:"size"`
}

type ptySize struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

func (r *run) start() startBody {
	envs := map[string]string{}
	body := startBody{
		Process: startProcess{Cmd: "/bin/sh", Args: append([]string{"-c", wrapper, "sandboxer", r.nonce}, r.req.Command...), Envs: envs, Cwd: r.dir},
		Stdin:   r.req.Stdin != nil,
	}
	if encodable(r.dir, r.req.Command, r.req.Env) {
		for k, v := range r.req.Env {
			envs[k] = v
		}
	} else {
		body.Process.Cwd = "/"
		body.Process.Args = append([]string{"-c", decoder + wrapper, "sandboxer"}, escaped(r.nonce, r.dir, r.req.Command, r.req.Env)...)
	}
	envs[markerEnv] = r.nonce
	if tty := r.req.TTY; tty != nil {
		size := ptySize{Cols: orInt(tty.Cols, 80), Rows: orInt(tty.Rows, 24)}
		body.PTY, body.Stdin = &startPTY{Size: size}, false
		envs[ttyEnv], envs["TERM"] = "1", defaultTerm
		if tty.Term != "" {
			envs["TERM"] = tty.Term
		}
	}
	return body
}

func orInt(n, or int) int {
	if n > 0 {
		return n
	}
	return or
}

// write passes on what the command wrote.
func (r *run) write(ev processEvent) error {
	d := ev.Event.Data
	if d == nil {
		return nil
	}
	if err := put(r.req.Stdout, r.out.Feed(append(d.Stdout, d.PTY...))); err != nil {
		return err
	}
	return put(r.req.Stderr, r.err.Feed(d.Stderr))
}

func put(w io.Writer, p []byte) error {
	if w == nil || len(p) == 0 {
		return nil
	}
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("the command was ended, because its output could not be written: %w", err))
	}
	return nil
}

// ended is envd's word that the shell around the command is gone, though it did not say how the command ended.
func (r *run) ended(end *processEnd) (sandboxer.ExecResult, error) {
	if name, ok := signalOf(end); ok {
		_ = put(r.req.Stdout, r.out.Rest()) // it is killed already, and how it ended stands
		_ = put(r.req.Stderr, r.err.Rest())
		r.died = true
		return sandboxer.ExecResult{ExitCode: -1, Signal: name}, nil
	}
	if end.Exited && end.ExitCode == noDirectory && !encodable(r.dir, r.req.Command, r.req.Env) {
		r.nowhere = true
		return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("there is no directory %q in the sandbox", r.dir))
	}
	return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("the command ended, but the end of its output was lost (%s)", plain(end.Status)))
}

// signalOf reads Go's words for a process that a signal ended, as "signal: killed (core dumped)".
func signalOf(end *processEnd) (string, bool) {
	if end.Exited {
		return "", false
	}
	words, ok := strings.CutPrefix(end.Status, "signal: ")
	if !ok {
		return "", false
	}
	words, _, _ = strings.Cut(words, " (core")
	if name, ok := signalWords[words]; ok {
		return name, true
	}
	return "SIGKILL", true
}

var signalWords = map[string]string{
	"hangup": "SIGHUP", "interrupt": "SIGINT", "quit": "SIGQUIT", "aborted": "SIGABRT", "killed": "SIGKILL",
	"segmentation fault": "SIGSEGV", "terminated": "SIGTERM", "broken pipe": "SIGPIPE", "bus error": "SIGBUS",
	"illegal instruction": "SIGILL", "floating point exception": "SIGFPE",
}

// trailed is the end of a stream in which the command did not end.
func (r *run) trailed(text []byte) error {
	rpc, err := trailer(text)
	if err != nil {
		return err
	}
	if rpc == nil {
		return sandboxer.Mark(sandboxer.Unknown, errors.New("the stream ended before the command did; its fate is not known"))
	}
	return rpc.classify(r.pid.Load() != 0)
}

// broken says why a stream stopped: the caller's context, stdin, or the connection.
func (r *run) broken(ctx, sub context.Context, err error) error {
	select {
	case inputErr := <-r.input:
		return inputErr
	default:
	}
	if ctx.Err() == nil && errors.Is(context.Cause(sub), errSilence) {
		err = errSilence
	}
	if sandboxer.CodeOf(err) == sandboxer.Internal {
		return err
	}
	return transportError(ctx, err, r.left.Load())
}
