//go:build unix

package e2b_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

func TestCreateErrors(t *testing.T) {
	t.Parallel()
	body := func(msg string) string { return `{"code":0,"message":"` + msg + `"}` }
	for _, c := range []struct {
		name       string
		fault      e2btest.Fault
		template   string
		key        string
		code       sandboxer.Code
		refused    bool
		retryAfter time.Duration
		says       string
		live       int
	}{
		{name: "cap", fault: e2btest.Fault{Status: 429, Body: body("you have reached the maximum number of concurrent E2B sandboxes (20)")}, code: sandboxer.ResourceExhausted, refused: true, says: "raise the limit"},
		{name: "rate limit", fault: e2btest.Fault{Status: 429, Body: body("slow down"), Header: map[string]string{"Retry-After": "60"}}, code: sandboxer.ResourceExhausted, refused: true, retryAfter: time.Minute, says: "wait 1m0s"},
		{name: "invalid key", key: canary.Key("nobody"), code: sandboxer.Unauthenticated, refused: true, says: `"env:E2B_API_KEY"`},
		{name: "malformed key", key: canary.Secret("malformed-", "key"), code: sandboxer.Unauthenticated, refused: true, says: "make a new one"},
		{name: "key with a space", key: canary.Key("with a") + " space", code: sandboxer.Unauthenticated, refused: true, says: "pasted wrongly"},
		{name: "unknown template", template: "nope", code: sandboxer.InvalidArgument, refused: true, says: `"template"`},
		{name: "forbidden", fault: e2btest.Fault{Status: 403, Body: body("blocked")}, code: sandboxer.PermissionDenied, refused: true},
		{name: "bad request", fault: e2btest.Fault{Status: 400, Body: body("no")}, code: sandboxer.InvalidArgument, refused: true, says: "inputs"},
		{name: "no capacity", fault: e2btest.Fault{Status: 503, Body: `{"code":503,"message":"no","error_code":"sandbox_no_compatible_node"}`}, code: sandboxer.Unavailable, says: "sandbox_no_compatible_node"},
		{name: "error of the server", fault: e2btest.Fault{Status: 500, Body: "<html>"}, code: sandboxer.Unavailable, says: "not known"},
		{name: "redirect", fault: e2btest.Fault{Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/"}}, code: sandboxer.Internal, says: "redirect"},
		{name: "lost reply", fault: e2btest.Fault{Lose: true}, code: sandboxer.Unavailable, live: 1},
		{name: "cut reply", fault: e2btest.Fault{CutAt: 20}, code: sandboxer.Unavailable, live: 1},
		{name: "reply that is no JSON", fault: e2btest.Fault{Status: 201, Body: "surprise"}, code: sandboxer.Unavailable},
		{name: "reply without an ID", fault: e2btest.Fault{Status: 201, Body: `{"sandboxID":"../../x"}`}, code: sandboxer.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, e2btest.Options{Keys: map[string]string{canaryKey: "team"}})
			r := newRig(t, s, nil)
			if c.key != "" {
				r.key.set(c.key)
			}
			if c.fault.Status != 0 || c.fault.Lose || c.fault.CutAt != 0 {
				c.fault.Match = "POST /v2/sandboxes"
				s.Fail(c.fault)
			}
			req := r.request()
			if c.template != "" {
				req.Inputs = sandboxer.Inputs{"template": c.template}
			}
			h, err := r.Provision(t.Context(), req)
			wantCode(t, "Provision", err, c.code, c.refused)
			if !h.IsZero() {
				t.Errorf("with the error came the handle %v", h)
			}
			if got := sandboxer.RetryAfterOf(err); got != c.retryAfter {
				t.Errorf("RetryAfter %v, want %v", got, c.retryAfter)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || c.key != "" && strings.Contains(err.Error(), c.key)) {
				t.Errorf("the message is %q; it should say %q, and no key", err, c.says)
			}
			if got := len(s.Live()); got != c.live {
				t.Errorf("%d exist, want %d", got, c.live)
			}
		})
	}
}

