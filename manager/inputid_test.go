package manager_test

import (
	"context"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// TestInputNamesTheSandbox: where an extension declares the input sandbox_id, it counts as the request's ID. Without
// namedByInput each of these creates has an ID of its own, and the conflicting one is made.
func TestInputNamesTheSandbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.adapters = []sandboxer.Adapter{w.backend.InPlaceOf("mine", sandboxer.CapExec)}
	w.yaml["ext.mine.yaml"] = "id: ext.mine\ntitle: Mine\nhandler: mine\ncapabilities: {isolation_levels: [vm], pricing_model: free}\ninputs: {optional: [sandbox_id]}\n"
	w.yaml["ext.other.yaml"] = "id: ext.other\ntitle: Other\nhandler: mine\ncapabilities: {isolation_levels: [vm], pricing_model: free}\n"
	w.profiles = []sandboxer.Profile{
		{ID: "profile.mine", Extension: "ext.mine"},
		{ID: "profile.one", Extension: "ext.mine", Inputs: sandboxer.Inputs{"sandbox_id": "the-one"}},
		{ID: "profile.other", Extension: "ext.other"},
	}
	m := w.open()
	request := func(profile string, id sandboxer.ID, in sandboxer.Inputs) sandboxer.CreateRequest {
		return sandboxer.CreateRequest{ID: id, Profile: profile, Consumer: sandboxer.Consumer{ID: "c"}, Inputs: in}
	}
	for _, c := range []struct {
		name string
		req  sandboxer.CreateRequest
		want sandboxer.ID
	}{
		{"of the request", request("profile.mine", "", sandboxer.Inputs{"sandbox_id": "named"}), "named"},
		{"again, which is the same sandbox", request("profile.mine", "", sandboxer.Inputs{"sandbox_id": "named"}), "named"},
		{"of the profile", request("profile.one", "", nil), "the-one"},
		{"the same twice", request("profile.one", "the-one", nil), "the-one"},
	} {
		sb, err := m.Create(context.Background(), c.req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if sb.ID() != c.want {
			t.Errorf("%s: the ID is %q and should be %q", c.name, sb.ID(), c.want)
		}
	}
	w.wantLive("named", "the-one")
	for _, c := range []struct {
		name  string
		req   sandboxer.CreateRequest
		texts []string
	}{
		{"another one than the request's", request("profile.mine", "a", sandboxer.Inputs{"sandbox_id": "b"}), []string{"sandbox_id", `"b"`, `"a"`}},
		{"no ID", request("profile.mine", "", sandboxer.Inputs{"sandbox_id": "No ID"}), []string{"sandbox_id", "No ID"}},
		{"no string", request("profile.mine", "", sandboxer.Inputs{"sandbox_id": 7}), []string{"sandbox_id", "7", "string"}},
	} {
		_, err := m.Create(context.Background(), c.req)
		wantCode(t, err, sandboxer.InvalidArgument)
		wantText(t, err, c.texts...)
	}
	// An extension that declares no inputs takes any, and this one is its own.
	sb, err := m.Create(context.Background(), request("profile.other", "", sandboxer.Inputs{"sandbox_id": "named"}))
	if err != nil || sb.ID() == "named" {
		t.Errorf("an input of an extension that does not declare it named the sandbox: %v, %v", sb, err)
	}
}
