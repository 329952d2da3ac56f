package adaptertest

import (
	"context"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// find asks for req, begun now, until the answer is certain.
func (t *trial) find(req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	t.Helper()
	finder, ok := sandboxer.As[sandboxer.Finder](t.s.one.spy)
	if !ok {
		t.Fatal("the extension is no Finder")
	}
	since := time.Now()
	var h sandboxer.Handle
	err := t.certain(func() (err error) {
		h, err = do(t, "Find", func(ctx context.Context) (sandboxer.Handle, error) { return finder.Find(ctx, req, since) })
		return err
	})
	return h, err
}

func lookupChecks() []check {
	return []check{{
		name:  "find/exists",
		needs: []sandboxer.Capability{sandboxer.CapFind},
		rule:  "Find returns the Handle that Provision made",
		why:   "it is how a sandbox whose creation was never answered is adopted instead of being paid for unseen",
		run: func(t *trial) {
			req := t.newRequest()
			h := t.provision(t.s.one.spy.Extension, req)
			got, err := t.find(req)
			t.ok("Find of what exists", err)
			if got != h {
				t.broken("Find returned %s; Provision had returned %s", jsonOf(got), jsonOf(h))
			}
		},
	}, {
		name:  "find/absent",
		needs: []sandboxer.Capability{sandboxer.CapFind},
		rule:  "Find never creates, and its NotFound means certainly absent",
		why:   "on NotFound the Manager asks for another one, at once",
		run: func(t *trial) {
			req := t.newRequest()
			t.sweep(req)
			h, err := t.find(req)
			if err == nil {
				t.broken("Find of what was never made returned %s", jsonOf(h))
			}
			t.code("Find of what was never made", err, sandboxer.NotFound)
			t.gone(req.Name, "Find of what was never made")
			h = t.provision(t.s.one.spy.Extension, req)
			t.teardownOf(t.s.one.spy.Extension, targetOf(req, h), "Teardown")
			_, err = t.find(req)
			t.code("Find after Teardown", err, sandboxer.NotFound)
		},
	}, {
		name:  "list/ours",
		needs: []sandboxer.Capability{sandboxer.CapList},
		rule:  "List yields what exists with its labels, its age and a Handle that works",
		why:   "it is how the reaper finds what no record knows, and removes it",
		run: func(t *trial) {
			b := t.newBox()
			made := []string{t.shared().name, b.name, t.newBox().name}
			var names []string
			if !t.poll(func() bool {
				names = t.listedNames()
				return !slices.ContainsFunc(made, func(name string) bool { return !slices.Contains(names, name) })
			}) {
				t.broken("List shows %q, and these exist: %q", names, made)
			}
			var found []sandboxer.Instance
			for _, in := range t.listedRaw(t.s.one) {
				if in.Handle.Ref().Name() == b.name {
					found = append(found, in)
				}
			}
			if len(found) != 1 {
				t.broken("List shows %d resources called %s instead of one", len(found), b.name)
			}
			in := found[0]
			for _, k := range []string{sandboxer.LabelID, sandboxer.LabelName, sandboxer.LabelOwner} {
				if in.Labels[k] != b.req.Labels[k] {
					t.broken("List shows %s with the label %s = %q; it was made with %q", b.name, k, in.Labels[k], b.req.Labels[k])
				}
			}
			if age := time.Since(in.CreatedAt); in.CreatedAt.IsZero() || age < -10*time.Minute || age > time.Hour {
				t.broken("List says that %s was created at %v; what has no age is never reaped", b.name, in.CreatedAt)
			}
			if in.State != sandboxer.StateReady {
				t.broken("List says that %s is %q, and it is ready", b.name, in.State)
			}
			target := b.target
			target.Handle = in.Handle
			t.teardownOf(b.ext, target, "Teardown with the handle that List yielded")
			t.gone(b.name, "Teardown with the handle that List yielded")
		},
	}, {
		name:  "list/handles",
		needs: []sandboxer.Capability{sandboxer.CapList},
		rule:  "the Handle of each listed Instance names its sandbox in full: ID, attempt, extension, and the host that was listed",
		why:   "the reaper stores it before it removes what nobody wants: a handle that lacks something is not read back, and one of another attempt removes the wrong one",
		run: func(t *trial) {
			second := t.newRequest() // that of a create whose first place did not serve
			second.Attempt = 2
			second.Name = second.Ref().Name()
			second.Labels[sandboxer.LabelName] = second.Name
			t.provision(t.s.one.spy.Extension, second)
			var all []sandboxer.Instance
			if !t.poll(func() bool {
				all = t.listed(t.s.one)
				return slices.ContainsFunc(all, func(in sandboxer.Instance) bool { return in.Labels[sandboxer.LabelName] == second.Name })
			}) {
				t.broken("List does not show %s, the second attempt at %s", second.Name, second.ID)
			}
			for _, in := range all {
				t.namesInFull(in, second.Ref())
			}
		},
	}, {
		name:  "inspect/state",
		needs: []sandboxer.Capability{sandboxer.CapInspect},
		rule:  "Inspect says what a sandbox is, and NotFound where it is gone",
		why:   "it is what a Teardown is verified with: without it a lie ends a record and the sandbox runs on",
		run: func(t *trial) {
			b := t.newBox()
			in, err := t.inspect(t.s.one.spy, b.target)
			t.ok("Inspect of a sandbox that is ready", err)
			if in.State != sandboxer.StateReady {
				t.broken("Inspect of a sandbox that is ready says %q", in.State)
			}
			if in.Handle.Ref() != b.target.Handle.Ref() {
				t.broken("Inspect of %s returned the handle of %s", b.name, in.Handle.Ref().Name())
			}
			t.teardown(b)
			in, err = t.inspect(t.s.one.spy, b.target)
			if err == nil {
				t.broken("Inspect of a sandbox that was torn down says %q instead of failing with NotFound", in.State)
			}
			t.code("Inspect of a sandbox that was torn down", err, sandboxer.NotFound)
		},
	}}
}

// namesInFull breaks the rule unless the handle of in is one of the extension and host of like, and fits the labels of in.
func (t *trial) namesInFull(in sandboxer.Instance, like sandboxer.HandleRef) {
	t.Helper()
	ref := in.Handle.Ref()
	switch name := in.Labels[sandboxer.LabelName]; {
	case ref.ID.Validate() != nil:
		t.broken("List shows %s with a handle of the ID %q, which is none", name, ref.ID)
	case ref.Attempt < 1 || ref.Attempt > 999:
		t.broken("List shows %s with a handle of attempt %d; attempts are 1 to 999", name, ref.Attempt)
	case ref.Extension != like.Extension:
		t.broken("List shows %s with a handle of the extension %q instead of %q, which was asked", name, ref.Extension, like.Extension)
	case ref.Host != like.Host:
		t.broken("List shows %s with a handle of the host %q instead of %q, which was asked", name, ref.Host, like.Host)
	case ref.Name() != name || string(ref.ID) != in.Labels[sandboxer.LabelID]:
		t.broken("List shows %s, which is of %s by its labels, with a handle of %s, attempt %d", name, in.Labels[sandboxer.LabelID], ref.ID, ref.Attempt)
	}
}
