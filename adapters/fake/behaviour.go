package fake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Behaviour is what a backend is like, within the rules: slow, small, strict. The zero value is quick and generous.
type Behaviour struct {
	// ReadyAfter is how long after its creation a sandbox becomes usable.
	ReadyAfter time.Duration
	// ListLag is how long after its creation a sandbox is missing from List and from Find. Find then answers Unknown with
	// RetryAfter as long as the lag lasts, and so does the Teardown of a handle without state that is not visible yet.
	ListLag time.Duration
	// Unlisted leaves sandboxes out of List, for ever and without an error. Find sees them.
	Unlisted func(name string) bool
	// MaxLifetime caps the native lifetime: less than asked for is granted, and something where no end was asked for.
	MaxLifetime time.Duration
	// ExpiryMargin is how much longer than asked for a sandbox is granted.
	ExpiryMargin time.Duration
	// Capacity is how many sandboxes an extension may have on one host; more are refused as ResourceExhausted. 0: no limit.
	Capacity int
	// Credential is the key that every call needs. What was made with one version of it is invisible with another
	// ("not found", as real services say), and a revoked one is Unauthenticated. Empty: no key.
	Credential sandboxer.SecretRef
	// Checkpoint makes Provision and Restore store their handle in a first step, as creations in several steps do.
	Checkpoint bool
}

// Behave replaces the behaviour, for calls that begin from now on.
func (b *Backend) Behave(x Behaviour) { b.behaviour.Store(&x) }

// Revoke makes a version of the key useless: calls with it are Unauthenticated.
func (b *Backend) Revoke(version string) { b.revoked.Store(version, true) }

// authorize fetches the key that the behaviour asks for and returns its version.
func (e *extension) authorize(ctx context.Context, secret sandboxer.SecretFunc) (string, error) {
	ref := e.b.behaviour.Load().Credential
	if ref == "" {
		return "", nil
	}
	if secret == nil {
		return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("%s needs the key %s, and no source of secrets came with the call", e.id, ref))
	}
	s, err := secret(ctx, ref)
	if err != nil {
		return "", err
	}
	if e.b.broken(ErrorHoldsSecret) {
		value := string(s.Reveal())
		e.secret.Store(&value)
	}
	if len(s.Reveal()) == 0 {
		return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key %s of %s is empty", ref, e.id))
	}
	if _, gone := e.b.revoked.Load(s.Version()); gone {
		if e.b.broken(ErrorHoldsSecret) {
			return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key %s of %s was revoked: %s", ref, e.id, s.Reveal()))
		}
		return "", sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key %s (version %s) of %s was revoked; set a valid one", ref, s.Version(), e.id))
	}
	return s.Version(), nil
}

// capacityLeft refuses one more sandbox where the extension is full. The caller holds b.capacity until it has added its own.
func (b *Backend) capacityLeft(k key, limit int, now int64) error {
	n := 0
	b.each(now, func(s *sandbox) {
		if s.key.extension == k.extension && s.key.host == k.host && s.key.name != k.name {
			n++
		}
	})
	if n < limit {
		return nil
	}
	return sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("%s holds %d sandboxes and takes no more; tear one down", where(k), n))
}

func where(k key) string {
	if k.host == "" {
		return k.extension
	}
	return k.extension + " on " + k.host
}

// wait blocks for d unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended classifies the end of a context.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return sandboxer.Mark(sandboxer.DeadlineExceeded, context.Cause(ctx))
	}
	return sandboxer.Mark(sandboxer.Canceled, context.Cause(ctx))
}
