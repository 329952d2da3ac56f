package manager

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlineIsOneOfPackageContext: whatever is asked of it, it answers as package context would. Only where its time passes,
// then its parent ends, and nobody has asked in between does it say the parent's reason and not its own.
func TestDeadlineIsOneOfPackageContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	late, gone := errors.New("late"), errors.New("gone")
	makers := map[string]func(context.Context, time.Duration, error) (context.Context, context.CancelFunc){
		"ours": withTimeoutCause, "package context": context.WithTimeoutCause,
	}
	for name, ask := range map[string]func(ctx context.Context) any{
		"Err":              func(ctx context.Context) any { return ctx.Err() },
		"Cause after Err":  func(ctx context.Context) any { _ = ctx.Err(); return context.Cause(ctx) },
		"Done":             func(ctx context.Context) any { return ended(ctx) },
		"Cause after Done": func(ctx context.Context) any { return []any{ended(ctx), context.Cause(ctx)} },
		"a child": func(ctx context.Context) any {
			c, stop := context.WithCancel(ctx)
			defer stop()
			return []any{ended(c), c.Err(), context.Cause(c)}
		},
		"a child of a child": func(ctx context.Context) any {
			c, stop := context.WithCancel(context.WithValue(ctx, key{}, 1))
			defer stop()
			return []any{ended(c), context.Cause(c)}
		},
		"without cancel": func(ctx context.Context) any { c := context.WithoutCancel(ctx); return []any{c.Err(), c.Value(key{})} },
		"Value":          func(ctx context.Context) any { return ctx.Value(key{}) },
		"Deadline": func(ctx context.Context) any {
			by, ok := ctx.Deadline()
			return []any{time.Until(by), ok}
		},
	} {
		for when, do := range map[string]func(stop context.CancelFunc, parent context.CancelCauseFunc){
			"at once":                      func(context.CancelFunc, context.CancelCauseFunc) {},
			"past its end":                 func(context.CancelFunc, context.CancelCauseFunc) { <-time.After(2 * time.Second) },
			"cancelled":                    func(stop context.CancelFunc, _ context.CancelCauseFunc) { stop() },
			"cancelled, and past its end":  func(stop context.CancelFunc, _ context.CancelCauseFunc) { stop(); <-time.After(2 * time.Second) },
			"its parent cancelled":         func(_ context.CancelFunc, parent context.CancelCauseFunc) { parent(gone) },
			"its parent cancelled, and it": func(stop context.CancelFunc, parent context.CancelCauseFunc) { parent(gone); stop() },
		} {
			for _, before := range []bool{false, true} { // it was waited for from the beginning
				synctest.Test(t, func(t *testing.T) {
					answers := map[string]any{}
					for who, with := range makers {
						root, parent := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
						ctx, stop := with(root, time.Second, late)
						if before {
							_ = ctx.Done()
						}
						do(stop, parent)
						synctest.Wait()
						answers[who] = ask(ctx)
						stop()
						parent(nil)
					}
					if !equal(answers["ours"], answers["package context"]) {
						t.Errorf("%s, %s (waited for: %t): %v instead of %v", name, when, before, answers["ours"], answers["package context"])
					}
				})
			}
		}
	}
}

func ended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func equal(a, b any) bool {
	as, ok := a.([]any)
	bs, _ := b.([]any)
	if !ok {
		return a == b
	}
	for i := range as {
		if as[i] != bs[i] {
			return false
		}
	}
	return len(as) == len(bs)
}
