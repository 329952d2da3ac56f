//go:build unix

package e2btest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

// TestStrays: the server notices a team's key that is sent to a sandbox, wherever in the request it is.
func TestStrays(t *testing.T) {
	t.Parallel()
	s, err := e2btest.Start(e2btest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	key := canary.Key("stray")
	ask := func(method, path string, body io.Reader, head map[string]string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range head {
			req.Header.Set(k, v)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body) // what it says is not what this is about
		_ = res.Body.Close()
	}
	inside := func(more ...string) map[string]string {
		out := map[string]string{"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49983"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	ask("GET", "/v2/sandboxes", nil, map[string]string{"X-API-Key": key})
	ask("GET", "/health", nil, inside())
	ask("GET", "/health", nil, inside("X-Access-Token", "tok_x"))
	if strays := s.Strays(); len(strays) != 0 {
		t.Errorf("without a key in a sandbox: %q", strays)
	}
	ask("GET", "/in-a-header", nil, inside("X-API-Key", key))
	ask("GET", "/in-the-address?key="+key, nil, inside())
	ask("GET", "/_port/i1/80/?key="+key, nil, nil)
	if diff := cmp.Diff([]string{"GET /in-a-header", "GET /in-the-address", "GET /_port/i1/80/"}, s.Strays()); diff != "" {
		t.Error(diff)
	}
	id := create(t, s, key)
	ask("POST", "/process.Process/SendSignal", strings.NewReader(`{"x":"`+strings.Repeat("x", 5000)+key+`"}`), map[string]string{
		"E2b-Sandbox-Id": id.SandboxID, "E2b-Sandbox-Port": "49983", "X-Access-Token": id.EnvdAccessToken,
	})
	if strays := s.Strays(); len(strays) != 4 || strays[3] != "POST /process.Process/SendSignal" {
		t.Errorf("in a body: %q", strays)
	}
}

type made struct{ SandboxID, EnvdAccessToken string }

// create makes a sandbox.
func create(t *testing.T, s *e2btest.Server, key string) (out made) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v2/sandboxes", strings.NewReader(`{"templateID":"base"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
