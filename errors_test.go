package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func codes() []sandboxer.Code {
	return []sandboxer.Code{
		sandboxer.InvalidArgument, sandboxer.NotFound, sandboxer.AlreadyExists, sandboxer.FailedPrecondition,
		sandboxer.PermissionDenied, sandboxer.Unauthenticated, sandboxer.ResourceExhausted, sandboxer.BudgetExceeded,
		sandboxer.Unavailable, sandboxer.Unsupported, sandboxer.Aborted, sandboxer.Canceled, sandboxer.DeadlineExceeded,
		sandboxer.Internal, sandboxer.Unknown,
	}
}

// TestOneCode: however a code is put on an error, it is the one that everybody sees, and the only one.
func TestOneCode(t *testing.T) {
	t.Parallel()
	for _, c := range codes() {
		for _, inner := range codes() {
			hidden := fmt.Errorf("while waiting: %w", sandboxer.Mark(inner, io.ErrUnexpectedEOF))
			for how, err := range map[string]error{
				"Mark":           sandboxer.Mark(c, hidden),
				"Refused":        sandboxer.Refused(c, hidden),
				"Error":          &sandboxer.Error{Op: "create", Code: c, Err: hidden},
				"wrapped":        fmt.Errorf("outer: %w", sandboxer.Mark(c, hidden)),
				"joined":         errors.Join(nil, sandboxer.Mark(c, hidden)),
				"Error of Mark":  &sandboxer.Error{Code: c, Err: sandboxer.Mark(c, hidden)},
				"Mark of Error":  sandboxer.Mark(c, &sandboxer.Error{Code: inner, Err: io.ErrUnexpectedEOF}),
				"Mark of a code": sandboxer.Mark(c, fmt.Errorf("%w: %w", inner, io.ErrUnexpectedEOF)),
				"Orphan":         &sandboxer.OrphanError{Cause: sandboxer.Mark(c, io.ErrUnexpectedEOF), Cleanup: hidden},
			} {
				if got := sandboxer.CodeOf(err); got != c {
					t.Errorf("%s of %s over %s: CodeOf = %s", how, c, inner, got)
				}
				for _, asked := range codes() {
					if got := errors.Is(err, asked); got != (asked == c) {
						t.Errorf("%s of %s over %s: errors.Is(err, %s) = %v", how, c, inner, asked, got)
					}
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s of %s over %s hides what is no code", how, c, inner)
				}
			}
		}
	}
}

func TestCodesOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for code, std := range map[sandboxer.Code]error{
		sandboxer.Unsupported:      errors.ErrUnsupported,
		sandboxer.Canceled:         context.Canceled,
		sandboxer.DeadlineExceeded: context.DeadlineExceeded,
	} {
		for how, err := range map[string]error{
			"code": code, "Mark": sandboxer.Mark(code, io.EOF), "Error": &sandboxer.Error{Code: code, Err: io.EOF},
		} {
			if !errors.Is(err, std) {
				t.Errorf("%s of %s is not %v", how, code, std)
			}
		}
		if got := sandboxer.CodeOf(fmt.Errorf("x: %w", std)); got != code {
			t.Errorf("CodeOf(%v) = %s, want %s", std, got, code)
		}
		if err := sandboxer.Mark(sandboxer.Internal, io.EOF); errors.Is(err, std) {
			t.Errorf("Internal is %v", std)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want sandboxer.Code
	}{
		{nil, ""},
		{io.EOF, sandboxer.Unknown},
		{sandboxer.NotFound, sandboxer.NotFound},
		{fmt.Errorf("x: %w", sandboxer.NotFound), sandboxer.NotFound},
		{errors.Join(io.EOF, context.Canceled, sandboxer.Mark(sandboxer.Aborted, io.EOF)), sandboxer.Aborted},
		{errors.Join(sandboxer.Mark(sandboxer.NotFound, io.EOF), sandboxer.Mark(sandboxer.Aborted, io.EOF)), sandboxer.NotFound},
		{&sandboxer.Error{Err: sandboxer.Mark(sandboxer.Aborted, io.EOF)}, sandboxer.Aborted},
		{&sandboxer.Error{Err: context.Canceled}, sandboxer.Canceled},
		{&sandboxer.Error{Err: io.EOF}, sandboxer.Unknown},
		{&sandboxer.Error{}, sandboxer.Unknown},
		{sandboxer.Mark("", io.EOF), sandboxer.Unknown},
	} {
		if got := sandboxer.CodeOf(tc.err); got != tc.want {
			t.Errorf("CodeOf(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestMarkOfNilIsNil(t *testing.T) {
	t.Parallel()
	if sandboxer.Mark(sandboxer.NotFound, nil) != nil || sandboxer.Refused(sandboxer.NotFound, nil) != nil {
		t.Error("a result without an error was marked as one")
	}
}

func TestIsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"unmarked", io.EOF, false},
		{"Mark", sandboxer.Mark(sandboxer.Unavailable, io.EOF), false},
		{"Refused", sandboxer.Refused(sandboxer.Unavailable, io.EOF), true},
		{"wrapped", fmt.Errorf("x: %w", sandboxer.Refused(sandboxer.Unavailable, io.EOF)), true},
		{"Mark voids what is below", sandboxer.Mark(sandboxer.Internal, sandboxer.Refused(sandboxer.Unavailable, io.EOF)), false},
		{"Refused over Mark", sandboxer.Refused(sandboxer.Internal, sandboxer.Mark(sandboxer.Unavailable, io.EOF)), true},
		{"Error", &sandboxer.Error{Code: sandboxer.Aborted, Err: io.EOF}, false},
		{"Error that says so", &sandboxer.Error{Code: sandboxer.Aborted, NothingDone: true, Err: io.EOF}, true},
		{"Error over Refused", &sandboxer.Error{Code: sandboxer.Aborted, Err: sandboxer.Refused(sandboxer.Aborted, io.EOF)}, false},
		{"joined after something unknown", errors.Join(sandboxer.Mark(sandboxer.Internal, io.EOF), sandboxer.Refused(sandboxer.Aborted, io.EOF)), false},
	} {
		if got := sandboxer.IsRefused(tc.err); got != tc.want {
			t.Errorf("%s: IsRefused = %v", tc.name, got)
		}
	}
}

