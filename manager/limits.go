package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// errLimit ends a call that had the time that the configuration gives it.
var errLimit = sandboxer.Mark(sandboxer.DeadlineExceeded, errors.New("the limit of its Config has passed"))

// limit is how long a call of op may take, whatever its caller's context says, and which field of Config decides that. 0: as
// long as its caller waits, because it moves as much as there is, or has a limit of its own.
func (c *Config) limit(op sandboxer.Op) (most time.Duration, field string) {
	switch op {
	case sandboxer.OpExec, sandboxer.OpCopyIn, sandboxer.OpCopyOut, sandboxer.OpSync, sandboxer.OpSnapshot, sandboxer.OpExportSnapshot, sandboxer.OpImportSnapshot:
		return 0, ""
	case sandboxer.OpWaitReady, sandboxer.OpList, sandboxer.OpListSnapshots:
		return 0, "" // see waitReady and listTimeout
	case sandboxer.OpProvision, sandboxer.OpRestore, sandboxer.OpPause, sandboxer.OpResume:
		return c.ProvisionTimeout, "ProvisionTimeout"
	case sandboxer.OpTeardown, sandboxer.OpDeleteSnapshot:
		return c.TeardownTimeout, "TeardownTimeout"
	}
	return c.CallTimeout, "CallTimeout"
}

// limit puts the limit of op around f.
func (m *Manager) limit(op sandboxer.Op, f func(context.Context) error) func(context.Context) error {
	most, field := m.cfg.limit(op)
	if most == 0 {
		return f
	}
	return func(ctx context.Context) error { return within(ctx, string(op), most, field, f) }
}

// within runs f for at most so long, and then says what to do where that was not enough.
func within(ctx context.Context, what string, most time.Duration, field string, f func(context.Context) error) error {
	if by, ok := ctx.Deadline(); most <= 0 || (ok && time.Until(by) < most) {
		return f(ctx)
	}
	ctx, cancel := withTimeoutCause(ctx, most, errLimit)
	defer cancel()
	err := f(ctx)
	if err == nil || ctx.Err() == nil || !errors.Is(context.Cause(ctx), errLimit) {
		return err
	}
	late := fmt.Errorf("%s had no answer within %v; raise Config.%s if it needs longer: %w", what, most, field, err)
	if sandboxer.IsRefused(err) {
		return sandboxer.Refused(sandboxer.DeadlineExceeded, late)
	}
	return sandboxer.Mark(sandboxer.DeadlineExceeded, late)
}
