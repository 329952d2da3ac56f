package e2b

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

func TestMetadataQuery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"owner": "c i&x"}, "metadata=owner%3Dc%252520i%252526x"},
		{map[string]string{"b": "2", "a": "1"}, "metadata=a%3D1%26b%3D2"},
	} {
		if diff := cmp.Diff(c.want, metadataQuery(c.in)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAttemptOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id, name string
		n        int
		ok       bool
	}{
		{"a", "a", 1, true}, {"a", "a-2", 2, true}, {"a-2", "a-2", 1, true}, {"a", "a-999", 999, true},
		{"a", "a-1", 0, false}, {"a", "a-02", 0, false}, {"a", "b", 0, false}, {"a", "a-1000", 0, false}, {"", "", 0, false}, {"a", "", 0, false},
	} {
		n, ok := attemptOf(c.id, c.name)
		if ok != c.ok || ok && n != c.n {
			t.Errorf("%q of %q: %d, %v", c.name, c.id, n, ok)
		}
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, c := range []struct {
			at   time.Time
			most time.Duration
			want int64
		}{
			{time.Time{}, 0, 3600},
			{time.Time{}, 24 * time.Hour, 86400},
			{now.Add(90 * time.Second), 0, 90},
			{now.Add(90*time.Second + 1), 0, 91},
			{now.Add(5 * time.Hour), time.Hour, 3600},
			{now.Add(365 * 24 * time.Hour), 0, 30 * 86400},
		} {
			got, err := lifetime(c.at, c.most)
			if err != nil || got != c.want {
				t.Errorf("until %v, at most %v: %d, %v, want %d", c.at.Sub(now), c.most, got, err, c.want)
			}
		}
		if _, err := lifetime(now, 0); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("an end that has passed: %v", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": time.Millisecond, "-1": 0, "soon": 0,
		"Sat, 01 Aug 2026 12:00:30 GMT": 30 * time.Second, "Sat, 01 Aug 2026 11:00:00 GMT": time.Millisecond,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}, "Date": {"Sat, 01 Aug 2026 12:00:00 GMT"}}); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) { // without a Date our own clock has to do
		if got := retryAfter(http.Header{"Retry-After": {time.Now().Add(9 * time.Second).UTC().Format(http.TimeFormat)}}); got != 9*time.Second {
			t.Errorf("without a Date: %v", got)
		}
	})
}

func TestPrices(t *testing.T) {
	t.Parallel()
	e := &extension{}
	quote, err := e.EstimateCost(t.Context(), sandboxer.Profile{Resources: sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 512 << 20}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	// 7,200 vCPU-seconds at $0.000014 and 1,800 GiB-seconds at $0.0000045.
	if got := quote.Total.String(); got != "0.1089 USD" {
		t.Errorf("an hour costs %s", got)
	}
	if _, err := e.EstimateCost(t.Context(), sandboxer.Profile{Resources: sandboxer.Resources{CPUMillis: 1 << 62, MemoryBytes: 1 << 62}}, 1<<62); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("what cannot be priced: %v", err)
	}
}

// wait lets the time of a synctest bubble pass.
func wait(d time.Duration) { <-time.After(d) }

func TestAPauseIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &extension{meters: map[string]*meter{}}
		s := state{Sandbox: "i1", purchase: purchase{Created: time.Now(), CPU: 1000, Memory: 1 << 30}}
		h, err := sandboxer.NewHandle(sandboxer.HandleRef{ID: "a", Attempt: 1, Extension: "ext.e2b"}, stateVersion, s)
		if err != nil {
			t.Fatal(err)
		}
		e.startMeter(s)
		e.meters["i1"].known = true
		seconds := func() (int64, bool) {
			got, err := e.MeterActual(t.Context(), sandboxer.Target{Handle: h})
			if err != nil {
				t.Fatal(err)
			}
			return got.Lines[0].Micros / 1e6, got.Final
		}
		want := func(what string, n int64, final bool) {
			t.Helper()
			if got, f := seconds(); got != n || f != final {
				t.Errorf("%s: %d s, final: %v; want %d s, %v", what, got, f, n, final)
			}
		}
		wait(10 * time.Second)
		want("running", 10, false)
		e.pauseMeter(s)
		wait(time.Hour)
		want("paused", 10, false)
		e.pauseMeter(s)
		e.resumeMeter(s)
		e.resumeMeter(s)
		wait(5 * time.Second)
		want("resumed", 15, false)
		e.endMeter("i1", true)
		wait(time.Hour)
		want("ended", 15, true)
		e.resumeMeter(s)
		e.startMeter(s)
		wait(time.Second)
		want("ended for good", 15, true)
	})
}

