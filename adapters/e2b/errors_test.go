//go:build unix

package e2b_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// TestErrorsFromInside: what the sandbox, or the way to it, answers instead of running a command. Errors of the control plane
// are in create_test.go.
func TestErrorsFromInside(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	stream := func(flag byte, text string) string {
		return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(text)))) + text
	}
	trailer := func(code string) string { return stream(2, `{"error":{"code":"`+code+`","message":"no"}}`) }
	begun := stream(0, `{"event":{"start":{"pid":999999}}}`)
	for name, c := range map[string]struct {
		status  int
		body    string
		header  map[string]string
		code    sandboxer.Code
		refused bool
	}{
		"400":                 {400, `{"code":"invalid_argument","message":"no"}`, nil, sandboxer.InvalidArgument, true},
		"400 of the edge":     {400, `<html>`, nil, sandboxer.InvalidArgument, true},
		"401 again and again": {401, `{"code":"unauthenticated"}`, nil, sandboxer.Unavailable, true},
		"403":                 {403, `{"message":"no"}`, nil, sandboxer.PermissionDenied, true},
		"404":                 {404, `{"message":"no"}`, nil, sandboxer.NotFound, true},
		"408":                 {408, ``, nil, sandboxer.Unavailable, false},
		"429":                 {429, ``, map[string]string{"Retry-After": "7"}, sandboxer.ResourceExhausted, true},
		"500":                 {500, ``, nil, sandboxer.Unavailable, false},
		"502 while it runs":   {502, `{"code":502,"message":"The sandbox is running but port is not open"}`, nil, sandboxer.Unavailable, false},
		"503 while it runs":   {503, ``, nil, sandboxer.Unavailable, false},
		"507":                 {507, ``, nil, sandboxer.ResourceExhausted, false},
		"302":                 {302, ``, map[string]string{"Location": "http://127.0.0.1:1/"}, sandboxer.Unavailable, false},
		"a page":              {200, `<html>please log in to this network</html>`, nil, sandboxer.Internal, false},
		"nothing":             {200, ``, nil, sandboxer.Unavailable, false},
		"no JSON":             {200, stream(0, `surprise`), nil, sandboxer.Unavailable, false},
		"no JSON at the end":  {200, stream(2, `surprise`), nil, sandboxer.Unavailable, false},
		"compressed":          {200, stream(1, `x`), nil, sandboxer.Internal, false},
		"a huge message":      {200, "\x00\xff\xff\xff\xff", nil, sandboxer.Internal, false},
		"an end without one":  {200, begun + stream(2, `{}`), nil, sandboxer.Unknown, false},
		"exit without a word": {200, begun + stream(0, `{"event":{"end":{"exited":true,"status":"exit status 0"}}}`), nil, sandboxer.Unknown, false},
		"invalid_argument":    {200, trailer("invalid_argument"), nil, sandboxer.InvalidArgument, true},
		"not_found":           {200, trailer("not_found"), nil, sandboxer.NotFound, true},
		"permission_denied":   {200, trailer("permission_denied"), nil, sandboxer.PermissionDenied, true},
		"resource_exhausted":  {200, trailer("resource_exhausted"), nil, sandboxer.ResourceExhausted, true},
		"unimplemented":       {200, trailer("unimplemented"), nil, sandboxer.Unsupported, true},
		"unavailable":         {200, trailer("unavailable"), nil, sandboxer.Unavailable, false},
		"internal":            {200, trailer("internal"), nil, sandboxer.Internal, false},
		"data_loss":           {200, trailer("data_loss"), nil, sandboxer.Internal, false},
		"begun, and refused":  {200, begun + trailer("resource_exhausted"), nil, sandboxer.ResourceExhausted, false},
	} {
		times := 1
		if c.status == 401 {
			times = 2
		}
		s.Fail(e2btest.Fault{Match: "POST /process.Process/Start", Times: times, Status: c.status, Body: c.body, Header: c.header})
		_, _, _, err := r.sh(t.Context(), target, "true")
		wantCode(t, name, err, c.code, c.refused)
		if c.status == 429 && sandboxer.RetryAfterOf(err) == 0 {
			t.Errorf("%s: it does not say when to come again: %v", name, err)
		}
		s.Heal()
		if _, out, _, err := r.sh(t.Context(), target, "echo on"); err != nil || out != "on\n" {
			t.Fatalf("after %s: %q, %v", name, out, err)
		}
	}
}

// TestKeyThatIsEscaped: a key is taken out of a message however it was written there. It was seen to fail when it is looked for before the message is
// decoded.
func TestKeyThatIsEscaped(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	key := "hunter2&<correct-horse>"
	r.key.set(key)
	_, err := r.Provision(t.Context(), r.request())
	if strings.Contains(err.Error(), key) {
		t.Error("the key is in the error: " + err.Error())
	}
}
