package manager_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestBadConfig: everything that is wrong is named at once, with what to do.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	_, err := manager.New(context.Background(), manager.Config{
		Owner:        "Not A Label",
		Hosts:        []sandboxer.Host{{}, {ID: "h1", MaxSandboxes: -1}, {ID: "twice"}, {ID: "twice"}, {ID: "nul\x00"}, {ID: strings.Repeat("x", 200)}, {ID: "cut \xff off"}},
		ReadyTimeout: -1, TeardownTimeout: -1, RecoverTimeout: -1, ReapGrace: -1, Keep: -1, DefaultTTL: -2,
	})
	wantCode(t, err, sandboxer.InvalidArgument)
	wantText(t, err, "Registry is nil", "registry.New", "Store is nil", "boltstore.Open", `"Not A Label"`, "Hosts[0] has no ID", "Hosts[6]: an ID", "h1: MaxSandboxes is -1",
		`called "twice"`, "Hosts[4]", "Hosts[5]", "ReadyTimeout", "TeardownTimeout", "RecoverTimeout", "ReapGrace", "Keep", "DefaultTTL", "NoTTL")
}

// TestBadExtensions: what is declared and not so is refused when the Manager is built, all of it at once.
func TestBadExtensions(t *testing.T) {
	t.Parallel()
	b := fake.New()
	adapter := func(name string, caps ...sandboxer.Capability) sandboxer.Adapter { return b.InPlaceOf(name, caps...) }
	fails := sandboxer.Adapter{Handler: "fails", New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) {
		return nil, errors.New("no such file: /etc/backend.conf")
	}}
	nothing := sandboxer.Adapter{Handler: "nothing", New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) { return nil, nil }}
	manifest := func(name, capabilities string) registry.Option {
		return registry.WithYAML("ext."+name+".yaml", []byte("id: ext."+name+"\ntitle: T\nhandler: "+name+"\ncapabilities: {isolation_levels: [vm], "+capabilities+"}\n"))
	}
	reg, err := registry.New(
		registry.WithAdapters(adapter("less", sandboxer.CapExec), adapter("more", sandboxer.CapExec, sandboxer.CapPause), adapter("bills", sandboxer.CapExec),
			adapter("weak", sandboxer.CapExec), fails, nothing),
		manifest("less", "pricing_model: free, features: [exec, pause]"), manifest("more", "pricing_model: free, features: [exec]"),
		manifest("bills", "pricing_model: metered"), manifest("fails", "pricing_model: free"), manifest("nothing", "pricing_model: free"),
		manifest("weak", "pricing_model: free"),
		registry.WithProfiles(
			sandboxer.Profile{ID: "profile.needs", Extension: "ext.weak", Requires: []sandboxer.Capability{sandboxer.CapSnapshot}},
			sandboxer.Profile{ID: "profile.bursts", Extension: "ext.more", Requires: []sandboxer.Capability{sandboxer.CapExec}, Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.plain"}}}},
			sandboxer.Profile{ID: "profile.plain", Extension: "ext.weak"},
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	_, err = manager.New(context.Background(), manager.Config{Registry: reg, Store: store.Memory()})
	wantCode(t, err, sandboxer.InvalidArgument)
	wantText(t, err,
		"ext.less: capabilities.features declares pause", "ext.more: capabilities.features does not declare pause", "ext.bills: pricing_model is metered",
		"ext.fails: no such file", "ext.nothing", `profile.needs requires "snapshot", which ext.weak cannot do`)
}

// TestNotHere: an extension that does not work on this platform refuses creates, not the Manager.
func TestNotHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.adapters = []sandboxer.Adapter{w.backend.Adapter(plain...), {Handler: "elsewhere", New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) {
		return nil, sandboxer.Mark(sandboxer.Unsupported, errors.New("needs another system"))
	}}}
	w.yaml["ext.elsewhere.yaml"] = "id: ext.elsewhere\ntitle: T\nhandler: elsewhere\ncapabilities: {isolation_levels: [vm], pricing_model: free}\n"
	w.profiles = []sandboxer.Profile{{ID: "profile.elsewhere", Extension: "ext.elsewhere"}}
	m := w.open()
	created(t, m, ask("a"))
	req := ask("b")
	req.Profile = "profile.elsewhere"
	_, err := m.Create(context.Background(), req)
	wantCode(t, err, sandboxer.Unsupported)
	wantText(t, err, "ext.elsewhere", "needs another system")
}

