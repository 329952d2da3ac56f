package composessh

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // for the script
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/ttyinput"
)

//go:embed scripts/exec.sh
var execScript string

// Exec runs a command in the main service's container, or in the one of req.Service, as the user of that container. The image
// needs a POSIX shell called sh, and for a terminal also stty. A command that ends by itself with 130 or 141 is reported as
// ended by SIGINT or SIGPIPE, because a shell cannot tell them apart; where sh is bash that holds for all of 128+n.
func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	begun := time.Now()
	all := ctx
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.Timeout)
		defer cancel()
	}
	res, err := e.exec(ctx, t, req)
	res.Duration = time.Since(begun)
	if err != nil && req.Timeout > 0 && all.Err() == nil && ctx.Err() != nil && !errors.Is(err, errKill) {
		return sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL", TimedOut: true, Duration: res.Duration}, nil
	}
	return res, err
}

func (e *extension) exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	var none sandboxer.ExecResult
	b, err := e.open(ctx, t)
	if err != nil {
		return none, err
	}
	service := req.Service
	if service == "" {
		service = b.Service
	}
	if !slices.Contains(b.Services, service) {
		return none, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("sandbox %s has no service %q; it has %s", b.name, service, strings.Join(b.Services, ", ")))
	}
	r := &running{b: b, t: t, req: req, service: service, mark: strings.ToLower(rand.Text())}
	if r.line, err = r.command(); err != nil {
		return none, err
	}
	for again := true; ; again = false {
		id, err := b.container(ctx, t, service, !again)
		if err != nil {
			return none, err
		}
		res, err := r.run(ctx, id)
		if again && errors.Is(err, errNoContainer) { // it was made anew since we looked
			continue
		}
		return res, err
	}
}

// running is one command.
type running struct {
	b       *box
	t       sandboxer.Target
	req     sandboxer.ExecRequest
	service string
	mark    string
	line    string
}

var (
	errNoContainer = errors.New("its container is not there")
	errKill        = errors.New("the command may still run, because it could not be killed")
)

const (
	killTimeout = 15 * time.Second
	// tailTime is how long the engine has to end its own side after the command's end was told.
	tailTime = 3 * time.Second
)

// run runs it once. An error that is refused says that it did not begin.
func (r *running) run(ctx context.Context, id string) (sandboxer.ExecResult, error) {
	var none sandboxer.ExecResult
	out, errs := newOutputs(r.mark, &r.req)
	defer endOutputs(out, errs)
	tty, size := "", sandboxer.WindowSize{}
	if r.req.TTY != nil {
		tty = cmp.Or(r.req.TTY.Term, "xterm-256color")
		size = sandboxer.WindowSize{Rows: cmp.Or(r.req.TTY.Rows, 24), Cols: cmp.Or(r.req.TTY.Cols, 80)}
	}
	host := r.b.script(execScript, r.b.name, id, r.mark, tty, strconv.Itoa(size.Rows), strconv.Itoa(size.Cols))
	host.TTY, host.Stdout, host.Stderr = r.req.TTY, out, errs
	done := make(chan struct{})
	host.Stdin = r.input(out, done)
	// Once the end was told, the caller's context has no part in how the engine ends its own side.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, cancel)
	defer unwatch()
	type end struct {
		res sandboxer.ExecResult
		err error
	}
	ended := make(chan end, 1)
	r.b.e.tails.Go(func() {
		defer close(done)
		defer cancel()
		res, err := r.b.conn.Exec(inner, host)
		ended <- end{res, err}
	})
	told := func() sandboxer.ExecResult {
		// What the command left in the background may hold its outputs open; the engine's side is ended then, not they.
		time.AfterFunc(tailTime, cancel)
		code, signal := out.sentinel.Outcome()
		return sandboxer.ExecResult{ExitCode: code, Signal: signal}
	}
	wait := []<-chan struct{}{out.told}
	if r.req.TTY == nil {
		wait = append(wait, errs.told)
	}
	for _, c := range wait {
		select {
		case <-c:
			continue
		case e := <-ended:
			switch {
			case e.err == nil && out.isTold():
			case e.err == nil && !out.isBegun():
				return none, r.neverBegan(e.res, out, errs)
			default:
				return none, r.broken(ctx, id, e.err, out, errs)
			}
		}
		break
	}
	return told(), nil
}

