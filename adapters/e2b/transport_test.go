//go:build unix

package e2b_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

// asked counts the requests of a kind since the last call of Requests.
func asked(s *e2btest.Server, request string) (n int) {
	for _, q := range s.Requests() {
		if q.Method+" "+q.Path == request {
			n++
		}
	}
	return n
}

// TestRetriesAreBounded: what may be sent again is, a few times; a create never is.
func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	req := r.request()
	look := "GET /sandboxes/" + sandboxOf(t, target)
	for name, c := range map[string]struct {
		fault e2btest.Fault
		look  int
	}{
		"not available":           {e2btest.Fault{Status: 503}, 4},
		"not available, wait":     {e2btest.Fault{Status: 503, Header: map[string]string{"Retry-After": "0"}}, 4},
		"not available for long":  {e2btest.Fault{Status: 503, Header: map[string]string{"Retry-After": "60"}}, 1},
		"lost":                    {e2btest.Fault{Lose: true}, 4},
		"cut":                     {e2btest.Fault{CutAt: 10}, 4},
		"forbidden":               {e2btest.Fault{Status: 403}, 1},
		"rate limit":              {e2btest.Fault{Status: 429, Header: map[string]string{"Retry-After": "0"}}, 4},
		"rate limit for long":     {e2btest.Fault{Status: 429, Header: map[string]string{"Retry-After": "60"}}, 1},
		"too many at once":        {e2btest.Fault{Status: 429}, 1},
		"an answer that is wrong": {e2btest.Fault{Status: 200, Body: "<html>"}, 1},
	} {
		c.fault.Match = "GET /sandboxes/*"
		s.Fail(c.fault)
		s.Requests()
		if _, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target); err == nil {
			t.Errorf("%s: a look-up succeeded", name)
		}
		most := c.look
		if c.fault.Lose {
			most *= 2 // net/http itself repeats a GET whose connection had been used before and broke
		}
		if got := asked(s, look); got < c.look || got > most {
			t.Errorf("%s: a look-up was sent %d times, want %d to %d", name, got, c.look, most)
		}
		s.Heal()
	}
	for name, fault := range map[string]e2btest.Fault{"not available": {Status: 503}, "lost": {Lose: true}, "no JSON": {Status: 201, Body: "<html>"}} {
		fault.Match = "POST /v2/sandboxes"
		s.Fail(fault)
		s.Requests()
		if _, err := r.Provision(t.Context(), req); err == nil {
			t.Errorf("%s: a create succeeded", name)
		}
		if got := asked(s, "POST /v2/sandboxes"); got != 1 {
			t.Errorf("%s: a create was sent %d times", name, got)
		}
		s.Heal()
		req = r.request()
	}
}

// sandboxOf is E2B's ID of a sandbox.
func sandboxOf(t *testing.T, target sandboxer.Target) string {
	t.Helper()
	var s struct {
		Sandbox string `json:"sandbox"`
	}
	if err := target.Handle.State(&s); err != nil {
		t.Fatal(err)
	}
	return s.Sandbox
}

// TestRetryAfter: what the server says about waiting is kept, and the create comes through.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Status: 429, Body: `{"message":"Rate limit exceeded"}`, Header: map[string]string{"Retry-After": "1"}})
	begun := time.Now()
	if _, err := r.Provision(t.Context(), r.request()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("it was sent again after %v; one second was asked for", took)
	}
	if n := len(s.Live()); n != 1 {
		t.Errorf("%d sandboxes", n)
	}
}

// TestNoRedirectTakesAKeyAway: wherever a redirect leads, nobody there hears of it, neither of the key nor of the access
// token of a sandbox.
func TestNoRedirectTakesAKeyAway(t *testing.T) {
	t.Parallel()
	var heard atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		heard.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer elsewhere.Close()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		to := map[string]string{"Location": elsewhere.URL + "/v2/sandboxes"}
		for match, call := range map[string]func() error{
			"POST /v2/sandboxes":          func() error { _, err := r.Provision(t.Context(), r.request()); return err },
			"GET /sandboxes/*":            func() error { _, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target); return err },
			"DELETE /sandboxes/*":         func() error { _, err := r.Teardown(t.Context(), target); return err },
			"POST /process.Process/Start": func() error { _, _, _, err := r.sh(t.Context(), target, "true"); return err },
			"POST /files": func() error {
				return as[sandboxer.FileTransferer](t, r).CopyIn(t.Context(), target, "x", strings.NewReader(""))
			},
		} {
			s.Fail(e2btest.Fault{Match: match, Status: status, Header: to})
			if err := call(); err == nil || sandboxer.IsRefused(err) {
				t.Errorf("%s that is redirected with %d: %v", match, status, err)
			}
			s.Heal()
		}
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("%d requests were made where a redirect led", n)
	}
	if n := len(s.Live()); n != 1 {
		t.Errorf("%d sandboxes", n)
	}
}