func TestEndedMetersAreForgottenAtLast(t *testing.T) {
	t.Parallel()
	e := &extension{meters: map[string]*meter{}}
	for i := range maxEndedMeters + 100 {
		id := "i" + strings.Repeat("x", i%7) + time.Duration(i).String()
		e.startMeter(state{Sandbox: id})
		e.endMeter(id, true)
	}
	if n := len(e.meters); n != maxEndedMeters {
		t.Errorf("%d meters are kept", n)
	}
}

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]sandboxer.Inputs{
		"key instead of its reference": {"api_key": "e2b_0123456789abcdef0123"},
		"key behind env:":              {"api_key": "env:e2b_0123456789abcdef0123"},
		"no reference":                 {"api_key": ""},
		"null":                         {"api_key": nil},
		"unknown":                      {"api_kye": "env:X"},
		"domain":                       {"domain": "https://e2b.app/"},
		"clear text":                   {"api_url": "http://api.example.com"},
		"no URL":                       {"sandbox_url": "sandbox.example.com"},
		"credentials in the URL":       {"api_url": "https://user:pass@example.com"},
		"port_url":                     {"port_url": "https://example.com"},
		"max_lifetime":                 {"max_lifetime": "-1h"},
		"settle":                       {"settle": "-1s"},
	} {
		if _, ok := in["api_key"]; !ok {
			in["api_key"] = "env:E2B_API_KEY"
		}
		_, err := decodeConfig(in)
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]sandboxer.Inputs{
		"template": {"template": "../x"}, "user": {"user": "a:b"}, "workdir": {"workdir": "x"},
		"name of a variable": {"env": map[string]any{"a-b": "c"}}, "key in a variable": {"env": map[string]any{"K": "e2b_0123456789abcdef0123"}},
	} {
		if _, err := decodeInputs(in); sandboxer.CodeOf(err) != sandboxer.InvalidArgument || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("input %s: %v", name, err)
		}
	}
	cfg, err := decodeConfig(sandboxer.Inputs{"api_key": "env:K", "domain": "e2b.example.com", "api_url": "https://x.example.com/"})
	if err != nil || cfg.APIURL != "https://x.example.com" {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestWhereASandboxIsReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ domain, given, sandboxURL, want string }{
		{"e2b.app", "", "", "https://sandbox.e2b.app"},
		{"e2b.app", "other.example.com", "", "https://49983-i1.other.example.com"},
		{"self.example.com", "", "", "https://49983-i1.self.example.com"},
		{"e2b.app", "evil.com/x?", "", "https://sandbox.e2b.app"},
		{"e2b.app", "", "http://127.0.0.1:1", "http://127.0.0.1:1"},
	} {
		e := &extension{cfg: config{Domain: c.domain, SandboxURL: c.sandboxURL}}
		if got := e.envdURL(&session{id: "i1", domain: c.given}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(envelope([]byte(`{"event":{"end":{"exited":true}}}`)), 2, 0, 0, 0, 2, '{', '}'))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := frames{r: bytes.NewReader(data)}
		total := 0
		for {
			text, end, err := fr.next()
			if err != nil {
				if errors.Is(err, io.EOF) {
					t.Error("the end of the stream is taken for a good end")
				}
				return
			}
			total += 5 + len(text)
			if total > len(data) {
				t.Fatalf("%d bytes were read of %d", total, len(data))
			}
			if end {
				_, _ = trailer(text)
			} else {
				_, _ = decodeEvent(text)
			}
		}
	})
}

// FuzzEscape: printf restores every byte.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "\xff\n", `\0101`, "%s", "\x01"} {
		f.Add(s)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			f.Fatal("this machine has no sh")
		}
		f.Skip("this machine has no sh; the rule is proven where there is one")
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return // refused before
		}
		got, err := exec.CommandContext(t.Context(), sh, "-c", `v=$(printf '%b_' "$1"); printf %s "${v%_}"`, "sh", escape(s)).Output()
		if err != nil || string(got) != s {
			t.Errorf("%q came back as %q, %v", s, got, err)
		}
	})
}
