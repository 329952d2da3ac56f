package e2b

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// statusError is an answer that is no success.
type statusError struct {
	status     int
	code       string // error_code, where E2B gives one
	message    string // E2B's own words, without any key
	key        string // version of the key that was used
	retryAfter time.Duration
}

func (s *statusError) Error() string {
	msg := fmt.Sprintf("E2B answered %d", s.status)
	if s.code != "" {
		msg += " " + s.code
	}
	if s.message != "" {
		msg += ": " + s.message
	}
	return msg
}

// statusOf returns the HTTP status that err came with, or 0.
func statusOf(err error) int {
	var s *statusError
	if errors.As(err, &s) {
		return s.status
	}
	return 0
}

// keyOf returns the version of the key under which E2B gave the answer that is in err.
func keyOf(err error) string {
	var s *statusError
	if errors.As(err, &s) {
		return s.key
	}
	return ""
}

const maxMessage = 300

// newStatusError reads an answer. Servers quote what they were sent, so the key is taken out of it first.
func newStatusError(r *reply, key sandboxer.Secret) *statusError {
	out := &statusError{status: r.status, key: r.key, retryAfter: retryAfter(r.header)}
	var body struct {
		Message   string `json:"message"`
		ErrorCode string `json:"error_code"`
	}
	if json.Unmarshal(r.body, &body) == nil {
		out.message, out.code = plain(without(key, body.Message)), plain(without(key, body.ErrorCode))
	}
	return out
}

// without takes a key out of a text, which is decoded by now: a server may have written it with escapes.
func without(key sandboxer.Secret, text string) string {
	if len(key.Reveal()) == 0 {
		return text
	}
	return strings.ReplaceAll(text, string(key.Reveal()), "[redacted]")
}

// plain makes a backend's text fit for a message: one line, not long, and without what looks like a key.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = keyShaped.ReplaceAllString(s, "[redacted]")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// retryAfter reads the header in either of its forms; 0 where there is none. A time in it is of the server's clock.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseInt(v, 10, 32); err == nil && s >= 0 {
		return max(time.Duration(s)*time.Second, time.Millisecond)
	}
	if at, err := http.ParseTime(v); err == nil {
		now, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			now = time.Now()
		}
		return max(at.Sub(now), time.Millisecond)
	}
	return 0
}

// classify gives a status its meaning. Whatever E2B answers below 500 it has refused; beyond that the outcome is unknown.
func (c *client) classify(s *statusError) error {
	switch {
	case s.status == http.StatusUnauthorized:
		return sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key under %q is not accepted (%w); check that it is complete and not revoked, or make a new one at https://e2b.dev/dashboard", c.ref, s))
	case s.status == http.StatusForbidden:
		return sandboxer.Refused(sandboxer.PermissionDenied, fmt.Errorf("%w; the team of the key under %q may not do this", s, c.ref))
	case s.status == http.StatusNotFound:
		return sandboxer.Refused(sandboxer.NotFound, s)
	case s.status == http.StatusConflict:
		return sandboxer.Refused(sandboxer.FailedPrecondition, s)
	case s.status == http.StatusTooManyRequests && s.retryAfter > 0:
		return sandboxer.Refused(sandboxer.ResourceExhausted, &sandboxer.Error{RetryAfter: s.retryAfter, Err: fmt.Errorf("%w; the rate limit of the key is reached, wait %v", s, s.retryAfter)})
	case s.status == http.StatusTooManyRequests:
		return sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("%w; end a sandbox, go elsewhere (burst), or raise the limit of the plan", s))
	case s.status >= 500:
		return sandboxer.Mark(sandboxer.Unavailable, s)
	case s.status == http.StatusRequestTimeout:
		return sandboxer.Mark(sandboxer.Unavailable, s)
	case s.status >= 400:
		return sandboxer.Refused(sandboxer.InvalidArgument, s)
	case s.status >= 300:
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%w; a redirect is not followed with a key, so set api_url to where it leads", s))
	}
	return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%w, which was not expected here", s))
}
