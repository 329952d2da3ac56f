package sandboxer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code says what went wrong. Act on it with errors.Is:
//
//	if errors.Is(err, sandboxer.ResourceExhausted) { … }
//
// A code never says whether something was created: see [Refused].
type Code string

// The codes. Their text is stable and appears in statuses, events and meter records.
const (
	// InvalidArgument: the request is wrong and stays wrong however often it is sent.
	InvalidArgument Code = "invalid_argument"
	// NotFound: the thing does not exist. Under another payer's key it says nothing.
	NotFound Code = "not_found"
	// AlreadyExists: the name is taken by something else.
	AlreadyExists Code = "already_exists"
	// FailedPrecondition: the state of the thing forbids the call; change the state first.
	FailedPrecondition Code = "failed_precondition"
	// PermissionDenied: the caller is known and may not do this.
	PermissionDenied Code = "permission_denied"
	// Unauthenticated: a credential is missing, malformed, expired or revoked.
	Unauthenticated Code = "unauthenticated"
	// ResourceExhausted: a host is full, a quota or a rate limit is reached.
	ResourceExhausted Code = "resource_exhausted"
	// BudgetExceeded: it would cost more than was allowed.
	BudgetExceeded Code = "budget_exceeded"
	// Unavailable: the backend cannot be reached or cannot serve now.
	Unavailable Code = "unavailable"
	// Unsupported: the extension cannot do this at all. It also Is [errors.ErrUnsupported].
	Unsupported Code = "unsupported"
	// Aborted: another call got in the way; trying again may succeed.
	Aborted Code = "aborted"
	// Canceled: the caller gave up. It also Is [context.Canceled].
	Canceled Code = "canceled"
	// DeadlineExceeded: time ran out. It also Is [context.DeadlineExceeded].
	DeadlineExceeded Code = "deadline_exceeded"
	// Internal: a defect of this library, an adapter or a backend.
	Internal Code = "internal"
	// Unknown: the outcome is not known.
	Unknown Code = "unknown"
)

// Error returns the code's text; a Code is an error, so that errors.Is can be asked for it.
func (c Code) Error() string { return string(c) }

// Is makes the codes that have a counterpart in the standard library match it.
func (c Code) Is(target error) bool {
	switch c {
	case Unsupported:
		return target == errors.ErrUnsupported
	case Canceled:
		return target == context.Canceled
	case DeadlineExceeded:
		return target == context.DeadlineExceeded
	default:
		return false
	}
}

// Error is what every call of the Manager and of a Sandbox fails with: what was tried, on which sandbox, where, and why.
type Error struct {
	Op        string // "create", "exec", …
	Extension string
	Host      string
	ID        ID
	Code      Code
	// NothingDone reports that the backend is known to have refused: nothing was created or changed.
	NothingDone bool
	// RetryAfter is how long to wait before trying again; 0 where nobody said.
	RetryAfter time.Duration
	Err        error
}

// Error reads "sandboxer: create sbx-… at ext.e2b on build-1: resource_exhausted: …".
func (e *Error) Error() string {
	head := "sandboxer:"
	if e.Op != "" {
		head += " " + e.Op
	}
	if e.ID != "" {
		head += " " + string(e.ID)
	}
	if e.Extension != "" {
		head += " at " + e.Extension
	}
	if e.Host != "" {
		head += " on " + e.Host
	}
	code := e.Code
	if code == "" && e.Err == nil {
		code = Unknown
	}
	return strings.TrimSuffix(head, ":") + ": " + withCode(code, e.Err)
}

// withCode is err's message, led by the code unless it begins with that already.
func withCode(code Code, err error) string {
	if err == nil {
		return string(code)
	}
	msg := err.Error()
	if code == "" || msg == string(code) || strings.HasPrefix(msg, string(code)+": ") {
		return msg
	}
	return string(code) + ": " + msg
}

// Unwrap returns Err. Where Err carries another code than Code, that one is hidden, as [Mark] does.
func (e *Error) Unwrap() error {
	if e.Code == "" || outermost(e.Err) == nil || CodeOf(e.Err) == e.Code {
		return e.Err
	}
	return &uncoded{e.Err}
}

