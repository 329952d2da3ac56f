package manager

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

var writeGolden = flag.Bool("write-golden", false, "write golden records that do not exist yet; those of released formats are never changed")

// goldenRecords are records as a Manager stores them, by the name of their file.
func goldenRecords(t *testing.T) map[string]*record {
	t.Helper()
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)
	cents := money(t, "0.05 USD")
	line, err := sandboxer.NewMeterLine("cpu", "vcpu-second", 3_600_000_000, money(t, "0.00001 USD"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := asked{
		Profile: "profile.go-build", Consumer: sandboxer.Consumer{ID: "ci", Tenant: "acme", Run: "run <7> & \"more\"", Labels: map[string]string{"a": "b"}},
		Inputs: sandboxer.Inputs{"repo": "https://example.net/r.git", "depth": 1}, Host: "h1", TTL: time.Hour, FromSnapshot: "snap-1",
		Labels: map[string]string{"team": "ü"}, MaxCost: &cents,
	}.freeze()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := asked{Profile: "profile.fake", Consumer: sandboxer.Consumer{ID: "x"}}.freeze()
	if err != nil {
		t.Fatal(err)
	}
	handle := func(id sandboxer.ID, n int) sandboxer.Handle {
		h, err := sandboxer.NewHandle(sandboxer.HandleRef{ID: id, Attempt: n, Extension: "ext.compose-ssh", Host: "h1"}, 2, map[string]any{"project": "sbx", "n": 1})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	profile := sandboxer.Profile{
		ID: "profile.go-build", Title: "Go <build>", Extension: "ext.compose-ssh", Isolation: sandboxer.IsolationContainer,
		Inputs: sandboxer.Inputs{"repo": "https://example.net/r.git"}, Resources: sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30},
		Ports: []int{8080}, TTL: time.Hour, ReadyTimeout: time.Minute, HostSelector: map[string]string{"zone": "a"},
	}
	quote := &estimate{MeterQuote: sandboxer.MeterQuote{Lines: []sandboxer.MeterLine{line}, Total: line.Amount, For: time.Hour, PriceList: "prices 2026-11-01"}}
	one := attempt{
		Attempt: sandboxer.Attempt{N: 1, Name: "sbx-1", Profile: profile.ID, Extension: profile.Extension, Host: "h1", Payer: sandboxer.Payer{Tenant: "acme", Key: "v1"}, StartedAt: at},
		Recipe:  &recipe{Profile: profile}, Place: "h1", Deadline: at.Add(61 * time.Minute),
	}
	skipped := attempt{Attempt: sandboxer.Attempt{
		Profile: "profile.cloud", Extension: "ext.e2b", StartedAt: at, EndedAt: at, Code: sandboxer.BudgetExceeded, Reason: "too dear",
	}}
	ready := one
	ready.Handle = handle("sbx-1", 1)
	lostReply := one
	lostReply.Since = at
	ended := ready
	ended.EndedAt, ended.Place = at.Add(time.Minute), ""
	billed := ended
	billed.Billed, billed.Bills = &sandboxer.MeterReading{From: at, To: at.Add(time.Hour), Lines: []sandboxer.MeterLine{line}, Total: line.Amount, Estimated: true}, 2
	second := ready
	second.N, second.Name, second.Handle = 2, "sbx-1-2", handle("sbx-1", 2)
	failed := one
	failed.Code, failed.Reason, failed.EndedAt, failed.Place = sandboxer.ResourceExhausted, "full", at, ""
	reach := &sandboxer.Reachability{
		SSH: "dev@h1", RemoteDir: "/workspace", Host: "h1", ComposeProject: "sbx-1", ExpiresAt: at.Add(time.Hour),
		Endpoints: []sandboxer.Endpoint{{Name: "web", URL: "https://example.net/?a=1&b=2", Port: 8080}},
	}
	return map[string]*record{
		"provisioning": {V: 1, ID: "sbx-1", State: sandboxer.StateProvisioning, Asked: q, CreatedAt: at, ExpiresAt: at.Add(time.Hour), Quote: quote, Attempts: []attempt{one}},
		"unknown":      {V: 1, ID: "sbx-1", State: sandboxer.StateUnknown, Reason: "the outcome of its creation is not known: lost", Asked: q, CreatedAt: at, Quote: quote, Attempts: []attempt{lostReply}},
		"ready":        {V: 1, ID: "sbx-1", State: sandboxer.StateReady, Asked: q, CreatedAt: at, ReadyAt: at.Add(time.Second), ExpiresAt: at.Add(time.Hour), Quote: quote, Attempts: []attempt{ready}, Reach: reach},
		"bare": {V: 1, ID: "a", State: sandboxer.StateReady, Asked: plain, CreatedAt: at, ReadyAt: at, Reach: &sandboxer.Reachability{}, Attempts: []attempt{{
			Attempt: sandboxer.Attempt{N: 1, Name: "a", Profile: "profile.fake", Extension: "ext.fake", StartedAt: at}, Recipe: &recipe{Profile: sandboxer.Profile{ID: "profile.fake", Extension: "ext.fake"}},
		}}},
		"paused":   {V: 1, ID: "sbx-1", State: sandboxer.StatePaused, Reason: "paused on request", Asked: q, CreatedAt: at, ReadyAt: at, ExpiresAt: at.Add(time.Hour), Attempts: []attempt{ready}, Reach: reach, Undying: true},
		"resuming": {V: 1, ID: "sbx-1", State: sandboxer.StatePaused, Asked: q, CreatedAt: at, ReadyAt: at, Attempts: []attempt{ready}, Reach: reach, Undying: true, Resuming: true},
		"pausing":  {V: 1, ID: "sbx-1", State: sandboxer.StateReady, Asked: q, CreatedAt: at, ReadyAt: at, Attempts: []attempt{ready}, Reach: reach, Pausing: true},
		"extending": {
			V: 1, ID: "sbx-1", State: sandboxer.StateReady, Asked: q, CreatedAt: at, ReadyAt: at, ExpiresAt: at.Add(time.Hour), Attempts: []attempt{ready}, Reach: reach,
			Extending: at.Add(5 * time.Hour),
		},
		"burst": {V: 1, ID: "sbx-1", State: sandboxer.StateReady, Asked: q, CreatedAt: at, ReadyAt: at, Attempts: []attempt{failed, skipped, second}, Reach: reach, Quote: quote},
		"orphaned": {
			V: 1, ID: "sbx-1", State: sandboxer.StateOrphaned, Code: sandboxer.Unavailable, Reason: "removal failed 3 times, and is tried again: no route", Cause: "torn down on request",
			CauseCode: sandboxer.Unavailable, Asked: q, CreatedAt: at, ReadyAt: at, Attempts: []attempt{ready}, Reach: reach, Tries: 3, NextTry: at.Add(time.Minute),
			Cleanup: &sandboxer.CleanupReport{Removed: []string{"container <a>"}, Left: []string{"volume b"}},
		},
		"gone": {
			V: 1, ID: "sbx-1", State: sandboxer.StateGone, Reason: "torn down on request", Cause: "torn down on request", Asked: q, CreatedAt: at, ReadyAt: at, EndedAt: at.Add(time.Minute),
			Attempts: []attempt{ended}, Reach: reach, Quote: quote, Cleanup: &sandboxer.CleanupReport{Removed: []string{"directory x"}},
			Cost: &sandboxer.MeterReading{From: at, To: at.Add(time.Minute), Lines: []sandboxer.MeterLine{line}, Total: line.Amount, Final: true},
		},
		"abandoned": {V: 1, ID: "sbx-1", State: sandboxer.StateGone, Cause: "abandoned", CauseCode: sandboxer.Unknown, Code: sandboxer.Unknown, Asked: q, CreatedAt: at, EndedAt: at, Attempts: []attempt{ended}, Abandoned: true},
		"stray": {
			V: 1, ID: "stray-1", State: sandboxer.StateTearingDown, Asked: plain, CreatedAt: at, ReadyAt: at, Stray: map[string]string{sandboxer.LabelOwner: "me.store", sandboxer.LabelID: "sbx-1"},
			Attempts: []attempt{ready},
		},
		"stray-billed": {
			V: 1, ID: "stray-1", State: sandboxer.StateGone, Asked: plain, CreatedAt: at, ReadyAt: at, EndedAt: at.Add(time.Hour),
			Stray: map[string]string{sandboxer.LabelOwner: "me.store", sandboxer.LabelID: "sbx-1"}, Attempts: []attempt{billed}, Cost: billed.Billed,
		},
	}
}

func money(t *testing.T, s string) sandboxer.Money {
	t.Helper()
	m, err := sandboxer.ParseMoney(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGoldenRecords: every record that a release has stored decodes for ever, to the same status, and nothing of it is lost
// when it is stored again.
func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	if *writeGolden {
		for name, r := range goldenRecords(t) {
			writeGoldenRecord(t, name, r)
		}
	}
	files, err := filepath.Glob("testdata/records/v1-*.json")
	if err != nil || len(files) < len(goldenRecords(t)) {
		t.Fatalf("%d golden records: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			body := readGolden(t, file)
			var head struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(body, &head); err != nil {
				t.Fatal(err)
			}
			r, err := decodeRecord(store.Record{Key: store.Key{Kind: kindSandbox, ID: head.ID}, Rev: 1, Body: body})
			if err != nil {
				t.Fatal(err)
			}
			again, err := r.encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(body), string(again)); diff != "" {
				t.Errorf("stored again it is another (-golden +now):\n%s", diff)
			}
			status, err := json.MarshalIndent(r.status(), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(readGolden(t, strings.Replace(file, "/v1-", "/status-", 1))), string(status)); diff != "" {
				t.Errorf("the status (-golden +now):\n%s", diff)
			}
		})
	}
}

func writeGoldenRecord(t *testing.T, name string, r *record) {
	t.Helper()
	body, err := r.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	status, err := json.MarshalIndent(r.status(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{"v1-" + name: body, "status-" + name: status} {
		f, err := os.OpenFile(filepath.Join("testdata", "records", path+".json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			t.Log(err)
			continue
		}
		if _, err := f.Write(append(text, '\n')); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func readGolden(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimSuffix(string(b), "\n"))
}
