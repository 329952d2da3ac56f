package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/secrets"
)

// counting hands out a new version whenever rotate was called, and counts.
type counting struct {
	calls, generation atomic.Int64
	slow              time.Duration
	err               error
}

func (s *counting) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	s.calls.Add(1)
	return sandboxer.Payer{}, nil
}

func (s *counting) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	s.calls.Add(1)
	if s.slow > 0 {
		<-time.After(s.slow)
	}
	v := fmt.Sprint("v", s.generation.Load())
	return sandboxer.NewSecret([]byte(v), v), s.err
}

func TestCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &counting{}
		s := secrets.Cached(src, 10*time.Second)
		get := func(ctx context.Context, p sandboxer.Payer) string {
			secret, err := s.Secret(ctx, ref, p)
			if err != nil {
				t.Fatal(err)
			}
			return secret.Version()
		}
		get(t.Context(), sandboxer.Payer{})
		get(t.Context(), sandboxer.Payer{})
		get(t.Context(), sandboxer.Payer{Tenant: "acme"})
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d fetches for two payers, want 2", n)
		}
		src.generation.Add(1)
		if got := get(t.Context(), sandboxer.Payer{}); got != "v0" {
			t.Errorf("within the lifetime: %s", got)
		}
		if got := get(sandboxer.WithRefusedKey(t.Context(), sandboxer.NewSecret(nil, "v0")), sandboxer.Payer{}); got != "v1" {
			t.Errorf("after the backend refused v0: %s", got)
		}
		before := src.calls.Load()
		if got := get(sandboxer.WithRefusedKey(t.Context(), sandboxer.NewSecret(nil, "v0")), sandboxer.Payer{}); got != "v1" || src.calls.Load() != before {
			t.Errorf("a second caller that was refused with v0: %s, %d fetches", got, src.calls.Load()-before)
		}
		src.generation.Add(1)
		time.Sleep(10 * time.Second) //nolint:forbidigo // synctest: no real time passes
		if got := get(t.Context(), sandboxer.Payer{}); got != "v2" {
			t.Errorf("after the lifetime: %s", got)
		}
		src.err = sandboxer.Refused(sandboxer.Unavailable, errors.New("sealed"))
		for range 2 {
			before = src.calls.Load()
			if _, err := s.Secret(t.Context(), "other", sandboxer.Payer{}); !errors.Is(err, sandboxer.Unavailable) || src.calls.Load() != before+1 {
				t.Errorf("a failure was kept: %v", err)
			}
		}
		if _, err := s.Payer(t.Context(), ref, sandboxer.Consumer{}); err != nil || src.calls.Load() != before+2 {
			t.Error("who pays was not asked of the source")
		}
	})
}

func TestCachedFetchesOnceForManyAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &counting{slow: time.Minute}
		s := secrets.Cached(src, time.Hour)
		errs := make(chan error)
		for i := range 8 {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*20*time.Second)
				defer cancel()
				_, err := s.Secret(ctx, ref, sandboxer.Payer{})
				errs <- err
			}()
		}
		failed := 0
		for range 8 {
			if err := <-errs; errors.Is(err, sandboxer.DeadlineExceeded) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if failed == 0 {
			t.Error("no waiting caller ended with its context")
		}
	})
}

func TestCachedWithoutLifetimeIsTheSource(t *testing.T) {
	t.Parallel()
	src := &counting{}
	if got := secrets.Cached(src, 0); got != sandboxer.SecretSource(src) {
		t.Errorf("got %T", got)
	}
}
