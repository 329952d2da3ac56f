package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/sand-boxer/sandboxer"
)

// EntryError names the entry of a stream, or the file of a tree, that a call failed at. The code of Err is its code.
type EntryError struct {
	Name string // as the stream or the tree spells it
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("%q: %v", clip(e.Name), e.Err) }

// Unwrap returns Err.
func (e *EntryError) Unwrap() error { return e.Err }

// clip keeps a message readable when a hostile stream names its entries.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// entryError classifies err and says at which entry it happened. It is nil for nil.
func entryError(name string, err error) error {
	if err == nil {
		return nil
	}
	return &EntryError{Name: name, Err: classify(err)}
}

// refuse is an entry that is wrong however often it is sent.
func refuse(name, format string, args ...any) error {
	return &EntryError{Name: name, Err: sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf(format, args...))}
}

// classify gives an error of the operating system its code; an error that has one keeps it.
func classify(err error) error {
	var coded sandboxer.Code
	switch {
	case err == nil, errors.As(err, &coded), sandboxer.CodeOf(err) != sandboxer.Unknown:
		return err
	case errors.Is(err, context.Canceled):
		return sandboxer.Mark(sandboxer.Canceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return sandboxer.Mark(sandboxer.DeadlineExceeded, err)
	case isFull(err):
		return sandboxer.Mark(sandboxer.ResourceExhausted, err)
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Mark(sandboxer.NotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return sandboxer.Mark(sandboxer.PermissionDenied, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return sandboxer.Mark(sandboxer.Unavailable, err)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, fs.ErrInvalid):
		return sandboxer.Mark(sandboxer.InvalidArgument, err)
	}
	return err
}
