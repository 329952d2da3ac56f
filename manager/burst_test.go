package manager_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

var stateReady = manager.Filter{States: []sandboxer.State{sandboxer.StateReady}}

// clouds are two more backends that a create may burst to: a weakly isolated one, and one that bills.
func (w *world) clouds() (weak, cloud *fake.Backend) {
	weak, cloud = fake.New(), fake.New()
	w.adapters = []sandboxer.Adapter{
		w.backend.Adapter(w.caps...), weak.InPlaceOf("weak", sandboxer.CapExec), cloud.InPlaceOf("cloud", sandboxer.CapMeter, sandboxer.CapSnapshot),
	}
	w.yaml["ext.weak.yaml"] = "id: ext.weak\ntitle: Weak\nhandler: weak\ncapabilities: {isolation_levels: [process, container], pricing_model: free}\n"
	w.yaml["ext.cloud.yaml"] = "id: ext.cloud\ntitle: Cloud\nhandler: cloud\ncapabilities: {isolation_levels: [microvm], pricing_model: metered}\ninputs: {optional: [template, size]}\n"
	return weak, cloud
}

// place is what an attempt says of where it was.
type place struct {
	N         int
	Profile   string
	Extension string
	Code      sandboxer.Code
}

func places(s sandboxer.SandboxStatus) (out []place) {
	for _, a := range s.Attempts {
		out = append(out, place{a.N, a.Profile, a.Extension, a.Code})
	}
	return out
}

