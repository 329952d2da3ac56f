package fake

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// ExecFunc answers a command in the place of the fake's own shell.
type ExecFunc func(ctx context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error)

// OnExec makes f answer every command from now on; nil gives the commands back to the fake's own shell. Faults act before
// and after f as around any call.
func (b *Backend) OnExec(f func(ctx context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error)) {
	if f == nil {
		b.onExec.Store(nil)
		return
	}
	answer := ExecFunc(f)
	b.onExec.Store(&answer)
}

// Exec runs a command in the sandbox.
func (e *extension) Exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	var res sandboxer.ExecResult
	err := e.do(ctx, sandboxer.OpExec, t, func(hit) (err error) {
		res, err = e.exec(ctx, t, req)
		return err
	})
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	return res, nil
}

func (e *extension) exec(ctx context.Context, t sandboxer.Target, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if len(req.Command) == 0 {
		return sandboxer.ExecResult{}, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the command is empty"))
	}
	w, err := e.world(ctx, t)
	if err != nil {
		return sandboxer.ExecResult{}, err
	}
	if f := e.b.onExec.Load(); f != nil {
		return (*f)(ctx, t.Handle.Ref().ID, req)
	}
	return e.run(ctx, w, req)
}

func (e *extension) run(_ context.Context, _ *world, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	switch req.Command[0] {
	case "true":
		return sandboxer.ExecResult{}, nil
	case "false":
		return sandboxer.ExecResult{ExitCode: 1}, nil
	case "echo":
		if req.Stdout != nil {
			if _, err := fmt.Fprintln(req.Stdout, strings.Join(req.Command[1:], " ")); err != nil {
				return sandboxer.ExecResult{}, err
			}
		}
		return sandboxer.ExecResult{}, nil
	}
	return sandboxer.ExecResult{ExitCode: 127}, nil
}
