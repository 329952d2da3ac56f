package adaptertest

import (
	"context"
	"encoding/json"

	"github.com/sand-boxer/sandboxer"
)

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// teardown takes b away by calling the extension, and checks what the report says.
func (t *trial) teardown(b *box) {
	t.Helper()
	t.teardownOf(b.ext, b.target, "Teardown")
}

func (t *trial) teardownOf(ext sandboxer.Extension, target sandboxer.Target, what string) sandboxer.CleanupReport {
	t.Helper()
	var rep sandboxer.CleanupReport
	t.ok(what, t.certain(func() (err error) {
		rep, err = do(t, what, func(ctx context.Context) (sandboxer.CleanupReport, error) { return ext.Teardown(ctx, target) })
		return err
	}))
	if len(rep.Left) > 0 {
		t.broken("%s succeeded, and its report says that something is left: %q", what, rep.Left)
	}
	return rep
}

func (t *trial) inspect(ext sandboxer.Extension, target sandboxer.Target) (sandboxer.Instance, error) {
	t.Helper()
	inspector, ok := sandboxer.As[sandboxer.Inspector](ext)
	if !ok {
		t.Fatal("the extension is no Inspector")
	}
	return do(t, "Inspect", func(ctx context.Context) (sandboxer.Instance, error) { return inspector.Inspect(ctx, target) })
}

func teardownChecks() []check {
	return []check{{
		name: "teardown/removes",
		rule: "Teardown removes everything that Provision created; anything left is an error as well as a line in the report",
		why:  "what a Teardown that succeeded leaves behind is never looked at again: it runs and costs money for ever",
		run: func(t *trial) {
			b := t.newBox()
			t.there(b.name, "Create")
			t.teardown(b)
			t.gone(b.name, "Teardown")
		},
	}, {
		name: "teardown/idempotent",
		rule: "tearing down what is gone succeeds",
		why:  "a Teardown whose reply was lost is repeated until it succeeds: one that fails then is repeated for ever",
		run: func(t *trial) {
			b := t.newBox()
			t.teardown(b)
			for range 2 {
				t.teardownOf(b.ext, b.target, "Teardown of what is gone")
			}
			t.teardownOf(b.ext, byName(b.req), "Teardown by name of what is gone")
			t.gone(b.name, "Teardown")
		},
	}, {
		name: "teardown/by-name",
		rule: "for a Handle without state Teardown looks by name",
		why:  "when the reply of Provision is lost the name is all that is known of what it made",
		run: func(t *trial) {
			req := t.newRequest()
			t.provision(t.s.one.spy.Extension, req)
			t.there(req.Name, "Provision")
			t.teardownOf(t.s.one.spy.Extension, byName(req), "Teardown of a handle without state")
			t.gone(req.Name, "Teardown of a handle without state")
		},
	}, {
		name: "teardown/never-created",
		rule: "Teardown of a name that never existed succeeds and creates nothing",
		why:  "the intent is stored before the backend is asked: after a crash between the two there is nothing to remove",
		run: func(t *trial) {
			req := t.newRequest()
			t.teardownOf(t.s.one.spy.Extension, byName(req), "Teardown of a name that never existed")
			t.gone(req.Name, "Teardown of a name that never existed")
		},
	}, {
		name: "teardown/manager",
		rule: "a Sandbox is gone, and its record says so, when Teardown has returned",
		why:  "callers count on it: the next thing that they do is to look at the bill",
		run: func(t *trial) {
			b := t.newBox()
			for range 3 {
				_, err := do(t, "Sandbox.Teardown", b.sb.Teardown)
				t.ok("Sandbox.Teardown", err)
			}
			st, err := b.sb.Status(context.Background())
			t.ok("Status", err)
			t.sawStatus(b.sb)
			if st.State != sandboxer.StateGone {
				t.broken("after Sandbox.Teardown the state is %q (%s)", st.State, st.Reason)
			}
			t.gone(b.name, "Sandbox.Teardown")
		},
	}}
}

func handleChecks() []check {
	return []check{{
		name: "handle/second-instance",
		rule: "a Handle survives JSON, and works with any instance of the adapter over the same backend",
		why:  "after a restart nothing is left of the instance that made it, and the sandbox still has to be used and removed",
		run: func(t *trial) {
			b := t.newBox()
			second := t.s.two.spy.Extension
			target := b.target
			t.ok("decoding the handle", json.Unmarshal([]byte(jsonOf(b.target.Handle)), &target.Handle))
			if target.Handle != b.target.Handle {
				t.broken("the handle %s came back from JSON as %s", jsonOf(b.target.Handle), jsonOf(target.Handle))
			}
			r, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) { return second.WaitReady(ctx, target) })
			t.ok("WaitReady through a second instance", err)
			if r.RemoteDir != b.reach.RemoteDir {
				t.broken("the workspace is %q for a second instance, and was %q", r.RemoteDir, b.reach.RemoteDir)
			}
			if t.s.can(sandboxer.CapInspect) {
				in, err := t.inspect(second, target)
				t.ok("Inspect through a second instance", err)
				if in.State != sandboxer.StateReady {
					t.broken("a second instance says that the sandbox is %q", in.State)
				}
			}
			if x, ok := sandboxer.As[sandboxer.Executor](second); ok {
				res, err := do(t, "Exec", func(ctx context.Context) (sandboxer.ExecResult, error) {
					return x.Exec(ctx, target, sandboxer.ExecRequest{Command: t.script("exit 3")})
				})
				t.ok("Exec through a second instance", err)
				if res.ExitCode != 3 {
					t.broken("exit 3 through a second instance ended with %+v", res)
				}
			}
			t.teardownOf(second, target, "Teardown through a second instance")
			t.gone(b.name, "Teardown through a second instance")
		},
	}}
}