func usd(t testing.TB, s string) *sandboxer.Money {
	t.Helper()
	m, err := sandboxer.ParseMoney(s + " USD")
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// TestBurst: where a create goes when its first choice cannot serve it, and where not; all of it on record.
func TestBurst(t *testing.T) {
	t.Parallel()
	first := place{1, "profile.first", "ext.fake", sandboxer.Unavailable}
	for name, c := range map[string]struct {
		policy    sandboxer.BurstPolicy
		isolation sandboxer.IsolationLevel
		inputs    sandboxer.Inputs
		fault     error
		code      sandboxer.Code
		want      []place
		reasons   []string
	}{
		"the first that serves": {
			want: []place{first, {2, "profile.weak", "ext.weak", ""}},
		},
		"another code": {
			fault: sandboxer.Refused(sandboxer.PermissionDenied, errors.New("no")),
			code:  sandboxer.PermissionDenied,
			want:  []place{{1, "profile.first", "ext.fake", sandboxer.PermissionDenied}},
		},
		"another code that the policy names": {
			policy: sandboxer.BurstPolicy{On: []sandboxer.Code{sandboxer.PermissionDenied}},
			fault:  sandboxer.Refused(sandboxer.PermissionDenied, errors.New("no")),
			want:   []place{{1, "profile.first", "ext.fake", sandboxer.PermissionDenied}, {2, "profile.weak", "ext.weak", ""}},
		},
		"a bad key is no reason to spend money elsewhere": {
			fault: sandboxer.Refused(sandboxer.Unauthenticated, errors.New("revoked")),
			code:  sandboxer.Unauthenticated,
			want:  []place{{1, "profile.first", "ext.fake", sandboxer.Unauthenticated}},
		},
		"too weakly isolated": {
			isolation: sandboxer.IsolationContainer,
			want:      []place{first, {0, "profile.weak", "ext.weak", sandboxer.FailedPrecondition}, {2, "profile.cloud", "ext.cloud", ""}},
			reasons:   []string{"process", "container"},
		},
		"too dear": {
			isolation: sandboxer.IsolationContainer,
			policy:    sandboxer.BurstPolicy{MaxCost: usd(t, "0.01")},
			code:      sandboxer.Unavailable,
			want: []place{
				first, {0, "profile.weak", "ext.weak", sandboxer.FailedPrecondition}, {0, "profile.cloud", "ext.cloud", sandboxer.BudgetExceeded},
			},
			reasons: []string{"0.01 USD", "burst policy"},
		},
		"dear, but allowed": {
			isolation: sandboxer.IsolationContainer,
			policy:    sandboxer.BurstPolicy{MaxCost: usd(t, "1")},
			want:      []place{first, {0, "profile.weak", "ext.weak", sandboxer.FailedPrecondition}, {2, "profile.cloud", "ext.cloud", ""}},
		},
		"an input that the target does not take": {
			policy:  sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.cloud", Inputs: map[string]string{"files": "flies"}}}},
			inputs:  sandboxer.Inputs{"files": map[string]string{"a": "b"}},
			code:    sandboxer.Unavailable,
			want:    []place{first, {0, "profile.cloud", "", sandboxer.InvalidArgument}},
			reasons: []string{`"flies"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				weak, cloud := w.clouds()
				policy := c.policy
				if policy.To == nil {
					policy.To = []sandboxer.BurstTarget{{Profile: "profile.weak"}, {Profile: "profile.cloud"}}
				}
				w.profiles = []sandboxer.Profile{
					{ID: "profile.first", Extension: "ext.fake", Isolation: c.isolation, Burst: &policy},
					{ID: "profile.weak", Extension: "ext.weak"},
					{ID: "profile.cloud", Extension: "ext.cloud"},
				}
				w.cfg.Retries = -1
				fault := c.fault
				if fault == nil {
					fault = errBusy
				}
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: fault})
				m := w.open()
				req := ask("a")
				req.Profile, req.Inputs = "profile.first", c.inputs
				_, err := m.Create(context.Background(), req)
				wantCode(t, err, c.code)
				s := status(t, m, "a")
				if diff := cmp.Diff(c.want, places(s)); diff != "" {
					t.Errorf("places (-want +got):\n%s", diff)
				}
				all := ""
				for _, a := range s.Attempts {
					all += a.Reason + "\n"
				}
				if c.reasons != nil {
					wantText(t, errors.New(all), c.reasons...)
				}
				if err != nil {
					for _, a := range s.Attempts {
						wantText(t, err, a.Reason)
					}
					w.wantLive()
				}
				if n := len(weak.Live()) + len(cloud.Live()); (n == 1) != (err == nil) {
					t.Errorf("%d live elsewhere, with %v", n, err)
				}
			})
		})
	}
}

// TestBurstInputs: the request's inputs reach the target under the names that the policy gives them, and no others do.
func TestBurstInputs(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.clouds()
		w.yaml["ext.mine.yaml"] = "id: ext.mine\ntitle: Mine\nhandler: mine\ncapabilities: {isolation_levels: [vm], pricing_model: free}\ninputs: {optional: [image, secret_sauce, size]}\n"
		mine := fake.New()
		mine.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy})
		w.adapters = append(w.adapters, mine.InPlaceOf("mine", sandboxer.CapExec))
		w.profiles = []sandboxer.Profile{
			{ID: "profile.first", Extension: "ext.mine", Inputs: sandboxer.Inputs{"size": "small"}, TTL: 2 * time.Hour, Burst: &sandboxer.BurstPolicy{
				To: []sandboxer.BurstTarget{{Profile: "profile.cloud", Inputs: map[string]string{"image": "template", "size": "size"}}},
			}},
			{ID: "profile.cloud", Extension: "ext.cloud", TTL: time.Minute, Inputs: sandboxer.Inputs{"size": "huge"}},
		}
		var got sandboxer.Profile
		build := w.adapters[2].New
		w.adapters[2].New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			ext, err := build(ctx, s)
			return &watcher{Extension: ext, saw: func(req *sandboxer.ProvisionRequest) { got = req.Profile }}, err
		}
		m := w.open()
		req := ask("a")
		req.Profile, req.Inputs = "profile.first", sandboxer.Inputs{"image": "go", "secret_sauce": "mustard"}
		created(t, m, req)
		want := sandboxer.Profile{
			ID: "profile.cloud", Extension: "ext.cloud", TTL: 2 * time.Hour, Inputs: sandboxer.Inputs{"template": "go", "size": "small"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what the target was asked for (-want +got):\n%s", diff)
		}
		if s := status(t, m, "a"); s.Quote == nil || s.Quote.For != 2*time.Hour || time.Until(s.ExpiresAt) != 2*time.Hour || s.Profile != "profile.first" {
			t.Errorf("status %+v", s)
		}
	})
}

type watcher struct {
	sandboxer.Extension
	saw func(*sandboxer.ProvisionRequest)
}

func (x *watcher) Unwrap() sandboxer.Extension { return x.Extension }

func (x *watcher) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	x.saw(req)
	return x.Extension.Provision(ctx, req)
}

// TestBurstWithin: a first choice that is too slow, on however many hosts, is removed before the next is tried.
func TestBurstWithin(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t).withHosts(sandboxer.Host{ID: "h1"}, sandboxer.Host{ID: "h2"}, sandboxer.Host{ID: "h3"})
		weak, _ := w.clouds()
		w.profiles = []sandboxer.Profile{
			{ID: "profile.first", Extension: "ext.fake", Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.weak"}}, Within: 20 * time.Second}},
			{ID: "profile.weak", Extension: "ext.weak"},
		}
		w.backend.Behave(fake.Behaviour{ReadyAfter: time.Hour})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Host: "h1", Delay: 15 * time.Second, Err: errBusy})
		weak.Behave(fake.Behaviour{ReadyAfter: time.Minute}) // has as long as it takes
		m := w.open()
		begun := time.Now()
		req := ask("a")
		req.Profile = "profile.first"
		created(t, m, req)
		if took := time.Since(begun); took != 80*time.Second {
			t.Errorf("took %v, want 20 s for the first choice and a minute for the next", took)
		}
		w.wantLive()
		want := []place{
			{1, "profile.first", "ext.fake", sandboxer.Unavailable}, {2, "profile.first", "ext.fake", sandboxer.Unavailable}, {3, "profile.weak", "ext.weak", ""},
		}
		if diff := cmp.Diff(want, places(status(t, m, "a"))); diff != "" {
			t.Errorf("places (-want +got):\n%s", diff)
		}
	})
}

// TestBurstMaxCostWithoutEnd: what a sandbox without an end costs has no limit, so a policy with one goes to no place that
// bills, however dear it may be. It was seen to fail where an hour's price was compared.
func TestBurstMaxCostWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, tune := range map[string]func(*world, *sandboxer.CreateRequest){
		"the profile's": func(w *world, _ *sandboxer.CreateRequest) { w.profiles[0].TTL = sandboxer.NoTTL },
		"the request's": func(_ *world, req *sandboxer.CreateRequest) { req.TTL = sandboxer.NoTTL },
		"the Manager's": func(w *world, _ *sandboxer.CreateRequest) { w.cfg.DefaultTTL = sandboxer.NoTTL },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t)
				w.clouds()
				w.profiles = []sandboxer.Profile{
					{ID: "profile.first", Extension: "ext.fake", Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.cloud"}, {Profile: "profile.weak"}}, MaxCost: usd(t, "100")}},
					{ID: "profile.cloud", Extension: "ext.cloud", TTL: time.Hour},
					{ID: "profile.weak", Extension: "ext.weak"},
				}
				req := ask("a")
				req.Profile = "profile.first"
				tune(w, &req)
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy})
				m := w.open()
				created(t, m, req)
				s := status(t, m, "a")
				want := []place{
					{1, "profile.first", "ext.fake", sandboxer.Unavailable}, {0, "profile.cloud", "ext.cloud", sandboxer.BudgetExceeded}, {2, "profile.weak", "ext.weak", ""},
				}
				if diff := cmp.Diff(want, places(s)); diff != "" {
					t.Errorf("places (-want +got):\n%s", diff)
				}
				wantText(t, errors.New(s.Attempts[1].Reason), "without a time to live", "burst policy of profile.first", "100.00 USD")
				qs, err := m.Estimate(context.Background(), req)
				if err != nil || len(qs) != 3 || !strings.Contains(qs[1].Skipped, "without a time to live") {
					t.Errorf("estimate %+v, %v", qs, err)
				}
			})
		})
	}
}

// payless is a source of keys that has none to give.
type payless struct{ err error }

func (s payless) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{}, s.err
}

func (s payless) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	return sandboxer.Secret{}, s.err
}

// TestBurstFromNothingBegun: a first choice that cannot be asked at all is passed over like one that is full, under the same
// policy; Estimate says the same of it as Create. It was seen to fail where only a place that was asked led to another.
func TestBurstFromNothingBegun(t *testing.T) {
	t.Parallel()
	dear := fake.Fault{Op: sandboxer.OpEstimateCost, Err: sandboxer.Mark(sandboxer.Unavailable, errors.New("no prices today"))}
	unavailable := sandboxer.Refused(sandboxer.Unavailable, errors.New("the vault is sealed"))
	keyless := sandboxer.Refused(sandboxer.Unauthenticated, errors.New("no key"))
	for name, c := range map[string]struct {
		on      []sandboxer.Code
		fault   fake.Fault
		payer   error
		useless bool // the adapter does not work here
		maxCost string
		alone   bool // no target serves either
		code    sandboxer.Code
		reason  string
	}{
		"no price":                           {fault: dear, reason: "no prices today"},
		"no key can be asked for":            {payer: unavailable, reason: "the vault is sealed"},
		"no key":                             {payer: keyless, code: sandboxer.Unauthenticated, reason: "no key"},
		"no key, and the policy names that":  {payer: keyless, on: []sandboxer.Code{sandboxer.Unauthenticated}, reason: "no key"},
		"not on this system":                 {useless: true, code: sandboxer.Unsupported, reason: "another system"},
		"the policy names that":              {useless: true, on: []sandboxer.Code{sandboxer.Unsupported}, reason: "another system"},
		"only that":                          {fault: dear, on: []sandboxer.Code{sandboxer.Unsupported}, code: sandboxer.Unavailable, reason: "no prices today"},
		"nowhere":                            {fault: dear, alone: true, code: sandboxer.Unavailable, reason: "no prices today"},
		"nowhere, and not on this system":    {useless: true, on: []sandboxer.Code{sandboxer.Unsupported}, alone: true, code: sandboxer.Unsupported, reason: "another system"},
		"too dear, and the policy names not": {maxCost: "0.001", code: sandboxer.BudgetExceeded, reason: "CreateRequest.MaxCost"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapMeter)
				w.clouds()
				w.profiles = []sandboxer.Profile{
					{ID: "profile.first", Extension: "ext.fake", TTL: 2 * time.Hour, Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.weak"}}, On: c.on}},
					{ID: "profile.weak", Extension: "ext.weak"},
				}
				if c.alone {
					w.profiles[0].Isolation = sandboxer.IsolationContainer
				}
				if c.payer != nil {
					w.adapters[0].Credentials = []string{"key"}
					w.adapters[0].Manifest = append(w.adapters[0].Manifest, "config: {key: env:KEY}\n"...)
					w.cfg.Secrets = payless{c.payer}
				}
				if c.useless {
					w.adapters[0].New = func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) {
						return nil, sandboxer.Mark(sandboxer.Unsupported, errors.New("needs another system"))
					}
				}
				m := w.open()
				if c.fault.Op != "" {
					w.backend.Fail(c.fault)
				}
				req := ask("a")
				req.Profile = "profile.first"
				if c.maxCost != "" {
					req.MaxCost = usd(t, c.maxCost)
				}
				_, err := m.Create(context.Background(), req)
				wantCode(t, err, c.code)
				qs, estimateErr := m.Estimate(context.Background(), req)
				if c.code != "" {
					wantText(t, err, c.reason)
					if !sandboxer.IsRefused(err) {
						t.Errorf("it does not say that nothing was done: %v", err)
					}
					if c.alone {
						wantText(t, err, "profile.first", "profile.weak")
					}
					if c.maxCost == "" { // what is too dear is listed, with its price
						wantCode(t, estimateErr, c.code)
					}
					w.wantLive()
					return
				}
				s := status(t, m, "a")
				want := []place{{0, "profile.first", "ext.fake", s.Attempts[0].Code}, {1, "profile.weak", "ext.weak", ""}}
				if diff := cmp.Diff(want, places(s)); diff != "" {
					t.Errorf("places (-want +got):\n%s", diff)
				}
				wantText(t, errors.New(s.Attempts[0].Reason), c.reason)
				if time.Until(s.ExpiresAt) != 2*time.Hour {
					t.Errorf("expires at %v, in another time than the first profile's", s.ExpiresAt)
				}
				if estimateErr != nil || len(qs) != 2 || !strings.Contains(qs[0].Skipped, c.reason) || qs[1].Skipped != "" {
					t.Errorf("estimate %+v, %v", qs, estimateErr)
				}
			})
		})
	}
}

// TestMaxCost: a create that is too dear is refused before anything happens, and Estimate says so in advance.
func TestMaxCost(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		w.clouds()
		w.profiles = []sandboxer.Profile{
			{ID: "profile.cloud", Extension: "ext.cloud"},
			{ID: "profile.first", Extension: "ext.fake", Isolation: sandboxer.IsolationContainer, Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.weak"}, {Profile: "profile.cloud"}}}},
			{ID: "profile.weak", Extension: "ext.weak"},
		}
		m := w.open()
		req := ask("a")
		req.Profile, req.MaxCost = "profile.cloud", usd(t, "0.001")
		w.journal.take()
		_, err := m.Create(context.Background(), req)
		wantCode(t, err, sandboxer.BudgetExceeded)
		wantText(t, err, "1h0m0s", "0.001 USD", "CreateRequest.MaxCost")
		w.wantJournal("estimate-cost")
		req.TTL, req.MaxCost = sandboxer.NoTTL, usd(t, "100")
		_, err = m.Create(context.Background(), req)
		wantCode(t, err, sandboxer.BudgetExceeded)
		wantText(t, err, "TTL")
		qs, err := m.Estimate(context.Background(), req)
		if err != nil || len(qs) != 1 || !strings.Contains(qs[0].Skipped, "TTL") {
			t.Errorf("estimate of a sandbox without an end: %+v, %v", qs, err)
		}

		req.Profile, req.TTL, req.MaxCost = "profile.first", 0, usd(t, "0.001")
		qs, err = m.Estimate(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		var got []place
		for _, q := range qs {
			p := place{Profile: q.Profile, Extension: q.Extension}
			if q.Skipped != "" {
				p.Code = "skipped"
			}
			if (q.Total.Nanos() > 0) != (q.Extension == "ext.cloud") {
				t.Errorf("quote %+v", q)
			}
			got = append(got, p)
		}
		want := []place{{0, "profile.first", "ext.fake", ""}, {0, "profile.weak", "ext.weak", "skipped"}, {0, "profile.cloud", "ext.cloud", "skipped"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("estimate (-want +got):\n%s", diff)
		}
		w.wantLive()
	})
}
