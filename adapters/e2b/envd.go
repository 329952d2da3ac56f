package e2b

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const envdPort = 49983

// envdHTTP reaches the daemon inside sandboxes, which is where commands and files go.
type envdHTTP struct{ http *http.Client }

func newEnvdHTTP() *envdHTTP { return &envdHTTP{http: newHTTP()} }

// sharedEdge are the domains that serve all sandboxes under one host, which spares a TLS handshake for each.
var sharedEdge = map[string]bool{"e2b.app": true, "e2b.dev": true, "e2b.pro": true}

func (e *extension) domainOf(ses *session) string {
	if hostName.MatchString(ses.domain) {
		return ses.domain
	}
	return e.cfg.Domain
}

func (e *extension) envdURL(ses *session) string {
	switch domain := e.domainOf(ses); {
	case e.cfg.SandboxURL != "":
		return e.cfg.SandboxURL
	case sharedEdge[domain]:
		return "https://sandbox." + domain
	default:
		return "https://" + strconv.Itoa(envdPort) + "-" + ses.id + "." + domain
	}
}

// envdRequest makes a request to a sandbox's daemon, as the session's user or as the given one.
func (e *extension) envdRequest(ctx context.Context, ses *session, method, path, user string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.envdURL(ses)+path, body)
	if err != nil {
		return nil, sandboxer.Refused(sandboxer.Internal, err)
	}
	req.Header.Set("E2b-Sandbox-Id", ses.id)
	req.Header.Set("E2b-Sandbox-Port", strconv.Itoa(envdPort))
	req.Header.Set("User-Agent", userAgent)
	if ses.token != "" {
		req.Header.Set("X-Access-Token", ses.token)
	}
	if user == "" {
		user = ses.envdUser()
	}
	if user != "" {
		req.SetBasicAuth(user, "")
	}
	return req, nil
}

// envdUser is the user to name: what the inputs say, or the default where envd is too old to have one of its own.
func (s *session) envdUser() string {
	if s.user == "" && olderThan(s.version, 0, 4) {
		return "user"
	}
	return s.user
}

// olderThan compares the first two numbers of a version; what is no version is taken for a new one.
func olderThan(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a < major || (a == major && b < minor))
}

// rpcError is an error of envd's own.
type rpcError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *rpcError) Error() string {
	return fmt.Sprintf("the sandbox answered %s: %s", plain(r.Code), plain(r.Message))
}

func rpcCode(err error) string {
	var r *rpcError
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// classify gives an error of envd its meaning. began reports whether something may have been done.
func (r *rpcError) classify(began bool) error {
	mark := sandboxer.Refused
	if began {
		mark = sandboxer.Mark
	}
	switch r.Code {
	case "not_found":
		return mark(sandboxer.NotFound, r)
	case "already_exists":
		return mark(sandboxer.AlreadyExists, r)
	case "invalid_argument", "out_of_range":
		return mark(sandboxer.InvalidArgument, r)
	case "permission_denied":
		return mark(sandboxer.PermissionDenied, r)
	case "unauthenticated":
		return mark(sandboxer.Unauthenticated, r)
	case "resource_exhausted":
		return mark(sandboxer.ResourceExhausted, r)
	case "failed_precondition":
		return mark(sandboxer.FailedPrecondition, r)
	case "unimplemented":
		return mark(sandboxer.Unsupported, r)
	case "unavailable", "canceled", "deadline_exceeded":
		return sandboxer.Mark(sandboxer.Unavailable, r)
	}
	return sandboxer.Mark(sandboxer.Internal, r)
}

var errStaleToken = errors.New("it does not accept its access token any more")

// talk calls f with the session of t's sandbox, and once more with a new one where its access token was refused and f has
// done nothing, which is what a refusal says.
func (e *extension) talk(ctx context.Context, t sandboxer.Target, f func(*session) error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	s, err := stateOf(t)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		ses, err := e.session(ctx, t, s)
		if err != nil {
			return err
		}
		if err = f(ses); try > 0 || !errors.Is(err, errStaleToken) || !sandboxer.IsRefused(err) {
			return err
		}
	}
}

