package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// remove takes attempt a away: it stores that it is going to, tears it down, makes sure that it is gone, and reads what it
// cost. It returns what closes the attempt, for the caller's next commit. On an error the record says orphaned, and another
// try is scheduled. ctx is one for clean-up: detached from the caller's, and bounded.
func (m *Manager) remove(ctx context.Context, r *record, a *attempt, cause error) ([]store.Mutation, error) {
	r.State = sandboxer.StateTearingDown
	if cause != nil {
		r.CauseCode, r.Cause = sandboxer.CodeOf(cause), cause.Error()
		r.Code, r.Reason = r.CauseCode, r.Cause
	}
	if err := m.save(ctx, "T1", r); err != nil {
		if sandboxer.CodeOf(err) == sandboxer.Aborted && len(r.doubts) == 0 {
			return nil, errRaced
		}
		// The intent stands in the store as it was; removing can only stop spending.
		m.rememberDoom(string(r.ID), doom{cause: because{r.CauseCode, r.Cause}, never: r.ReadyAt.IsZero()})
		m.cfg.Logger.ErrorContext(ctx, "the store does not take that a sandbox is torn down", "sandbox", r.ID, "consumer", r.Asked.Consumer.ID, "error", err)
	}
	m.endUses(r.ID)
	rep, reading, err := m.tearDown(ctx, r, a)
	if len(rep.Removed)+len(rep.Left) > 0 {
		r.Cleanup = &rep
	}
	if err != nil && m.deadlinePassed(r) {
		m.cfg.Logger.WarnContext(ctx, "a sandbox is given up: the backend's own deadline has passed", "sandbox", r.ID, "consumer", r.Asked.Consumer.ID, "error", err)
		err = nil
	}
	if err != nil {
		return nil, m.orphan(ctx, r, err)
	}
	r.Tries, r.NextTry = 0, time.Time{}
	switch there := a.Handle.HasState() || len(rep.Removed) > 0; {
	case there && reading == nil:
		reading = m.estimated(ctx, r, a, now()) // its backend has forgotten it
	case !there && reading != nil && reading.From.IsZero() && reading.Total.Nanos() == 0:
		reading = nil // which says that it never was
	}
	bill, err := m.bill(ctx, r, a, reading)
	if err != nil {
		return nil, m.orphan(ctx, r, err)
	}
	return append(releasePlace(a), bill...), nil
}

// clockSkew is how far the clocks of this machine and a backend may differ.
const clockSkew = 10 * time.Minute

// deadlinePassed reports whether the backend has, by its own word, ended the sandbox by itself.
func (m *Manager) deadlinePassed(r *record) bool {
	end := m.ownEnd(r)
	return !end.IsZero() && now().After(end.Add(clockSkew))
}

// orphan stores that a removal failed and when it is tried again.
func (m *Manager) orphan(ctx context.Context, r *record, err error) error {
	r.State = sandboxer.StateOrphaned
	r.Tries++
	wait := jittered(retryBase<<min(r.Tries-1, 20), retryMost)/2 + min(retryBase<<min(r.Tries-1, 20), retryMost)/2
	r.NextTry = now().Add(max(wait, putOff(err)))
	r.Reason = fmt.Sprintf("removal failed %d times, and is tried again: %v", r.Tries, err)
	if saveErr := m.save(ctx, "O", r); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return err
}

const (
	retryBase = 2 * time.Second
	retryMost = 10 * time.Minute
	retryHint = time.Hour // where the backend says when
)

// putOff is how long the next try of a removal waits by the word of the backend. Believed without bounds, one such word would
// be the end of the removal.
func putOff(err error) time.Duration { return min(sandboxer.RetryAfterOf(err), retryHint) }

// tearDown calls the extension and believes it only where it cannot look.
func (m *Manager) tearDown(ctx context.Context, r *record, a *attempt) (sandboxer.CleanupReport, *sandboxer.MeterReading, error) {
	var rep sandboxer.CleanupReport
	x, err := m.extension(a.Extension)
	if err != nil {
		return rep, nil, err
	}
	host, err := m.host(a.Host)
	if err != nil {
		return rep, nil, err
	}
	keys := m.watchKey(a.Extension, a.Payer)
	target := m.target(r, a, host, keys)
	before := m.lastReading(ctx, x, r, a, target)
	err = m.call(ctx, callOf(sandboxer.OpTeardown, r, a), func(ctx context.Context) (err error) {
		rep, err = x.ext.Teardown(ctx, target)
		return err
	})
	if err != nil {
		return rep, nil, err
	}
	if len(rep.Left) > 0 {
		return rep, nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("left behind: %s", strings.Join(rep.Left, ", ")))
	}
	if err := m.verifyGone(ctx, x, r, a, host, keys); err != nil {
		return rep, nil, err
	}
	if keys.usedForeignKey() && len(rep.Removed) == 0 {
		return rep, nil, sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("not visible with the key in use now, which is not %q that it was bought with; restore that key, or wait until the backend's own deadline has passed", a.Payer.Key))
	}
	reading, err := m.readMeter(ctx, x, r, a, target)
	if err != nil {
		return rep, nil, fmt.Errorf("it is removed, but what it cost cannot be read: %w", err)
	}
	if before != nil && (reading == nil || fell(before.Total, reading.Total)) { // the backend forgets what is gone
		reading = before
		reading.Estimated = true // what came behind it is missing
	}
	return rep, reading, nil
}

// fell reports whether a cumulative total is below one that was read before.
func fell(before, now sandboxer.Money) bool {
	c, err := now.Cmp(before)
	return err == nil && c < 0
}

