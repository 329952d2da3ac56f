package adaptertest

import (
	"context"
	"maps"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

const whyInputs = "a typing error in a profile must be told to its author, and not be paid for"

func inputChecks() []check {
	return []check{{
		name: "inputs/bad",
		when: func(s *suite) bool { return len(s.cfg.Bad) > 0 },
		rule: "inputs that are wrong fail with InvalidArgument and create nothing",
		why:  whyInputs,
		run: func(t *trial) {
			for _, bad := range t.s.cfg.Bad {
				t.refuses(bad)
			}
		},
	}, {
		name: "inputs/unknown-key",
		rule: "inputs are read strictly: a key that the extension does not know fails with InvalidArgument and creates nothing",
		why:  whyInputs,
		run:  func(t *trial) { t.refuses(sandboxer.Inputs{"adaptertest_no_such_input": "x"}) },
	}, {
		name: "inputs/preflight", needs: []sandboxer.Capability{sandboxer.CapPreflight},
		rule: "Preflight checks before anything is stored, and creates nothing",
		why:  "no intent stands for what it makes, and so nobody would ever remove it",
		run: func(t *trial) {
			req := t.newRequest()
			t.sweep(req)
			pre, _ := sandboxer.As[sandboxer.Preflighter](t.s.one.spy)
			for range 3 {
				_, err := do(t, "Preflight", only(func(ctx context.Context) error { return pre.Preflight(ctx, req) }))
				t.ok("Preflight of good inputs", err)
			}
			t.gone(req.Name, "Preflight")
		},
	}}
}

// refuses tries bad inputs through the Manager, and then behind its back, because the registry may refuse them first.
func (t *trial) refuses(bad sandboxer.Inputs) {
	t.Helper()
	id := sandboxer.NewID()
	sb, err := do(t, "Create", func(ctx context.Context) (*manager.Sandbox, error) {
		return t.s.one.m.Create(ctx, sandboxer.CreateRequest{ID: id, Profile: t.s.profile.ID, Consumer: t.s.consumer(), Inputs: bad})
	})
	if err == nil {
		_, _ = sb.Teardown(context.Background())
	}
	t.code("Create with the inputs "+jsonOf(bad), err, sandboxer.InvalidArgument)
	t.gone(string(id), "Create with the inputs "+jsonOf(bad))

	req := t.newRequest()
	req.Inputs = merged(req.Inputs, bad)
	req.Profile.Inputs = req.Inputs
	if pre, ok := sandboxer.As[sandboxer.Preflighter](t.s.one.spy); ok {
		_, err := do(t, "Preflight", only(func(ctx context.Context) error { return pre.Preflight(ctx, req) }))
		t.code("Preflight with the inputs "+jsonOf(bad), err, sandboxer.InvalidArgument)
	}
	t.sweep(req)
	h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return t.s.one.spy.Extension.Provision(ctx, req) })
	t.code("Provision with the inputs "+jsonOf(bad), err, sandboxer.InvalidArgument)
	if h.HasState() {
		t.broken("Provision with the inputs %s failed, and returned a handle of something: %s", jsonOf(bad), jsonOf(h))
	}
	t.gone(req.Name, "Provision with the inputs "+jsonOf(bad))
}

func merged(a, b sandboxer.Inputs) sandboxer.Inputs {
	out := sandboxer.Inputs{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}