const maxUnary = 1 << 20

// unary calls a method of envd that answers once, and soon.
func (e *extension) unary(ctx context.Context, t sandboxer.Target, ses *session, method string, in, out any) error {
	sub, cancel := context.WithTimeout(ctx, e.limits.call)
	defer cancel()
	return e.post(ctx, sub, t, ses, method, in, out)
}

// post is unary for as long as sub lasts. ctx is the caller's.
func (e *extension) post(ctx, sub context.Context, t sandboxer.Target, ses *session, method string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return sandboxer.Refused(sandboxer.Internal, err)
	}
	left := new(atomic.Bool)
	req, err := e.envdRequest(traced(sub, left), ses, http.MethodPost, method, "", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connect-Protocol-Version", "1")
	res, err := e.envd.http.Do(req)
	if err != nil {
		return transportError(ctx, err, left.Load())
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxUnary))
	if err != nil {
		return transportError(ctx, fmt.Errorf("the reply broke off: %w", err), true)
	}
	if res.StatusCode != http.StatusOK {
		return e.envdFailure(ctx, t, ses, res, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s answered with something that is not JSON: %w", ses.id, err))
	}
	return nil
}

// envdFailure says what an answer other than 200 means. 502 comes from the edge: there is no such sandbox, or nothing that
// listens in it; which of them, and whether it is only paused, is looked up.
func (e *extension) envdFailure(ctx context.Context, t sandboxer.Target, ses *session, res *http.Response, body []byte) error {
	var r rpcError
	_ = json.Unmarshal(body, &r) // what is no message has no words
	if ses.token != "" {
		r.Message = strings.ReplaceAll(r.Message, ses.token, "[redacted]")
	}
	status := res.StatusCode
	switch {
	case status == http.StatusUnauthorized:
		e.forget(ses.id) // whoever asks next gets a new token
		return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%s: %w; try again", ses.id, errStaleToken))
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return e.whyAway(ctx, t, ses, plain(r.Message))
	case r.Code != "":
		return (&r).classify(false)
	case status == http.StatusNotFound:
		return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("the sandbox answered 404: %s", plain(r.Message)))
	case status == http.StatusForbidden:
		return sandboxer.Refused(sandboxer.PermissionDenied, fmt.Errorf("%s answered 403: %s", ses.id, plain(r.Message)))
	case status == http.StatusTooManyRequests:
		err := fmt.Errorf("%s, or the way to it, is asked too often: %s; ask more slowly", ses.id, plain(r.Message))
		return sandboxer.Refused(sandboxer.ResourceExhausted, &sandboxer.Error{RetryAfter: retryAfter(res.Header), Err: err})
	case status == http.StatusRequestTimeout:
		return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s answered 408: %s", ses.id, plain(r.Message)))
	case status == http.StatusInsufficientStorage:
		return sandboxer.Mark(sandboxer.ResourceExhausted, fmt.Errorf("the disk of %s is full: %s", ses.id, plain(r.Message)))
	case status >= 400 && status < 500:
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the sandbox answered %d: %s", status, plain(r.Message)))
	}
	return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("the sandbox answered %d: %s", status, plain(r.Message)))
}

// whyAway looks up why a sandbox does not answer: NotFound, FailedPrecondition (paused), or Unavailable.
func (e *extension) whyAway(ctx context.Context, t sandboxer.Target, ses *session, message string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s := state{Sandbox: ses.id}
	if held, err := stateOf(t); err == nil {
		s = held
	}
	d, err := e.describe(ctx, t.Secret, s)
	switch {
	case errors.Is(err, sandboxer.NotFound):
		e.forget(ses.id)
		return sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("%s has ended (%s); create a new sandbox", ses.id, message))
	case err == nil && d.paused():
		e.forget(ses.id)
		return sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%s is paused; resume it first", ses.id))
	}
	return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("%s does not answer: %s", ses.id, message))
}
