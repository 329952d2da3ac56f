package boltstore

import (
	"errors"
	"fmt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func errClosed() error {
	return sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("it is closed"))
}

// damaged is an error about the file's content: trying again does not help.
func damaged(format string, args ...any) error {
	return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the file is damaged: "+format+"; restore it from a copy", args...))
}

func damagedRecord(k store.Key, err error) error { return damaged("record %s: %w", k, err) }
