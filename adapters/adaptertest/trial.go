package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// check is one rule and how it is tried.
type check struct {
	name  string                 // "group/rule": stable, because Config.Skip names it
	rule  string                 // what the contract says
	why   string                 // what goes wrong in the world where it is broken
	needs []sandboxer.Capability // without all of these it is not run
	when  func(*suite) bool      // nil: always
	bare  bool                   // tried before there is a Manager
	alone bool                   // not beside others
	run   func(*trial)
}

func (c check) applies(s *suite) bool {
	for _, need := range c.needs {
		if !slices.Contains(s.caps, need) {
			return false
		}
	}
	return c.when == nil || c.when(s)
}

// checks returns all of them, group by group.
func checks() []check {
	return slices.Concat(
		capabilityChecks(), provisionChecks(), readyChecks(), teardownChecks(), handleChecks(), inputChecks(), lostChecks(),
		foreignChecks(), lookupChecks(), cancelChecks(), lifetimeChecks(), pauseChecks(), meterChecks(),
		execChecks(), argumentChecks(), streamChecks(), killChecks(), fileChecks(), linkChecks(), syncChecks(), worldChecks(),
		dialChecks(), snapshotChecks(), transferChecks(), secretChecks(),
	)
}

// trial is one check under way.
type trial struct {
	testing.TB
	s     *suite
	check check
}

// broken ends the trial: the rule does not hold.
func (t *trial) broken(format string, args ...any) {
	t.Helper()
	t.Fatalf("%s\n\trule: %s\n\twhy:  %s", fmt.Sprintf(format, args...), t.check.rule, t.check.why)
}

// ok ends the trial unless err is nil.
func (t *trial) ok(what string, err error) {
	t.Helper()
	if err != nil {
		t.broken("%s failed: %v", what, err)
	}
}

// code ends the trial unless err carries one of the codes.
func (t *trial) code(what string, err error, want ...sandboxer.Code) {
	t.Helper()
	if err == nil {
		t.broken("%s succeeded instead of failing with %s", what, either(want))
	}
	if got := sandboxer.CodeOf(err); !slices.Contains(want, got) {
		t.broken("%s failed with code %q instead of %s: %v", what, got, either(want), err)
	}
}

func either(codes []sandboxer.Code) string {
	out := ""
	for i, c := range codes {
		switch {
		case i == 0:
		case i == len(codes)-1:
			out += " or "
		default:
			out += ", "
		}
		out += string(c)
	}
	return out
}

// grace is how much longer than its context a call may take to return.
func (t *trial) grace() time.Duration { return max(t.s.cfg.Within/4, 2*time.Second) }

// do makes one call, bounded by Config.Within, and ends the trial if it does not return when its context has ended. What
// the call says is kept for the search for secrets.
func do[R any](t *trial, what string, f func(context.Context) (R, error)) (R, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), t.s.cfg.Within)
	defer cancel()
	return doCtx(ctx, t, what, f)
}

// doCtx is do under a context that the trial ends itself.
func doCtx[R any](ctx context.Context, t *trial, what string, f func(context.Context) (R, error)) (R, error) {
	t.Helper()
	type reply struct {
		r   R
		err error
	}
	replies := make(chan reply, 1)
	go func() {
		r, err := f(ctx)
		replies <- reply{r, err}
	}()
	// Bounded from its start, whoever ends ctx: a trial that forgets to would hang here for ever.
	limit := time.NewTimer(t.s.cfg.Within + t.grace())
	defer limit.Stop()
	var late <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case got := <-replies:
			t.s.note(what, got.err)
			t.s.note(what, got.r)
			return got.r, got.err
		case <-done:
			done = nil
			timer := time.NewTimer(t.grace())
			defer timer.Stop()
			late = timer.C
		case <-late:
			t.broken("%s had not returned %v after its context ended (invariant: every wait ends with its context)", what, t.grace())
		case <-limit.C:
			t.broken("%s had not returned after %v (invariant: nothing hangs)", what, t.s.cfg.Within+t.grace())
		}
	}
}

// none is the result of a call that has only an error.
type none struct{}

func only(f func(context.Context) error) func(context.Context) (none, error) {
	return func(ctx context.Context) (none, error) { return none{}, f(ctx) }
}

// certain repeats a call for as long as its outcome is only known later: a backend whose listings lag answers Unknown.
func (t *trial) certain(call func() error) (err error) {
	t.poll(func() bool {
		err = call()
		return !errors.Is(err, sandboxer.Unknown)
	})
	return err
}

// poll asks until yes says so, and reports whether it did within Config.Within.
func (t *trial) poll(yes func() bool) bool {
	deadline := time.Now().Add(t.s.cfg.Within)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if yes() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(wait)
	}
}
