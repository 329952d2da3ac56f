package manager_test

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// TestGivenIsOwn: what an extension writes into the maps and lists that it is given reaches no other call, no other sandbox, no
// status and no event, and nothing of the caller's. Creates of one profile run side by side: the race detector watches. It was
// seen to fail where profiles, inputs, hosts, consumers and snapshots were handed on as they stood.
func TestGivenIsOwn(t *testing.T) {
	simulate(t, func(t *testing.T) {
		hosts := func() []sandboxer.Host {
			var out []sandboxer.Host
			for _, id := range []string{"h1", "h2"} {
				out = append(out, sandboxer.Host{
					ID: id, HostKeys: []string{"key"}, Labels: map[string]string{"zone": "a"}, MaxSandboxes: 1000,
					Options: sandboxer.Inputs{"jump": []string{"j"}, "env": map[string]string{"k": "v"}, "tree": map[string]any{"a": []any{1}}},
				})
			}
			return out
		}
		cost, err := sandboxer.ParseMoney("100 USD")
		if err != nil {
			t.Fatal(err)
		}
		profile := func(id string) sandboxer.Profile {
			return sandboxer.Profile{
				ID: id, Extension: "ext.fake", Ports: []int{80}, Requires: []sandboxer.Capability{sandboxer.CapExec},
				Inputs: sandboxer.Inputs{"tree": map[string]any{"a": []any{"b"}}, "list": []any{"c"}, "empty": map[string]any{}},
				Labels: map[string]string{"team": "a"}, HostSelector: map[string]string{"zone": "a"},
				Burst: &sandboxer.BurstPolicy{
					To: []sandboxer.BurstTarget{{Profile: "profile.fake", Inputs: map[string]string{"list": "list"}}},
					On: []sandboxer.Code{sandboxer.Unavailable}, MaxCost: &cost,
				},
			}
		}
		request := func(id sandboxer.ID, profile string) sandboxer.CreateRequest {
			return sandboxer.CreateRequest{
				ID: id, Profile: profile, Consumer: sandboxer.Consumer{ID: "tests", Labels: map[string]string{"who": "me"}},
				Labels: map[string]string{"mine": "yes"}, TTL: time.Hour,
			}
		}
		w := newWorld(t, sandboxer.CapExec, sandboxer.CapFiles, sandboxer.CapFind, sandboxer.CapList, sandboxer.CapSnapshot,
			sandboxer.CapSnapshotTransfer, sandboxer.CapMeter, sandboxer.CapPreflight).withHosts(hosts()...)
		on := w.scribbling()
		w.metered()
		w.profiles = []sandboxer.Profile{profile("profile.a"), profile("profile.b")}
		m := w.open()
		ctx := t.Context()
		events := m.Subscribe(manager.Filter{})
		same := func(what string, want, got any) {
			t.Helper()
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b sandboxer.Money) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				id := sandboxer.ID(fmt.Sprint("a", i))
				req := request(id, "profile.a")
				if i%2 == 1 {
					req.Profile, req.Inputs = "profile.b", sandboxer.Inputs{"more": []any{"d"}}
				}
				if _, err := m.Estimate(ctx, req); err != nil {
					t.Error(err)
				}
				if _, err := m.Create(ctx, req); err != nil {
					t.Error(err)
					return
				}
				want := request(id, "profile.a")
				same("the caller's consumer", want.Consumer, req.Consumer)
				same("the caller's labels", want.Labels, req.Labels)
				same("the consumer's labels", want.Consumer.Labels, status(t, m, id).Consumer.Labels)
				same("the labels", want.Labels, status(t, m, id).Labels)
			})
		}
		wg.Wait()
		sb, err := m.Get(ctx, "a0")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}}); err != nil {
				t.Error(err)
			}
		}
		labels := map[string]string{"of": "it"}
		snap, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: "snap", Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		same("the caller's labels of a snapshot", map[string]string{"of": "it"}, labels)
		if at := scribbledAt(reflect.ValueOf(snap), "Snapshot"); at != "" {
			t.Error("the snapshot that was returned is scribbled on:", at)
		}
		other := "h1"
		if snap.Host == other {
			other = "h2"
		}
		copied, err := m.TransferSnapshot(ctx, "snap", other)
		if err != nil {
			t.Fatal(err)
		}
		if at := scribbledAt(reflect.ValueOf(copied), "Snapshot"); at != "" {
			t.Error("the copy that was returned is scribbled on:", at)
		}
		busy := sandboxer.Refused(sandboxer.Unavailable, errors.New("busy"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpRestore, Err: busy, Times: 1}) // another try gets the same snapshot
		again := request("restored", "profile.a")
		again.FromSnapshot = "snap"
		created(t, m, again)
		// What is removed before it is ready, and of which the meter knows nothing, is priced by the profile that others share.
		w.backend.Fail(fake.Fault{Op: sandboxer.OpWaitReady, Err: errLost, Times: 1})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpMeterActual, Err: sandboxer.Mark(sandboxer.NotFound, errLost), Times: 2})
		if _, err := m.Create(ctx, request("never", "profile.a")); err == nil {
			t.Error("a sandbox that was never ready was handed out")
		}
		created(t, m, request("next", "profile.a"))
		w.backend.Plant("ext.fake", "h1", "sbx-stray", nil)
		if _, err := m.Reap(ctx, manager.ReapOptions{}); err != nil {
			t.Error(err)
		}
		pass(25 * time.Hour)
		for s, err := range m.Snapshots(ctx, manager.Filter{}) {
			if at := scribbledAt(reflect.ValueOf(s), "Snapshot "+s.ID); at != "" || err != nil {
				t.Error("a stored snapshot is scribbled on:", at, err)
			}
		}
		if err := m.DeleteSnapshot(ctx, "snap"); err != nil {
			t.Error(err)
		}
		for sb, err := range m.List(ctx, manager.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sb.Teardown(ctx); err != nil {
				t.Error(err)
			}
		}
		events.Close()
		for e := range events.Events() {
			if at := scribbledAt(reflect.ValueOf(e), "Event"); at != "" {
				t.Error("an event is scribbled on:", at)
			}
		}
		for _, at := range on.seen {
			t.Error("another call's scribbles:", at)
		}
		for _, op := range []sandboxer.Op{
			sandboxer.OpPreflight, sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpExec, sandboxer.OpList,
			sandboxer.OpEstimateCost, sandboxer.OpMeterActual, sandboxer.OpSnapshotCost, sandboxer.OpSnapshot, sandboxer.OpRestore,
			sandboxer.OpDeleteSnapshot, sandboxer.OpListSnapshots, sandboxer.OpExportSnapshot, sandboxer.OpImportSnapshot, sandboxer.OpTeardown,
		} {
			if on.calls[op] == 0 {
				t.Errorf("%s was never called", op)
			}
		}
		same("the configured hosts", hosts(), w.hosts)
		same("the profiles", []sandboxer.Profile{profile("profile.a"), profile("profile.b")}, w.profiles)
	})
}

