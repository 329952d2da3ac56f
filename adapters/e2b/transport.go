package e2b

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	userAgent     = "sandboxer"
	callTimeout   = 30 * time.Second
	createTimeout = 90 * time.Second // a create may take 70 s at E2B
	maxReply      = 8 << 20
	maxTries      = 4
	maxWait       = 5 * time.Second // the longest that one call waits by itself before another try
)

// client talks to the control plane.
type client struct {
	base string
	ref  sandboxer.SecretRef
	http *http.Client
	log  *slog.Logger
	old  atomic.Bool // the server has no v2
}

// newHTTP makes a client that keeps connections for reuse, but not for longer than load balancers do, and follows no
// redirect: it would take a key to another host.
func newHTTP() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        50 * time.Second,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		},
	}
}

func newClient(cfg config, log *slog.Logger) *client {
	return &client{base: cfg.APIURL, ref: cfg.APIKey, http: newHTTP(), log: log}
}

// request is one call of the control plane.
type request struct {
	method, path string // path begins with / and is escaped
	query        string
	body         any
	bodyFor      func(key string) any // instead of body, where it names the version of the key
	repeatable   bool                 // sending it twice does what sending it once does
	timeout      time.Duration
	before       func() error // asked before each try; an error means that nothing is sent
}

type reply struct {
	status int
	header http.Header
	body   []byte
	key    string    // version of the key that was used
	sent   time.Time // when the try that was answered began
	got    time.Time // when its answer began to arrive
}

// clock is what the server's clock said with the answer, rounded down to a second; zero where it did not say.
func (r *reply) clock() time.Time {
	at, err := http.ParseTime(r.header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at
}

// ahead is how far the server's clock is ahead of ours; 0 where both may be the same.
func (r *reply) ahead() time.Duration {
	at := r.clock()
	if at.IsZero() || (at.Add(2*time.Second).After(r.sent) && at.Before(r.got.Add(time.Second))) {
		return 0
	}
	return at.Sub(r.sent).Round(time.Second)
}

// into decodes the body. A reply that cannot be read leaves the outcome of its call unknown.
func (r *reply) into(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		return sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("E2B answered %d with something that is not the JSON that was expected: %w", r.status, err))
	}
	return nil
}

// do sends r, again where that is safe, and returns the reply of a success. Every other answer is a classified error that
// carries a *statusError. It is no refusal where an earlier try may have done something.
func (c *client) do(ctx context.Context, secret sandboxer.SecretFunc, r request) (*reply, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	key, err := c.key(ctx, secret)
	if err != nil {
		return nil, err
	}
	renewed, unsure := false, false
	for try := 1; ; try++ {
		rep, err := c.once(ctx, key, r)
		if err == nil && rep.status < 300 {
			return rep, nil
		}
		var s *statusError
		if err == nil {
			s = newStatusError(rep, key)
			err = c.classify(s)
		}
		if unsure && sandboxer.IsRefused(err) {
			err = sandboxer.Mark(sandboxer.CodeOf(err), err)
		}
		unsure = unsure || r.method != http.MethodGet && !sandboxer.IsRefused(err)
		if s != nil && s.status == http.StatusUnauthorized && !renewed {
			renewed = true
			again, keyErr := c.key(sandboxer.WithRefusedKey(ctx, key), secret)
			if keyErr == nil && !again.Equal(key) {
				key = again
				continue
			}
		}
		wait, ok := c.wait(ctx, r, s, err, try)
		if !ok || !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// wait says whether a failed call is sent again, and after how long.
func (c *client) wait(ctx context.Context, r request, s *statusError, err error, try int) (time.Duration, bool) {
	if try >= maxTries || ctx.Err() != nil {
		return 0, false
	}
	backoff := 100*time.Millisecond<<try/2 + rand.N(100*time.Millisecond<<try)
	switch {
	case s != nil && s.status == http.StatusTooManyRequests:
		return s.retryAfter + rand.N(s.retryAfter/4+1), s.retryAfter > 0 && s.retryAfter <= maxWait
	case !r.repeatable || sandboxer.CodeOf(err) != sandboxer.Unavailable:
		return 0, false
	case s != nil && s.retryAfter > 0:
		return s.retryAfter, s.retryAfter <= maxWait
	}
	return min(backoff, maxWait), true
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *client) once(ctx context.Context, key sandboxer.Secret, r request) (*reply, error) {
	if r.before != nil {
		if err := r.before(); err != nil {
			return nil, err
		}
	}
	timeout := r.timeout
	if timeout == 0 {
		timeout = callTimeout
	}
	var body io.Reader
	if r.bodyFor != nil {
		r.body = r.bodyFor(key.Version())
	}
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, sandboxer.Refused(sandboxer.Internal, err)
		}
		body = bytes.NewReader(text)
	}
	sub, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	target := c.base + r.path
	if r.query != "" {
		target += "?" + r.query
	}
	left := new(atomic.Bool)
	req, err := http.NewRequestWithContext(traced(sub, left), r.method, target, body)
	if err != nil {
		return nil, sandboxer.Refused(sandboxer.Internal, err)
	}
	req.Header.Set("X-API-Key", string(key.Reveal()))
	req.Header.Set("User-Agent", userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	sent := time.Now()
	res, err := c.http.Do(req)
	if err != nil {
		return nil, transportError(ctx, err, left.Load())
	}
	defer func() { _ = res.Body.Close() }()
	got := time.Now()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	c.log.DebugContext(ctx, "e2b", "method", r.method, "path", r.path, "status", res.StatusCode, "took", time.Since(sent))
	if err != nil {
		return nil, transportError(ctx, fmt.Errorf("the reply broke off: %w", err), true)
	}
	if len(text) > maxReply {
		return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("E2B's reply to %s %s is larger than %d MiB", r.method, r.path, maxReply>>20))
	}
	return &reply{status: res.StatusCode, header: res.Header, body: text, key: key.Version(), sent: sent, got: got}, nil
}

// ended returns the error for a call whose context has ended before anything was done.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return transportError(ctx, ctx.Err(), false)
}

// traced notes in left when a request had a connection: before that it never left.
func traced(ctx context.Context, left *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { left.Store(true) }})
}

// transportError classifies a call that was not answered. ctx is the caller's: its end is the caller's doing, any other
// time limit is ours.
func transportError(ctx context.Context, err error, left bool) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the address says nothing that the reader needs, and may be long
	}
	code, mark := sandboxer.Unavailable, sandboxer.Mark
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		if code = sandboxer.Canceled; errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = sandboxer.DeadlineExceeded
		}
	}
	if !left {
		mark = sandboxer.Refused
	}
	switch {
	case ctx.Err() != nil:
		return mark(code, err)
	case !left:
		return mark(code, fmt.Errorf("E2B was not reached: %w; check the network and api_url", err))
	}
	return mark(code, fmt.Errorf("E2B did not answer: %w", err))
}