// lastReading is what is accounted for where the meter does not answer any more once attempt a is removed. It may not keep
// the removal waiting: what is not removed costs more.
func (m *Manager) lastReading(ctx context.Context, x *extension, r *record, a *attempt, t sandboxer.Target) *sandboxer.MeterReading {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.TeardownTimeout/4)
	defer cancel()
	reading, err := m.readMeter(ctx, x, r, a, t)
	if err != nil {
		return nil
	}
	return reading
}

// readMeter reads what attempt a has cost; nil where nobody bills or the backend knows of no such sandbox.
func (m *Manager) readMeter(ctx context.Context, x *extension, r *record, a *attempt, t sandboxer.Target) (*sandboxer.MeterReading, error) {
	meter, ok := sandboxer.As[sandboxer.Meterer](x.ext)
	if !ok {
		return nil, nil
	}
	var reading sandboxer.MeterReading
	var err error
	for tries := range 3 {
		err = m.call(ctx, callOf(sandboxer.OpMeterActual, r, a), func(ctx context.Context) (err error) {
			reading, err = meter.MeterActual(ctx, t)
			return err
		})
		if err == nil {
			return &reading, nil
		}
		if errors.Is(err, sandboxer.NotFound) {
			return nil, nil
		}
		if sleep(ctx, jittered(100*time.Millisecond<<tries, time.Second)) != nil {
			break
		}
	}
	return nil, err
}

// verifyGone looks whether attempt a still exists, where the extension can look.
func (m *Manager) verifyGone(ctx context.Context, x *extension, r *record, a *attempt, host sandboxer.Host, keys *keyWatch) error {
	inspector, ok := sandboxer.As[sandboxer.Inspector](x.ext)
	if finder, finds := sandboxer.As[sandboxer.Finder](x.ext); finds && (!ok || !a.Handle.HasState() || !a.Since.IsZero()) {
		return m.verifyAbsent(ctx, finder, x, r, a, host, keys)
	}
	if !ok || !a.Handle.HasState() {
		return nil
	}
	for tries := 0; ; tries++ {
		var in sandboxer.Instance
		err := m.call(ctx, callOf(sandboxer.OpInspect, r, a), func(ctx context.Context) (err error) {
			in, err = inspector.Inspect(ctx, m.target(r, a, host, keys))
			return err
		})
		switch {
		case errors.Is(err, sandboxer.NotFound), err == nil && (in.State == sandboxer.StateGone || in.State == sandboxer.StateFailed):
			return nil
		case err != nil && tries >= verifyTries:
			return fmt.Errorf("it was removed, but whether it is gone cannot be seen: %w", err)
		case tries >= verifyTries:
			return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s says that it was removed, and still shows it as %q", x.id, in.State))
		}
		if err := sleep(ctx, jittered(50*time.Millisecond<<tries, time.Second)); err != nil {
			return err
		}
	}
}

// verifyTries is how often a sandbox that should be gone is looked at again before its removal counts as failed.
const verifyTries = 4

// verifyAbsent makes sure that nothing has the name of attempt a: that a call whose reply was lost has made nothing, nor ever
// will, or that what was made is gone.
func (m *Manager) verifyAbsent(ctx context.Context, f sandboxer.Finder, x *extension, r *record, a *attempt, host sandboxer.Host, keys *keyWatch) error {
	for tries := range verifyTries {
		if tries > 0 {
			if err := sleep(ctx, jittered(50*time.Millisecond<<tries, time.Second)); err != nil {
				return err
			}
		}
		h, err := m.find(ctx, f, r, a, host, keys)
		if errors.Is(err, sandboxer.NotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("whether it exists cannot be known yet: %w", err)
		}
		a.Handle = h // it arrived late, or is there still
		err = m.call(ctx, callOf(sandboxer.OpTeardown, r, a), func(ctx context.Context) error {
			_, err := x.ext.Teardown(ctx, m.target(r, a, host, keys))
			return err
		})
		if err != nil {
			return err
		}
	}
	return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s says that %s was removed, and still finds it", x.id, a.Name))
}

// end removes the sandbox of r and stores its end. cause is nil where the record already says why.
func (m *Manager) end(ctx context.Context, r *record, cause error) error {
	a := r.current()
	muts, err := m.remove(ctx, r, a, cause)
	if err != nil {
		return err
	}
	return m.finish(ctx, r, a, muts)
}

// finish stores the end of a sandbox of which nothing is left.
func (m *Manager) finish(ctx context.Context, r *record, a *attempt, muts []store.Mutation) error {
	r.State = sandboxer.StateGone
	if r.ReadyAt.IsZero() && !r.Abandoned {
		r.State = sandboxer.StateFailed
	}
	r.Code, r.Reason, r.EndedAt = r.CauseCode, r.Cause, now()
	if a.EndedAt.IsZero() {
		a.EndedAt = r.EndedAt
		if r.State == sandboxer.StateFailed {
			a.Code, a.Reason = r.Code, r.Reason
		}
	}
	if err := m.save(ctx, "T2", r, muts...); err != nil {
		return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("nothing is left of it, but that could not be stored, and is tried again: %w", err))
	}
	return nil
}

// because is why a sandbox is removed: a sentence, and the code of what went wrong, if anything did.
type because struct {
	code     sandboxer.Code
	sentence string
}

func (b because) Error() string { return b.sentence }

// Unwrap makes the code visible to sandboxer.CodeOf.
func (b because) Unwrap() error { return b.code }
