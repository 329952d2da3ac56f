package adaptertest

import (
	"context"

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

// refuses tries bad inputs: they may be refused by the registry already, by Preflight, or by Provision.
func (t *trial) refuses(bad sandboxer.Inputs) {
	t.Helper()
	id := sandboxer.NewID()
	what := "Create with the inputs " + jsonOf(bad)
	sb, err := do(t, "Create", func(ctx context.Context) (*manager.Sandbox, error) {
		return t.s.one.m.Create(ctx, sandboxer.CreateRequest{ID: id, Profile: t.s.profile.ID, Consumer: t.s.consumer(), Inputs: bad})
	})
	if err == nil {
		_, _ = sb.Teardown(context.Background())
	}
	t.code(what, err, sandboxer.InvalidArgument)
	t.gone(string(id), what)
}