func TestUnreachableIsARefusal(t *testing.T) {
	t.Parallel()
	s, err := e2btest.Start(e2btest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, s, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = r.Provision(t.Context(), r.request())
	wantCode(t, "Provision where nobody listens", err, sandboxer.Unavailable, true)
}

func TestAfterALostReply(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Lose: true})
	req, since := r.request(), time.Now()
	_, err := r.Provision(t.Context(), req)
	wantCode(t, "Provision", err, sandboxer.Unavailable, false)
	found, err := as[sandboxer.Finder](t, r).Find(t.Context(), req, since)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Provision(t.Context(), req)
	if err != nil || again != found {
		t.Errorf("Provision again returned %v, %v; Find had returned %v", again, err, found)
	}
	if _, err := r.WaitReady(t.Context(), r.target(req, found)); err != nil {
		t.Errorf("what was found cannot be used: %v", err)
	}
	if n := len(s.Live()); n != 1 {
		t.Errorf("%d sandboxes", n)
	}
	if rep, err := r.Teardown(t.Context(), r.target(req, sandboxer.BareHandle(req.Ref()))); err != nil || len(rep.Removed) != 1 || len(s.Live()) != 0 {
		t.Errorf("Teardown by name: %+v, %v; live: %q", rep, err, s.Live())
	}
}

func TestFindIsCertainOnlyAfterAWhile(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Placement: 300 * time.Millisecond})
	r := newRig(t, s, sandboxer.Inputs{"settle": "5s"})
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Lose: true})
	req := r.request()
	find := as[sandboxer.Finder](t, r).Find
	_, err := find(t.Context(), req, time.Now())
	wantCode(t, "Find at once", err, sandboxer.Unknown, false)
	if sandboxer.RetryAfterOf(err) <= 0 {
		t.Error("it does not say when to look again")
	}
	_, err = find(t.Context(), req, time.Now().Add(-time.Minute))
	wantCode(t, "Find of what was never asked for, later", err, sandboxer.NotFound, true)
	_, err = r.Provision(t.Context(), req)
	wantCode(t, "Provision", err, sandboxer.Unavailable, false)
	if _, err = find(t.Context(), req, time.Now()); err != nil {
		t.Errorf("what was placed late is not found: %v", err)
	}
}

func TestRenewedKey(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Keys: map[string]string{sameTeam: "team"}})
	r := newRig(t, s, nil)
	req := r.request()
	req.Secret = func(ctx context.Context, _ sandboxer.SecretRef) (sandboxer.Secret, error) {
		if refused, ok := sandboxer.RefusedKey(ctx); ok && refused == "old" {
			return sandboxer.NewSecret([]byte(sameTeam), "new"), nil
		}
		return sandboxer.NewSecret([]byte(canaryKey), "old"), nil
	}
	if _, err := r.Provision(t.Context(), req); err != nil {
		t.Errorf("the key was rotated, and the new one was not tried: %v", err)
	}
}

func TestPlansLongestLifetimeIsLearned(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{MaxLifetime: time.Hour})
	r := newRig(t, s, nil)
	for i, want := range []int{2, 1} {
		req := r.request()
		req.ExpiresAt = time.Now().Add(5 * time.Hour)
		s.Requests()
		h, err := r.Provision(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		creates := 0
		for _, q := range s.Requests() {
			if q.Method == http.MethodPost {
				creates++
			}
		}
		if creates != want {
			t.Errorf("create %d took %d requests, want %d", i+1, creates, want)
		}
		reach, err := r.WaitReady(t.Context(), r.target(req, h))
		if left := time.Until(reach.ExpiresAt); err != nil || left > time.Hour || left < 59*time.Minute {
			t.Errorf("granted: %v, %v", left, err)
		}
	}
}
