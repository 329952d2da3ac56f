package e2b

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/ttyinput"
)

const stdinChunk = 64 << 10

type selector struct {
	PID uint32 `json:"pid"`
}

type inputBody struct {
	Process selector          `json:"process"`
	Input   map[string][]byte `json:"input,omitempty"`
}

type resizeBody struct {
	Process selector `json:"process"`
	PTY     startPTY `json:"pty"`
}

// follow begins to send stdin and the sizes of the terminal. Both end with ctx, but for a Read of the caller's that
// blocks: its goroutine ends when the Read does.
func (r *run) follow(ctx context.Context, cancel context.CancelCauseFunc) {
	if r.req.Stdin != nil || r.req.TTY != nil {
		go func() {
			if err := r.sendInput(ctx); err != nil && ctx.Err() == nil {
				r.input <- err
				cancel(err)
			}
		}()
	}
	if r.req.TTY != nil && r.req.TTY.Resize != nil {
		go r.resize(ctx)
	}
}

// sendInput copies stdin, and closes the command's when it is at its end.
func (r *run) sendInput(ctx context.Context) error {
	kind := "stdin"
	if r.req.TTY != nil {
		kind = "pty"
	}
	send := func(p []byte) error {
		// It is answered when the command has room for it, which may be never. What breaks meanwhile ends the stream, and ctx.
		body := inputBody{Process: selector{r.pid.Load()}, Input: map[string][]byte{kind: p}}
		return r.e.talk(ctx, r.t, func(ses *session) error {
			return r.e.post(ctx, ctx, r.t, ses, "/process.Process/SendInput", body, nil)
		})
	}
	last := byte('\n')
	if r.req.Stdin != nil {
		buf := make([]byte, stdinChunk)
		for {
			n, readErr := r.req.Stdin.Read(buf)
			if ctx.Err() != nil {
				return nil
			}
			if n > 0 {
				last = buf[n-1]
				if done, err := over(send(buf[:n])); done {
					return err
				}
			}
			if errors.Is(readErr, io.EOF) {
				break
			}
			if readErr != nil {
				return sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("the command was ended, because its input could not be read: %w", readErr))
			}
		}
	}
	if r.req.TTY != nil {
		_, err := over(send(ttyinput.End(last)))
		return err
	}
	_, err := over(r.call(ctx, "CloseStdin", inputBody{Process: selector{r.pid.Load()}}))
	if errors.Is(err, sandboxer.Unsupported) {
		return sandboxer.Mark(sandboxer.Unsupported, fmt.Errorf("the template's envd %s cannot close the input of a command; rebuild the template: %w", plain(r.ses.version), err))
	}
	return err
}

// over reports whether sending input is over. A command that ended or closed its input takes no more, which is no failure.
func over(err error) (bool, error) {
	var rpc *rpcError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &rpc) && (rpc.Code == "not_found" || strings.Contains(rpc.Message, "broken pipe") || strings.Contains(rpc.Message, "closed")):
		return true, nil
	}
	return true, err
}

func (r *run) resize(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-r.req.TTY.Resize:
			if !ok {
				return
			}
			if size.Cols <= 0 || size.Rows <= 0 {
				continue
			}
			body := resizeBody{Process: selector{r.pid.Load()}, PTY: startPTY{Size: ptySize(size)}}
			if err := r.call(ctx, "Update", body); err != nil && ctx.Err() == nil {
				r.e.log.DebugContext(ctx, "e2b: the terminal was not resized", "sandbox", r.ses.id, "error", err)
			}
		}
	}
}

// call is a request about the running command.
func (r *run) call(ctx context.Context, method string, body any) error {
	return r.e.talk(ctx, r.t, func(ses *session) error {
		return r.e.unary(ctx, r.t, ses, "/process.Process/"+method, body, nil)
	})
}
