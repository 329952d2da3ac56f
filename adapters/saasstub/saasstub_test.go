package saasstub_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
	"github.com/sand-boxer/sandboxer/internal/canary"
	"github.com/sand-boxer/sandboxer/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const owner = "tests.store-1"

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return c.t
}

type stub struct {
	sandboxer.Extension
	sandboxer.Finder
	sandboxer.Lister
	sandboxer.Snapshotter
	sandboxer.Meterer
	sandboxer.Inspector
	sandboxer.Extender
	sandboxer.Pauser
	sandboxer.Preflighter
}

// open builds the extension, and fails unless all capabilities that the manifest names are there.
func open(t testing.TB, o saasstub.Options, config sandboxer.Inputs) stub {
	t.Helper()
	ext, err := saasstub.New(o).New(t.Context(), sandboxer.Settings{ExtensionID: "ext.saasstub", Config: config})
	if err != nil {
		t.Fatal(err)
	}
	s := stub{Extension: ext}
	var ok [8]bool
	s.Finder, ok[0] = sandboxer.As[sandboxer.Finder](ext)
	s.Lister, ok[1] = sandboxer.As[sandboxer.Lister](ext)
	s.Snapshotter, ok[2] = sandboxer.As[sandboxer.Snapshotter](ext)
	s.Meterer, ok[3] = sandboxer.As[sandboxer.Meterer](ext)
	s.Inspector, ok[4] = sandboxer.As[sandboxer.Inspector](ext)
	s.Extender, ok[5] = sandboxer.As[sandboxer.Extender](ext)
	s.Pauser, ok[6] = sandboxer.As[sandboxer.Pauser](ext)
	s.Preflighter, ok[7] = sandboxer.As[sandboxer.Preflighter](ext)
	if ok != [8]bool{true, true, true, true, true, true, true, true} {
		t.Fatalf("capabilities: %v", ok)
	}
	return s
}

func request(id sandboxer.ID) *sandboxer.ProvisionRequest {
	return &sandboxer.ProvisionRequest{
		ID: id, Attempt: 1, Name: string(id), Consumer: sandboxer.Consumer{ID: "test"},
		Profile: sandboxer.Profile{ID: "profile.saasstub", Extension: "ext.saasstub", Resources: sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30}},
		Labels:  map[string]string{sandboxer.LabelID: string(id), sandboxer.LabelName: string(id), sandboxer.LabelOwner: owner},
	}
}

func target(h sandboxer.Handle) sandboxer.Target {
	return sandboxer.Target{Handle: h, Labels: map[string]string{sandboxer.LabelOwner: owner}}
}

func made(t testing.TB, s stub, req *sandboxer.ProvisionRequest) sandboxer.Target {
	t.Helper()
	h, err := s.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return target(h)
}

func wantCode(t testing.TB, err error, want sandboxer.Code) {
	t.Helper()
	if got := sandboxer.CodeOf(err); got != want {
		t.Errorf("code %q (%v), want %q", got, err, want)
	}
}

