package store

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
)

// Exclusive is a Claimer for stores to embed that one process uses at a time.
type Exclusive struct{ held atomic.Bool }

// Claim is FailedPrecondition until whoever claimed the store before has called release.
func (e *Exclusive) Claim() (release func(), err error) {
	if !e.held.CompareAndSwap(false, true) {
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("this store has a Manager already; use that one, or close it first"))
	}
	return sync.OnceFunc(func() { e.held.Store(false) }), nil
}