// TestBadRequests: a request that cannot be served is refused before anything is stored, called or created.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.open()
	for name, c := range map[string]struct {
		change func(*sandboxer.CreateRequest)
		code   sandboxer.Code
		text   []string
	}{
		"no profile":            {func(r *sandboxer.CreateRequest) { r.Profile = "" }, sandboxer.InvalidArgument, []string{"CreateRequest.Profile"}},
		"unknown profile":       {func(r *sandboxer.CreateRequest) { r.Profile = "profile.fakes" }, sandboxer.NotFound, []string{`"profile.fakes"`, `"profile.fake"`}},
		"no consumer":           {func(r *sandboxer.CreateRequest) { r.Consumer.ID = "" }, sandboxer.InvalidArgument, []string{"consumer.id"}},
		"unknown input":         {func(r *sandboxer.CreateRequest) { r.Inputs = sandboxer.Inputs{"fils": nil, "flies": 1} }, sandboxer.InvalidArgument, []string{`"flies"`, `"files"`}},
		"input that is no data": {func(r *sandboxer.CreateRequest) { r.Inputs = sandboxer.Inputs{"files": func() {}} }, sandboxer.InvalidArgument, []string{"Inputs"}},
		"reserved label":        {func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{sandboxer.LabelOwner: "me"} }, sandboxer.InvalidArgument, []string{"reserved"}},
		"negative TTL":          {func(r *sandboxer.CreateRequest) { r.TTL = -2 }, sandboxer.InvalidArgument, []string{"TTL", "NoTTL"}},
		"TTL without a unit":    {func(r *sandboxer.CreateRequest) { r.TTL = 30 }, sandboxer.InvalidArgument, []string{"30ns", "30*time.Second"}},
		"endless TTL":           {func(r *sandboxer.CreateRequest) { r.TTL = 1<<63 - 1 }, sandboxer.InvalidArgument, []string{"TTL", "NoTTL"}},
		"everything": {func(r *sandboxer.CreateRequest) { *r = sandboxer.CreateRequest{ID: "NO", TTL: -5} }, sandboxer.InvalidArgument,
			[]string{"Profile", "NO", "consumer.id", "TTL"}},
	} {
		req := ask("a")
		c.change(&req)
		_, err := m.Create(context.Background(), req)
		if sandboxer.CodeOf(err) != c.code || !sandboxer.IsRefused(err) {
			t.Errorf("%s: %v, want %s, and that nothing was done", name, err, c.code)
		}
		wantText(t, err, c.text...)
	}
	w.wantJournal()
	w.wantLive()
}

// TestMissingInput: an input that the extension requires is asked for.
func TestMissingInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clouds()
	w.yaml["ext.cloud.yaml"] = strings.Replace(w.yaml["ext.cloud.yaml"], "optional: [template", "required: [image], optional: [template", 1)
	w.profiles = []sandboxer.Profile{{ID: "profile.cloud", Extension: "ext.cloud"}}
	req := ask("a")
	req.Profile = "profile.cloud"
	_, err := w.open().Create(context.Background(), req)
	wantCode(t, err, sandboxer.InvalidArgument)
	wantText(t, err, "image", "missing", "ext.cloud")
}