// TestConfiguredHostsAreCopied: what a caller does to its hosts later changes nothing. It was seen to fail where the maps of
// Config.Hosts were used as they stood.
func TestConfiguredHostsAreCopied(t *testing.T) {
	simulate(t, func(t *testing.T) {
		host := sandboxer.Host{ID: "h1", Labels: map[string]string{"zone": "a"}}
		w := newWorld(t).withHosts(host)
		w.profiles = []sandboxer.Profile{{ID: "profile.a", Extension: "ext.fake", HostSelector: map[string]string{"zone": "a"}}}
		m := w.open()
		host.Labels["zone"] = "b"
		req := ask("a")
		req.Profile = "profile.a"
		created(t, m, req)
	})
}

// TestCallersMapsAreCopied: what a caller does to the maps of its request when it has its answer, and a reader to those of an
// event, is seen by nobody else. It was seen to fail on the labels of the consumer, which all events shared with the caller.
func TestCallersMapsAreCopied(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.open()
		one, two := m.Subscribe(manager.Filter{}), m.Subscribe(manager.Filter{})
		req := ask("a")
		req.Consumer.Labels, req.Labels = map[string]string{"who": "me"}, map[string]string{"mine": "yes"}
		created(t, m, req)
		req.Consumer.Labels["who"], req.Labels["mine"] = scribble, scribble
		for _, s := range []*manager.Subscription{one, two} {
			for range 2 { // provisioning, ready
				e := <-s.Events()
				if at := scribbledAt(reflect.ValueOf(e), "Event"); at != "" {
					t.Errorf("%s is scribbled on when it is %s", at, e.State)
				}
				scribbleOn(reflect.ValueOf(e))
			}
		}
		st := status(t, m, "a")
		if at := scribbledAt(reflect.ValueOf(st), "SandboxStatus"); at != "" {
			t.Error("scribbled on:", at)
		}
	})
}
