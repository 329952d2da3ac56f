package sandboxer_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// TestStatusJSON: other programs read this; its keys are part of the API, and zero values are left out.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	quote := sandboxer.MeterQuote{Lines: []sandboxer.MeterLine{{Item: "cpu", Unit: "vcpu-second", Micros: 60_000_000, UnitPrice: usd(t, 28_000), Amount: usd(t, 1_680_000)}},
		Total: usd(t, 1_680_000), For: time.Minute, PriceList: "stub 2026-01-01"}
	for _, tc := range []struct {
		name   string
		status sandboxer.SandboxStatus
		want   string
	}{
		{"least", sandboxer.SandboxStatus{ID: "a", Profile: "profile.x", Extension: "ext.x", State: sandboxer.StateProvisioning, Consumer: sandboxer.Consumer{ID: "ci"}},
			`{"id":"a","profile":"profile.x","extension":"ext.x","state":"provisioning","consumer":{"id":"ci"}}`},
		{"most", sandboxer.SandboxStatus{
			ID: "a", Profile: "profile.x", Extension: "ext.x", Host: "h", State: sandboxer.StateOrphaned, Reason: "why",
			Consumer: sandboxer.Consumer{ID: "ci", Tenant: "t", Run: "r", Labels: map[string]string{"k": "v"}},
			Payer:    sandboxer.Payer{Tenant: "t", Key: "v1"},
			Reachability: &sandboxer.Reachability{SSH: "u@h", RemoteDir: "/w", Host: "h", ComposeProject: "a",
				Endpoints: []sandboxer.Endpoint{{Name: "web", URL: "http://127.0.0.1:1", Port: 80}}, ExpiresAt: at},
			Labels: map[string]string{"k": "v"}, CreatedAt: at, ReadyAt: at, ExpiresAt: at, EndedAt: at,
			Attempts: []sandboxer.Attempt{{N: 1, Name: "a", Profile: "profile.x", Extension: "ext.x", Host: "h", StartedAt: at, EndedAt: at, Code: sandboxer.Unavailable, Reason: "down"},
				{Profile: "profile.y", Extension: "ext.y", Reason: "too dear"}},
			Quote: &quote, Cleanup: &sandboxer.CleanupReport{Removed: []string{"x"}, Left: []string{"y"}}, Tries: 3, NextTry: at,
		}, `{"id":"a","profile":"profile.x","extension":"ext.x","host":"h","state":"orphaned","reason":"why",` +
			`"consumer":{"id":"ci","tenant":"t","run":"r","labels":{"k":"v"}},"payer":{"tenant":"t","key":"v1"},` +
			`"reachability":{"ssh":"u@h","remote_dir":"/w","host":"h","compose_project":"a","endpoints":[{"name":"web","url":"http://127.0.0.1:1","port":80}],"expires_at":"2026-01-02T03:04:05.000006Z"},` +
			`"labels":{"k":"v"},"created_at":"2026-01-02T03:04:05.000006Z","ready_at":"2026-01-02T03:04:05.000006Z","expires_at":"2026-01-02T03:04:05.000006Z","ended_at":"2026-01-02T03:04:05.000006Z",` +
			`"attempts":[{"n":1,"name":"a","profile":"profile.x","extension":"ext.x","host":"h","started_at":"2026-01-02T03:04:05.000006Z","ended_at":"2026-01-02T03:04:05.000006Z","code":"unavailable","reason":"down"},` +
			`{"profile":"profile.y","extension":"ext.y","reason":"too dear"}],` +
			`"quote":{"lines":[{"item":"cpu","unit":"vcpu-second","micros":60000000,"unit_price":"0.000028 USD","amount":"0.00168 USD"}],"total":"0.00168 USD","for":60000000000,"price_list":"stub 2026-01-01"},` +
			`"cleanup":{"removed":["x"],"left":["y"]},"tries":3,"next_try":"2026-01-02T03:04:05.000006Z"}`},
	} {
		text, err := json.Marshal(tc.status)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, string(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		var back sandboxer.SandboxStatus
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.status, back, cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b })); diff != "" {
			t.Errorf("%s does not come back (-want +got):\n%s", tc.name, diff)
		}
	}
}
