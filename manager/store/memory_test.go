package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/manager/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store { return store.Memory() })
}