// uncoded is an error without its codes; everything else that errors.Is and errors.As find in it stays visible.
type uncoded struct{ err error }

func (u *uncoded) Error() string { return u.err.Error() }

func (u *uncoded) Is(target error) bool {
	_, isCode := target.(Code)
	return !isCode && errors.Is(u.err, target)
}

func (u *uncoded) As(target any) bool {
	_, isCode := target.(*Code)
	return !isCode && errors.As(u.err, target)
}

// Is matches the error's code.
func (e *Error) Is(target error) bool {
	if c, ok := target.(Code); ok {
		return e.Code == c
	}
	return e.Code.Is(target)
}

// marked carries a code. The codes of what it wraps are hidden on purpose: an adapter that re-classifies an error must not
// be contradicted by the error underneath. Everything else that errors.Is and errors.As find below stays visible.
type marked struct {
	code    Code
	refused bool
	err     error
}

func (m *marked) Error() string { return withCode(m.code, m.err) }

func (m *marked) Is(target error) bool {
	if c, ok := target.(Code); ok {
		return m.code == c
	}
	return m.code.Is(target) || errors.Is(m.err, target)
}

func (m *marked) As(target any) bool {
	if t, ok := target.(**Error); ok {
		// The mark decides code and refusal; the hint of what it wraps is kept.
		*t = &Error{Code: m.code, NothingDone: m.refused, RetryAfter: RetryAfterOf(m.err), Err: m.err}
		return true
	}
	if _, ok := target.(*Code); ok {
		return false
	}
	return m.err != nil && errors.As(m.err, target)
}

// Mark classifies err where an adapter returns it. The message stays err's, led by the code. Mark(code, nil) is nil, so
// that a result can be marked as it is returned. The outcome of the call stays unknown: see [Refused].
func Mark(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &marked{code: orUnknown(code), err: err}
}

// Refused is [Mark] for a call that is known to have created and changed nothing: the request never left, or the backend
// said no. Only this allows a blind retry or a fall-back. Beside a [Handle] with state it is void.
func Refused(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &marked{code: orUnknown(code), refused: true, err: err}
}

func orUnknown(code Code) Code {
	if code == "" {
		return Unknown
	}
	return code
}

// CodeOf returns the outermost code of err: "" for nil, and [Unknown] for an error that nobody classified.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	switch m := outermost(err).(type) {
	case *Error:
		if m.Code == "" && m.Err != nil {
			return CodeOf(m.Err)
		}
		return orUnknown(m.Code)
	case *marked:
		return m.code
	case Code:
		return m
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, errors.ErrUnsupported):
		return Unsupported
	}
	return Unknown
}

// IsRefused reports whether err says that the backend refused and nothing was done.
func IsRefused(err error) bool {
	switch m := outermost(err).(type) {
	case *Error:
		return m.NothingDone
	case *marked:
		return m.refused
	}
	return false
}

// RetryAfterOf returns how long the backend asked to wait, or 0 where it did not say.
func RetryAfterOf(err error) time.Duration {
	for err != nil {
		switch m := outermost(err).(type) {
		case *Error:
			if m.RetryAfter > 0 {
				return m.RetryAfter
			}
			err = m.Err
		case *marked:
			err = m.err
		default:
			return 0
		}
	}
	return 0
}

// outermost finds the first classified error of the tree, in the order of errors.As; nil where nobody classified one.
func outermost(err error) error {
	for err != nil {
		switch e := err.(type) {
		case *Error, *marked, Code:
			return e
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, sub := range u.Unwrap() {
				if found := outermost(sub); found != nil {
					return found
				}
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// OrphanError says that a creation failed and so did its clean-up; something may still exist and cost money. The Manager
// keeps trying to remove it; SandboxStatus shows the tries.
type OrphanError struct {
	Handle  Handle
	Cause   error // why the creation failed
	Cleanup error // why the clean-up failed
}

func (e *OrphanError) Error() string {
	return fmt.Sprintf("%v; and its clean-up failed, so %s may still exist and cost money (removal is tried again until it succeeds): %v",
		e.Cause, e.Handle.Ref().Name(), e.Cleanup)
}

// Unwrap returns Cause: the code of the failure is the code of what went wrong first.
func (e *OrphanError) Unwrap() error { return e.Cause }