// broken is the error for a command that did not come to its end, after all of it was ended.
func (r *running) broken(ctx context.Context, id string, err error, out, errs *output) error {
	switch failed := errors.Join(out.failed(), errs.failed()); {
	case failed != nil:
		err = sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("the command was ended, because its output could not be written: %w", failed))
	case ctx.Err() != nil:
		err = ended(ctx, "the command was ended")
	case err == nil:
		err = sandboxer.Mark(sandboxer.Unknown, errors.New("the container ended, or was removed, before the command did"))
	}
	if sandboxer.IsRefused(err) {
		return err
	}
	if killed := r.kill(ctx, id, out.isBegun()); killed != nil {
		return sandboxer.Mark(sandboxer.CodeOf(err), errors.Join(err, killed))
	}
	return fmt.Errorf("sandbox %s: %w", r.b.name, err)
}

// killCommand runs the killer in a container as the container's user, and as root for what changed its user. CONTAINER MARK MORE KILLER.
const killCommand = `
engine exec "$1" sh -c "$4" sandboxer "$2" "$3" </dev/null >/dev/null 2>&1 && exit 0
[ "$(engine inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ] || exit 0
engine exec -u 0 "$1" sh -c "$4" sandboxer "$2" 0 </dev/null
`

// kill ends the command and all that it started. It works after ctx ended, for at most killTimeout.
func (r *running) kill(ctx context.Context, id string, begun bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	more := "5" // it may be starting
	if begun {
		more = "0"
	}
	if _, err := r.b.run(ctx, "ending a command", killCommand, id, r.mark, more, killScript); err != nil {
		return fmt.Errorf("%w: %w", errKill, err)
	}
	return nil
}

// neverBegan explains what the engine said instead of running the command.
func (r *running) neverBegan(res sandboxer.ExecResult, out, errs *output) error {
	text := said([]byte(errs.noise() + out.noise()))
	low := strings.ToLower(text)
	refuse := func(code sandboxer.Code, format string, args ...any) error {
		return sandboxer.Refused(code, fmt.Errorf("sandbox %s, service %s: "+format, append([]any{r.b.name, r.service}, args...)...))
	}
	switch {
	case strings.Contains(low, r.mark+"-dir"):
		return refuse(sandboxer.InvalidArgument, "there is no directory %q that its user may enter", r.req.Dir)
	case strings.Contains(low, "no such container"), strings.Contains(low, "is not running"), strings.Contains(low, "no such exec"):
		return refuse(sandboxer.FailedPrecondition, "%w: %s", errNoContainer, text)
	case strings.Contains(low, "is paused"):
		return refuse(sandboxer.FailedPrecondition, "%w", errPaused)
	case res.ExitCode == 124 && r.req.TTY != nil:
		return refuse(sandboxer.Unsupported, "its image has no stty, without which there is no terminal: %s", text)
	case strings.Contains(low, `"sh"`), strings.Contains(low, "executable file not found"):
		return refuse(sandboxer.FailedPrecondition, "its image has no shell (sh), which commands are run through; use an image with one")
	}
	if code := engineCode(text); code != sandboxer.Unknown {
		return refuse(code, "%s", text)
	}
	return sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("sandbox %s, service %s: the engine did not run the command (%w): %s", r.b.name, r.service, res.Err(), text))
}

// input is what the shell in the container reads: its line, and then what is for the command. With a terminal it waits until
// the shell has made it one that takes any line, and the end of the input is typed. It blocks no longer than until done.
func (r *running) input(out *output, done <-chan struct{}) io.Reader {
	line, own := strings.NewReader(r.line), r.req.Stdin
	if r.req.TTY == nil {
		if own == nil {
			return line
		}
		return io.MultiReader(line, own)
	}
	if own == nil {
		own = strings.NewReader("")
	}
	typed := &typed{r: own, last: '\n'}
	return io.MultiReader(&gate{out.ready, done}, line, &gate{out.started, done}, typed, &gate{done, done})
}

// typed is what is typed into a terminal: r, and then the end of the input.
type typed struct {
	r    io.Reader // nil: it has ended
	last byte
	end  []byte
}

func (t *typed) Read(p []byte) (int, error) {
	if t.r != nil {
		n, err := t.r.Read(p)
		if n > 0 {
			t.last = p[n-1]
		}
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		t.r, t.end = nil, ttyinput.End(t.last)
		if n > 0 {
			return n, nil
		}
	}
	if len(t.end) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.end)
	t.end = t.end[n:]
	return n, nil
}