func money(t testing.TB, s string) sandboxer.Money {
	t.Helper()
	m, err := sandboxer.ParseMoney(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestManifest: the documents load, and declare exactly what there is.
func TestManifest(t *testing.T) {
	t.Parallel()
	a := saasstub.Adapter()
	reg, err := registry.New(registry.WithAdapters(a))
	if err != nil {
		t.Fatal(err)
	}
	m, err := reg.Manifest("ext.saasstub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Profile("profile.saasstub"); err != nil {
		t.Error(err)
	}
	ext, err := a.New(t.Context(), sandboxer.Settings{ExtensionID: m.ID, Config: m.Config})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.Capabilities.Features, sandboxer.Capabilities(ext)); diff != "" {
		t.Errorf("declared and offered (-declared +offered):\n%s", diff)
	}
	if m.Capabilities.PricingModel != sandboxer.PricingMetered {
		t.Errorf("pricing model %q", m.Capabilities.PricingModel)
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	s := open(t, saasstub.Options{}, nil)
	for _, tc := range []struct {
		name  string
		r     sandboxer.Resources
		d     time.Duration
		total string
	}{
		{"an hour of two vCPUs and 4 GiB", sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30}, time.Hour, "0.1656 USD"},
		{"defaults", sandboxer.Resources{}, time.Second, "0.0000185 USD"},
		{"nothing", sandboxer.Resources{}, 0, "0.00 USD"},
		{"half a vCPU for a millisecond", sandboxer.Resources{CPUMillis: 500, MemoryBytes: 512 << 20}, time.Millisecond, "0.000000009 USD"},
		{"ten years", sandboxer.Resources{CPUMillis: 64_000, MemoryBytes: 256 << 30}, 87600 * time.Hour, "645857.28 USD"},
	} {
		q, err := s.EstimateCost(t.Context(), sandboxer.Profile{Resources: tc.r}, tc.d)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if q.Total != money(t, tc.total) || q.PriceList != "saasstub 2026-11-01" || q.For != tc.d {
			t.Errorf("%s: %v for %v by %q, want %s", tc.name, q.Total, q.For, q.PriceList, tc.total)
		}
	}
	_, err := s.EstimateCost(t.Context(), sandboxer.Profile{}, sandboxer.NoTTL)
	wantCode(t, err, sandboxer.InvalidArgument)
	_, err = s.EstimateCost(t.Context(), sandboxer.Profile{Resources: sandboxer.Resources{MemoryBytes: math.MaxInt64}}, math.MaxInt64)
	wantCode(t, err, sandboxer.InvalidArgument)
}

func TestSnapshotKeepsMetadata(t *testing.T) {
	t.Parallel()
	service := saasstub.NewService()
	s, again := open(t, saasstub.Options{Service: service}, nil), open(t, saasstub.Options{Service: service}, nil)
	req := request("one")
	req.Inputs = sandboxer.Inputs{"template": "go", "metadata": map[string]any{"branch": "main"}}
	sbx := made(t, s, req)
	take := sandboxer.SnapshotRequest{ID: "snap-1", Name: "before", Labels: map[string]string{sandboxer.LabelOwner: owner}}
	snap, err := s.Snapshot(t.Context(), sbx, take)
	if err != nil {
		t.Fatal(err)
	}
	same, err := again.Snapshot(t.Context(), sbx, take)
	if diff := cmp.Diff(snap, same); err != nil || diff != "" {
		t.Errorf("the same ID again: %v\n%s", err, diff)
	}
	if snap.Kind != "metadata" || snap.Status != sandboxer.SnapshotReady || snap.Digest == "" {
		t.Errorf("snapshot %+v", snap)
	}
	if _, err := s.Teardown(t.Context(), sbx); err != nil {
		t.Fatal(err)
	}
	h, err := again.Restore(t.Context(), request("two"), snap)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := service.Metadata("two"); !ok || got["branch"] != "main" {
		t.Errorf("restored metadata %v, %v", got, ok)
	}
	var listed []string
	for got, err := range s.ListSnapshots(t.Context(), sandboxer.ListQuery{Labels: map[string]string{sandboxer.LabelOwner: owner}}) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, got.ID)
	}
	if diff := cmp.Diff([]string{"snap-1"}, listed); diff != "" {
		t.Error(diff)
	}
	foreign := sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "snap-1", Labels: map[string]string{sandboxer.LabelOwner: "other"}}}
	if err := s.DeleteSnapshot(t.Context(), foreign); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"snapshot/snap-1", "two"}, service.Live()); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := s.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "snap-1"}}); err != nil {
			t.Error(err)
		}
	}
	_, err = s.Restore(t.Context(), request("three"), snap)
	wantCode(t, err, sandboxer.NotFound)
	if _, err := s.Teardown(t.Context(), target(sandboxer.BareHandle(h.Ref()))); err != nil {
		t.Error(err)
	}
	if live := service.Live(); len(live) > 0 {
		t.Errorf("leaked: %v", live)
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	s := open(t, saasstub.Options{}, nil)
	sbx := made(t, s, request("one"))
	req := request("one")
	req.Labels = map[string]string{sandboxer.LabelOwner: "other.store"}
	_, err := s.Provision(t.Context(), req)
	wantCode(t, err, sandboxer.AlreadyExists)
	_, err = s.Find(t.Context(), req, time.Time{})
	wantCode(t, err, sandboxer.NotFound)
	theirs := sandboxer.Target{Handle: sbx.Handle, Labels: req.Labels}
	if r, err := s.Teardown(t.Context(), theirs); err != nil || len(r.Removed) > 0 {
		t.Errorf("teardown by another owner: %+v, %v", r, err)
	}
	found, err := s.Find(t.Context(), request("one"), time.Time{})
	if err != nil || found != sbx.Handle {
		t.Errorf("found %v, %v", found, err)
	}
	n := 0
	for in, err := range s.List(t.Context(), sandboxer.ListQuery{}) {
		if err != nil || in.Labels[sandboxer.LabelOwner] != owner {
			t.Errorf("listed %+v, %v", in, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d listed", n)
	}
}

// TestAnotherKey: what was made with one key is not found with another, and no call says that it is gone, as all once did.
func TestAnotherKey(t *testing.T) {
	t.Parallel()
	s := open(t, saasstub.Options{}, sandboxer.Inputs{"api_key": "env:STUB_KEY"})
	with := func(version, value string) sandboxer.SecretFunc {
		return func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
			return sandboxer.NewSecret([]byte(value), version), nil
		}
	}
	req := request("one")
	wantCode(t, s.Preflight(t.Context(), req), sandboxer.Unauthenticated)
	req.Secret = with("v1", "")
	wantCode(t, s.Preflight(t.Context(), req), sandboxer.Unauthenticated)
	req.Secret = with("v1", canary.Key("one"))
	sbx := made(t, s, req)
	sbx.Secret = req.Secret
	owned := map[string]string{sandboxer.LabelOwner: owner}
	snap, err := s.Snapshot(t.Context(), sbx, sandboxer.SnapshotRequest{ID: "snap-1", Name: "snap-1", Labels: owned})
	if err != nil {
		t.Fatal(err)
	}
	foreign := with("v2", canary.Key("two"))
	theirs := sbx
	theirs.Secret = foreign
	again, two := *req, request("two")
	again.Secret, two.Secret = foreign, foreign
	for name, call := range map[string]func() error{
		"Find":        func() error { _, err := s.Find(t.Context(), &again, time.Time{}); return err },
		"WaitReady":   func() error { _, err := s.WaitReady(t.Context(), theirs); return err },
		"Inspect":     func() error { _, err := s.Inspect(t.Context(), theirs); return err },
		"Extend":      func() error { _, err := s.Extend(t.Context(), theirs, time.Time{}); return err },
		"Pause":       func() error { return s.Pause(t.Context(), theirs) },
		"MeterActual": func() error { _, err := s.MeterActual(t.Context(), theirs); return err },
		"Teardown":    func() error { _, err := s.Teardown(t.Context(), theirs); return err },
		"Restore":     func() error { _, err := s.Restore(t.Context(), two, snap); return err },
		"DeleteSnapshot": func() error {
			return s.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: snap, Secret: foreign})
		},
	} {
		if err := call(); sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
			t.Errorf("%s: %v, want Unauthenticated", name, err)
		}
	}
	if _, err := s.Teardown(t.Context(), sbx); err != nil {
		t.Error(err)
	}
	_, err = s.MeterActual(t.Context(), theirs)
	wantCode(t, err, sandboxer.Unauthenticated)
	if r, err := s.MeterActual(t.Context(), sbx); err != nil || !r.Final {
		t.Errorf("the meter of what was removed: %+v, %v", r, err)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	service := saasstub.NewService()
	s := open(t, saasstub.Options{Service: service}, nil)
	for _, in := range []sandboxer.Inputs{{"tmplate": "go"}, {"template": 5}, {"metadata": "x"}} {
		req := request("one")
		req.Inputs = in
		wantCode(t, s.Preflight(t.Context(), req), sandboxer.InvalidArgument)
		_, err := s.Provision(t.Context(), req)
		wantCode(t, err, sandboxer.InvalidArgument)
	}
	if live := service.Live(); len(live) > 0 {
		t.Errorf("made %v", live)
	}
	_, err := saasstub.Adapter().New(t.Context(), sandboxer.Settings{ExtensionID: "ext.saasstub", Config: sandboxer.Inputs{"region": "eu"}})
	wantCode(t, err, sandboxer.InvalidArgument)
	newer, err := sandboxer.NewHandle(request("one").Ref(), 2, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Teardown(t.Context(), target(newer))
	wantCode(t, err, sandboxer.FailedPrecondition)
	_, err = s.Teardown(t.Context(), sandboxer.Target{})
	wantCode(t, err, sandboxer.InvalidArgument)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Provision(over, request("one"))
	wantCode(t, err, sandboxer.Canceled)
}

func TestExtendNeverShortens(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, saasstub.Options{Now: c.Now}, nil)
	req := request("one")
	req.ExpiresAt = c.Now().Add(time.Hour)
	sbx := made(t, s, req)
	for _, tc := range []struct{ ask, want time.Time }{
		{req.ExpiresAt.Add(-time.Minute), req.ExpiresAt},
		{req.ExpiresAt.Add(time.Hour), req.ExpiresAt.Add(time.Hour)},
	} {
		got, err := s.Extend(t.Context(), sbx, tc.ask)
		if err != nil || !got.Equal(tc.want) {
			t.Errorf("Extend to %v granted %v, %v; want %v", tc.ask, got, err, tc.want)
		}
	}
	r, err := s.WaitReady(t.Context(), sbx)
	if err != nil || !r.ExpiresAt.Equal(req.ExpiresAt.Add(time.Hour)) {
		t.Errorf("reachability %+v, %v", r, err)
	}
}