// TestRepliesAreBounded: a server that never stops talking ends a call, not the program.
func TestRepliesAreBounded(t *testing.T) {
	t.Parallel()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		for line := strings.Repeat(" ", 1<<20); ; {
			if _, err := w.Write([]byte(line)); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, sandboxer.Inputs{"api_url": endless.URL})
	_, err := r.Provision(t.Context(), r.request())
	wantCode(t, "Provision", err, sandboxer.Unavailable, false)
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
	many := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 10000 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer many.Close()
	r = newRig(t, s, sandboxer.Inputs{"api_url": many.URL})
	_, err = r.Provision(t.Context(), r.request())
	wantCode(t, "Provision with endless headers", err, sandboxer.Unavailable, false)
}

// TestConnectionsAreReused: many calls, one after the other, take one connection to each place.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	var mu sync.Mutex
	opened := 0
	front := httptest.NewUnstartedServer(s)
	front.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if st == http.StateNew {
			opened++
		}
	}
	front.Start()
	defer front.Close()
	r := newRig(t, s, sandboxer.Inputs{"api_url": front.URL})
	target := r.sandbox(t)
	for range 30 {
		if _, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if opened > 2 { // a create and the look-up beside it
		t.Errorf("30 calls one after the other opened %d connections", opened)
	}
}

// TestWhatNeverLeftIsRefused: before a request has a connection nothing can have been bought.
func TestWhatNeverLeftIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	unknown := httptest.NewUnstartedServer(s)
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	unknown.StartTLS() // its certificate is nobody's
	defer unknown.Close()
	for name, url := range map[string]string{
		"certificate of nobody": unknown.URL, "no such host": "https://nowhere.invalid", "nobody listens": "http://127.0.0.1:1",
	} {
		r := newRig(t, s, sandboxer.Inputs{"api_url": url})
		_, err := r.Provision(t.Context(), r.request())
		wantCode(t, name, err, sandboxer.Unavailable, true)
		if err == nil || !strings.Contains(err.Error(), "check the network and api_url") {
			t.Errorf("%s: it does not say what to do: %v", name, err)
		}
	}
	if n := len(s.Live()); n != 0 {
		t.Errorf("%d sandboxes", n)
	}
}

// TestKeysInMessages: servers quote what they were sent, in the forms that they like.
func TestKeysInMessages(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	for _, key := range []string{canaryKey, canary.Secret("malformed+/=&%-", "quoted")} {
		r.key.set(key)
		for name, body := range map[string]string{
			"plain":       `{"code":400,"message":"the key ` + key + ` is odd"}`,
			"twice":       `{"code":400,"message":"` + key + key + `","error_code":"` + key + `"}`,
			"in an error": key, "as JSON": `"` + key + `"`, "empty": ``,
			"cut off": `{"code":400,"message":"` + strings.Repeat("x", 290) + key + `"}`,
		} {
			s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Status: 400, Body: body})
			_, err := r.Provision(t.Context(), r.request())
			wantCode(t, name, err, sandboxer.InvalidArgument, true)
			if hit, _ := canary.Mine().Read(name, strings.NewReader(fmt.Sprintf("%v %+v %#v", err, err, err))); hit != nil {
				t.Errorf("%s: %v", name, hit)
			}
		}
	}
}

// TestOldServers: v1 is used where the server has no v2, is asked for what v2 does by itself, and only there.
func TestOldServers(t *testing.T) {
	t.Parallel()
	type seen struct {
		Path   string
		Secure bool
		Long   bool
	}
	for _, c := range []struct {
		old      bool
		template string
		want     []seen
	}{
		{true, "base", []seen{{"/sandboxes", true, true}}},
		{true, "nope", []seen{{"/sandboxes", true, true}}},
		{false, "base", []seen{{"/v2/sandboxes", false, true}}},
		{false, "nope", []seen{{"/v2/sandboxes", false, true}}}, // a 404 as well, and no reason to try v1
	} {
		s := start(t, e2btest.Options{Old: c.old})
		var got []seen
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/sandboxes") {
				body, _ := io.ReadAll(r.Body)
				got = append(got, seen{r.URL.Path, strings.Contains(string(body), `"secure":true`), strings.Contains(string(body), `"timeout":1800`)})
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			s.ServeHTTP(w, r)
		}))
		defer front.Close()
		r := newRig(t, s, sandboxer.Inputs{"api_url": front.URL})
		req := r.request()
		req.Inputs = sandboxer.Inputs{"template": c.template}
		h, err := r.Provision(t.Context(), req)
		if c.template == "nope" {
			wantCode(t, "an unknown template", err, sandboxer.InvalidArgument, true)
		} else if err != nil {
			t.Fatal(err)
		}
		if c.old && len(got) == 2 && got[0] == (seen{"/v2/sandboxes", false, true}) {
			got = got[1:] // that there is no v2 is learned by this, or by the look-up beside it
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("old %v, template %s: %s", c.old, c.template, diff)
		}
		if err != nil {
			continue
		}
		got = nil
		if _, err := r.Teardown(t.Context(), r.target(req, h)); err != nil {
			t.Error(err)
		}
		if _, err := r.Provision(t.Context(), r.request()); err != nil || len(got) != 1 {
			t.Errorf("old %v: the next create: %v, asked %v", c.old, err, got)
		}
	}
}
