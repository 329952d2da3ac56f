package adaptertest

import (
	"context"
	"maps"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

const whyForeign = "two stores, or two people, share one account: taking away or taking over what another made destroys work"

// foreign makes a sandbox of the second owner and returns its request and, under the same name, one of the first owner.
func (t *trial) foreign() (theirs, ours *sandboxer.ProvisionRequest, h sandboxer.Handle) {
	t.Helper()
	ours = t.newRequest()
	other := *ours
	other.Labels = maps.Clone(ours.Labels)
	other.Labels[sandboxer.LabelOwner] = t.s.two.owner
	theirs = &other
	h = t.provision(t.s.two.spy.Extension, theirs)
	return theirs, ours, h
}

// untouched breaks the rule unless the other owner's sandbox is as it was.
func (t *trial) untouched(theirs *sandboxer.ProvisionRequest, h sandboxer.Handle, after string) {
	t.Helper()
	if t.s.cfg.Live != nil && len(containing(t.s.liveNames(t), theirs.Name)) == 0 {
		t.broken("after %s the other owner's sandbox is gone", after)
	}
	if t.s.can(sandboxer.CapInspect) {
		in, err := t.inspect(t.s.two.spy, targetOf(theirs, h))
		t.ok("Inspect by the other owner, after "+after+",", err)
		if got := in.Labels[sandboxer.LabelOwner]; got != "" && got != t.s.two.owner {
			t.broken("after %s the other owner's sandbox is labelled %q", after, got)
		}
	}
	again, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) {
		return t.s.two.spy.Extension.Provision(ctx, theirs)
	})
	t.ok("Provision again by the other owner, after "+after+",", err)
	if again != h {
		t.broken("after %s the other owner's handle is %s; it was %s", after, jsonOf(again), jsonOf(h))
	}
}

func foreignChecks() []check {
	// What can be looked at neither by the extension nor by the tests may be gone unseen.
	tells := func(s *suite) bool {
		return s.cfg.Live != nil || s.can(sandboxer.CapFind) || s.can(sandboxer.CapList) || s.can(sandboxer.CapInspect)
	}
	return []check{{
		name: "foreign/provision", when: tells,
		rule: "Provision of a name that carries another LabelOwner is AlreadyExists, refused, and touches nothing",
		why:  whyForeign,
		run: func(t *trial) {
			theirs, ours, h := t.foreign()
			got, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return t.s.one.spy.Extension.Provision(ctx, ours) })
			t.code("Provision of another owner's name", err, sandboxer.AlreadyExists)
			if got.HasState() {
				t.broken("Provision of another owner's name returned the handle %s", jsonOf(got))
			}
			if !sandboxer.IsRefused(err) {
				t.broken("Provision of another owner's name failed, and does not say that nothing was created (use sandboxer.Refused): %v", err)
			}
			t.untouched(theirs, h, "Provision of its name")
		},
	}, {
		name: "foreign/teardown", when: tells,
		rule: "Teardown by name leaves alone what carries another LabelOwner, which is success",
		why:  whyForeign,
		run: func(t *trial) {
			theirs, ours, h := t.foreign()
			rep := t.teardownOf(t.s.one.spy.Extension, byName(ours), "Teardown of another owner's name")
			if len(rep.Removed) > 0 {
				t.broken("Teardown of another owner's name removed %q", rep.Removed)
			}
			t.untouched(theirs, h, "Teardown of its name")
		},
	}, {
		name:  "foreign/find",
		needs: []sandboxer.Capability{sandboxer.CapFind},
		rule:  "Find of a name that carries another LabelOwner is NotFound",
		why:   "the Manager would hand another's sandbox to its caller, and tear it down later",
		run: func(t *trial) {
			theirs, ours, h := t.foreign()
			got, err := t.find(ours)
			if err == nil {
				t.broken("Find of another owner's name returned %s", jsonOf(got))
			}
			t.code("Find of another owner's name", err, sandboxer.NotFound)
			t.untouched(theirs, h, "Find of its name")
		},
	}, {
		name:  "foreign/list",
		needs: []sandboxer.Capability{sandboxer.CapList},
		rule:  "List yields every resource with the labels that it carries",
		why:   "the reaper removes what carries its owner's label and no record: labels that are made up delete others' work",
		run: func(t *trial) {
			theirs, _, h := t.foreign()
			for _, in := range t.listed(t.s.one) {
				if in.Handle.Ref().Name() == theirs.Name {
					t.broken("List shows another owner's sandbox with our label: %v", in.Labels)
				}
			}
			t.untouched(theirs, h, "List")
		},
	}, {
		name: "foreign/manager", when: tells,
		rule: "a create under an ID that is taken at the backend by another owner fails with AlreadyExists and touches nothing",
		why:  whyForeign,
		run: func(t *trial) {
			b := t.newBox()
			sb, err := do(t, "Create", func(ctx context.Context) (*manager.Sandbox, error) {
				return t.s.two.m.Create(ctx, sandboxer.CreateRequest{ID: b.id, Profile: t.s.profile.ID, Consumer: t.s.consumer(), TTL: time.Hour})
			})
			if err == nil {
				_, _ = sb.Teardown(context.Background())
			}
			t.code("Create by another Manager under the same ID", err, sandboxer.AlreadyExists)
			t.there(b.name, "Create by another Manager under the same ID")
			h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return b.ext.Provision(ctx, b.again()) })
			t.ok("Provision again, after another Manager tried the same ID,", err)
			if h != b.target.Handle {
				t.broken("after another Manager tried the same ID, our handle is %s; it was %s", jsonOf(h), jsonOf(b.target.Handle))
			}
		},
	}}
}

// again is the request that made b.
func (b *box) again() *sandboxer.ProvisionRequest {
	req := *b.req
	req.Checkpoint = func(context.Context, sandboxer.Handle) error { return nil }
	return &req
}
