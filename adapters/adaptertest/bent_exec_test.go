package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func execBreakages() []breakage {
	return []breakage{{
		what: "a command that does not exist succeeds", checks: []string{"exec/not-found"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			res, err := next(ctx, t, r)
			if res.ExitCode == 127 {
				res.ExitCode = 0
			}
			return res, err
		}),
	}, {
		what: "signals are exit codes above 128", checks: []string{"exec/signal"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			res, err := next(ctx, t, r)
			if res.Signal != "" {
				res.Signal, res.ExitCode = "", 137
			}
			return res, err
		}),
	}, {
		what: "Service is not looked at", checks: []string{"exec/service"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			r.Service = ""
			return next(ctx, t, r)
		}),
	}, {
		what: "one command at a time", checks: []string{"exec/concurrent"},
		wrap: func(ext sandboxer.Extension) sandboxer.Extension {
			var running atomic.Int32
			return execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
				defer running.Add(-1)
				if running.Add(1) > 1 {
					return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.ResourceExhausted, errors.New("busy"))
				}
				<-time.After(10 * time.Millisecond)
				return next(ctx, t, r)
			})(ext)
		},
	}, {
		what: "a terminal is none", checks: []string{"exec/terminal"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			r.TTY = nil
			return next(ctx, t, r)
		}),
	}, {
		what: "the end of what is typed is not heard within a line", checks: []string{"exec/terminal"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			if r.TTY != nil && r.Stdin != nil {
				typed, err := io.ReadAll(r.Stdin)
				if err != nil {
					return sandboxer.ExecResult{}, err
				}
				r.Stdin = bytes.NewReader(typed)
				if len(typed) > 0 && typed[len(typed)-1] != '\n' {
					return sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL", TimedOut: true, Duration: r.Timeout}, nil
				}
			}
			return next(ctx, t, r)
		}),
	}, {
		what: "arguments end at a NUL", checks: []string{"exec-args/nul"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			r.Command = slices.Clone(r.Command)
			for i, a := range r.Command {
				r.Command[i], _, _ = strings.Cut(a, "\x00")
			}
			return next(ctx, t, r)
		}),
	}, {
		what: "without a Stdin a command waits for input", checks: []string{"exec-io/empty"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			if r.Stdin == nil {
				in, end := io.Pipe()
				defer end.Close() //nolint:errcheck // it never fails
				r.Stdin = in
			}
			return next(ctx, t, r)
		}),
	}, {
		what: "what was written last is written behind the caller's back", checks: []string{"exec-io/late-write"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			to := r.Stdout
			if to != nil {
				r.Stdout = writerFunc(func(p []byte) (int, error) {
					late := bytes.Clone(p)
					time.AfterFunc(500*time.Millisecond, func() { _, _ = to.Write(late) })
					<-time.After(5 * time.Millisecond) // or there would be very many
					return len(p), nil
				})
			}
			return next(ctx, t, r)
		}),
	}, {
		what: "output arrives when the command has ended", checks: []string{"exec-io/live"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			var held bytes.Buffer
			to := r.Stdout
			r.Stdout = &held
			res, err := next(ctx, t, r)
			if to != nil {
				_, _ = to.Write(held.Bytes())
			}
			return res, err
		}),
	}, {
		what: "input that is not read is an error", checks: []string{"exec-io/stdin-unread"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			res, err := next(ctx, t, r)
			if rest, ok := r.Stdin.(*bytes.Reader); ok && rest.Len() > 0 {
				return res, sandboxer.Mark(sandboxer.Internal, io.ErrShortWrite)
			}
			return res, err
		}),
	}, {
		what: "Exec in a sandbox that was torn down does not return", checks: []string{"exec-kill/teardown"},
		wrap: execBy(func(ctx context.Context, next execFunc, t sandboxer.Target, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
			res, err := next(ctx, t, r)
			if err != nil {
				<-time.After(5 * time.Second)
			}
			return res, err
		}),
	}}
}