func TestRetryAfterOf(t *testing.T) {
	t.Parallel()
	hint := &sandboxer.Error{Code: sandboxer.ResourceExhausted, RetryAfter: 3 * time.Second, Err: io.EOF}
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"nil":             {nil, 0},
		"unmarked":        {io.EOF, 0},
		"Mark":            {sandboxer.Mark(sandboxer.Unavailable, io.EOF), 0},
		"Error":           {hint, 3 * time.Second},
		"marked":          {sandboxer.Refused(sandboxer.ResourceExhausted, hint), 3 * time.Second},
		"marked twice":    {sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("x: %w", sandboxer.Mark(sandboxer.Aborted, hint))), 3 * time.Second},
		"joined":          {errors.Join(io.EOF, hint), 3 * time.Second},
		"outermost wins":  {&sandboxer.Error{RetryAfter: time.Second, Err: hint}, time.Second},
		"below another":   {&sandboxer.Error{Err: hint}, 3 * time.Second},
		"only a code":     {sandboxer.Aborted, 0},
		"orphan":          {&sandboxer.OrphanError{Cause: hint, Cleanup: io.EOF}, 3 * time.Second},
		"orphan, cleanup": {&sandboxer.OrphanError{Cause: io.EOF, Cleanup: hint}, 0},
	} {
		if got := sandboxer.RetryAfterOf(tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestErrorsAs: a mark answers for *Error, with the hint of what it covers, and lets through what is not its own.
func TestErrorsAs(t *testing.T) {
	t.Parallel()
	hint := &sandboxer.Error{Op: "find", Code: sandboxer.NotFound, RetryAfter: 3 * time.Second, Err: &net.OpError{Op: "dial", Err: io.EOF}}
	err := fmt.Errorf("x: %w", sandboxer.Refused(sandboxer.Unavailable, hint))

	var e *sandboxer.Error
	if !errors.As(err, &e) || e.Code != sandboxer.Unavailable || !e.NothingDone || e.RetryAfter != 3*time.Second {
		t.Errorf("errors.As(*Error) = %+v", e)
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("errors.As(*net.OpError) = %v", op)
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		t.Error("found a *fs.PathError where there is none")
	}
	var code sandboxer.Code
	if errors.As(sandboxer.Mark(sandboxer.Aborted, sandboxer.NotFound), &code) {
		t.Errorf("errors.As(Code) = %s: it contradicts the mark", code)
	}
	var orphan *sandboxer.OrphanError
	if !errors.As(sandboxer.Mark(sandboxer.Internal, &sandboxer.OrphanError{Cause: io.EOF, Cleanup: io.EOF}), &orphan) {
		t.Error("a mark hides an *OrphanError")
	}
	if !errors.As(error(&sandboxer.Error{Code: sandboxer.Internal, Err: &sandboxer.OrphanError{Cause: sandboxer.NotFound, Cleanup: io.EOF}}), &orphan) {
		t.Error("an *Error hides an *OrphanError")
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{sandboxer.NotFound, "not_found"},
		{sandboxer.Mark(sandboxer.NotFound, io.EOF), "not_found: EOF"},
		{sandboxer.Refused(sandboxer.NotFound, io.EOF), "not_found: EOF"},
		{sandboxer.Mark(sandboxer.NotFound, sandboxer.NotFound), "not_found"},
		{sandboxer.Mark(sandboxer.NotFound, sandboxer.Mark(sandboxer.NotFound, io.EOF)), "not_found: EOF"},
		{sandboxer.Mark(sandboxer.Internal, sandboxer.Mark(sandboxer.NotFound, io.EOF)), "internal: not_found: EOF"},
		{sandboxer.Mark("", io.EOF), "unknown: EOF"},
		{&sandboxer.Error{Op: "create", ID: "sbx-1", Extension: "ext.e2b", Host: "h", Code: sandboxer.Unavailable, Err: io.EOF},
			"sandboxer: create sbx-1 at ext.e2b on h: unavailable: EOF"},
		{&sandboxer.Error{Op: "create", Code: sandboxer.Unavailable, Err: sandboxer.Mark(sandboxer.Unavailable, io.EOF)},
			"sandboxer: create: unavailable: EOF"},
		{&sandboxer.Error{Op: "create", Code: sandboxer.Unavailable}, "sandboxer: create: unavailable"},
		{&sandboxer.Error{Op: "create", Code: sandboxer.Unavailable, Err: sandboxer.Unavailable}, "sandboxer: create: unavailable"},
		{&sandboxer.Error{Code: sandboxer.Unavailable, Err: io.EOF}, "sandboxer: unavailable: EOF"},
		{&sandboxer.Error{Code: sandboxer.Unavailable}, "sandboxer: unavailable"},
		{&sandboxer.Error{Op: "create", Err: io.EOF}, "sandboxer: create: EOF"},
		{&sandboxer.Error{Err: io.EOF}, "sandboxer: EOF"},
		{&sandboxer.Error{}, "sandboxer: unknown"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("%#v reads %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestOrphanError(t *testing.T) {
	t.Parallel()
	err := error(&sandboxer.OrphanError{
		Handle:  sandboxer.BareHandle(ref(2)),
		Cause:   sandboxer.Mark(sandboxer.DeadlineExceeded, errors.New("never became ready")),
		Cleanup: sandboxer.Mark(sandboxer.Unavailable, io.ErrUnexpectedEOF),
	})
	for _, s := range []string{"never became ready", "sbx-0001-2", "may still exist", "unexpected EOF"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
	if errors.Is(err, sandboxer.Unavailable) || errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, sandboxer.DeadlineExceeded) {
		t.Error("the code of an orphan is the code of its cause")
	}
}

func TestExecResultErr(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		result sandboxer.ExecResult
		want   string
	}{
		{sandboxer.ExecResult{}, ""},
		{sandboxer.ExecResult{ExitCode: 3}, "command exited with code 3"},
		{sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL"}, "command was ended by SIGKILL"},
		{sandboxer.ExecResult{ExitCode: -1, Signal: "SIGKILL", TimedOut: true, Duration: 1500 * time.Millisecond}, "command timed out after 1.5s and was killed"},
	} {
		err := tc.result.Err()
		var exit *sandboxer.ExitError
		switch {
		case tc.want == "":
			if err != nil {
				t.Errorf("%+v: %v", tc.result, err)
			}
		case err == nil || err.Error() != tc.want || !errors.As(err, &exit) || exit.ExecResult != tc.result:
			t.Errorf("%+v: got %v, want %q", tc.result, err, tc.want)
		}
	}
}