// TestInterceptors: they see every call, from the outermost in, with what it is about, and can refuse it.
func TestInterceptors(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.AllCapabilities()...).withHosts(sandboxer.Host{ID: "h1"})
		order := &journal{} // of calls that come from several goroutines
		refuse := sandboxer.Op("")
		outer := func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			order.add("outer " + string(c.Op))
			err := next(ctx)
			order.add("outer done")
			return err
		}
		inner := func(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
			order.add("inner " + string(c.Op))
			if c.Op == refuse {
				return sandboxer.Refused(sandboxer.PermissionDenied, errors.New("not by this policy"))
			}
			return next(ctx)
		}
		w.cfg.Interceptors = []sandboxer.Interceptor{outer, inner}
		m := w.open()
		ctx := context.Background()
		sb := created(t, m, ask("a"))
		order.take()
		if _, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"outer exec", "inner exec", "outer done"}, order.take()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		for _, do := range []func() error{
			func() error { _, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap"}); return err },
			func() error { _, err := m.TransferSnapshot(ctx, "snap", "h1"); return err },
			func() error { return m.DeleteSnapshot(ctx, "snap") },
			func() error { return sb.Pause(ctx) },
			func() error { return sb.Resume(ctx) },
			func() error { _, err := sb.Extend(ctx, time.Now().Add(9*time.Hour)); return err },
			func() error { _, err := sb.Expose(ctx, 80); return err },
			func() error { _, _ = sb.Dial(ctx, "tcp", "localhost:1"); return nil },
			func() error { return sb.CopyOut(ctx, "", t.TempDir()) },
			func() error { return sb.CopyIn(ctx, "", fstest.MapFS{}) },
			func() error { return sb.Sync(ctx, "", fstest.MapFS{}) },
			func() error { _, err := m.Reap(ctx, manager.ReapOptions{}); return err },
			func() error {
				w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errLost, Effect: fake.After, Times: 1})
				_, err := m.Create(ctx, ask("b"))
				return err
			},
			func() error {
				req := ask("c")
				snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
				req.FromSnapshot = snap.ID
				created(t, m, req)
				return err
			},
			func() error { _, err := sb.Teardown(ctx); return err },
		} {
			if err := do(); err != nil {
				t.Error(err)
			}
		}
		seen := map[sandboxer.Op]sandboxer.Call{}
		for _, c := range w.journal.calls {
			seen[c.Op] = c
		}
		for _, op := range []sandboxer.Op{
			sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpTeardown, sandboxer.OpFind, sandboxer.OpList, sandboxer.OpExec, sandboxer.OpCopyIn,
			sandboxer.OpCopyOut, sandboxer.OpDial, sandboxer.OpExpose, sandboxer.OpSnapshot, sandboxer.OpRestore, sandboxer.OpDeleteSnapshot,
			sandboxer.OpListSnapshots, sandboxer.OpExportSnapshot, sandboxer.OpImportSnapshot, sandboxer.OpEstimateCost, sandboxer.OpMeterActual,
			sandboxer.OpInspect, sandboxer.OpExtend, sandboxer.OpPause, sandboxer.OpResume, sandboxer.OpPreflight, sandboxer.OpSync,
		} {
			c, ok := seen[op]
			if !ok {
				t.Errorf("%s was not seen", op)
				continue
			}
			about := op != sandboxer.OpList && op != sandboxer.OpListSnapshots && op != sandboxer.OpEstimateCost
			if c.Extension != "ext.fake" || about && (c.ID == "" || c.Host != "h1" || c.Consumer.ID != "tests") {
				t.Errorf("%s: %+v", op, c)
			}
		}

		refuse = sandboxer.OpProvision
		before := w.backend.Count(sandboxer.OpProvision)
		_, err := m.Create(ctx, ask("d"))
		wantCode(t, err, sandboxer.PermissionDenied)
		wantText(t, err, "not by this policy")
		wantState(t, m, "d", sandboxer.StateFailed)
		if n := w.backend.Count(sandboxer.OpProvision); n != before {
			t.Error("the backend was asked although an interceptor refused")
		}
		if !slices.Contains(w.backend.Live(), "b") {
			t.Error("what was found is gone")
		}
	})
}
