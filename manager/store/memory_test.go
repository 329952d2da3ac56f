package store_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/manager/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store { return store.Memory() })
}

// TestReleaseTwice: whoever gave a store free does not take it away from the next by giving it free again.
func TestReleaseTwice(t *testing.T) {
	t.Parallel()
	var e store.Exclusive
	first, err := e.Claim()
	if err != nil {
		t.Fatal(err)
	}
	first()
	if _, err := e.Claim(); err != nil {
		t.Fatal(err)
	}
	first()
	if _, err := e.Claim(); !errors.Is(err, sandboxer.FailedPrecondition) || !sandboxer.IsRefused(err) {
		t.Errorf("a store that is claimed was claimed: %v", err)
	}
}
