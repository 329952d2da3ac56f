package adaptertest

import (
	"context"
	"errors"

	"github.com/sand-boxer/sandboxer"
)

func secretChecks() []check {
	return []check{{
		name: "secrets/missing",
		rule: "a credential that cannot be fetched fails the create with the code of the source, and nothing is created",
		why:  "nothing was asked for yet: the caller can set the key and try again",
		run: func(t *trial) {
			req := t.newRequest()
			t.sweep(req)
			asked := false
			poor := *req
			poor.Secret = func(_ context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
				asked = true
				return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("no such credential: "+string(ref)))
			}
			h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) {
				return t.s.one.spy.Extension.Provision(ctx, &poor)
			})
			if !asked {
				return // it needs none
			}
			t.code("Provision without its credential", err, sandboxer.Unauthenticated)
			if h.HasState() {
				t.broken("Provision without its credential returned the handle %s", jsonOf(h))
			}
			t.gone(req.Name, "Provision without its credential")
		},
	}, {
		name: "secrets/wrong",
		rule: "a credential that is refused is an error that does not show it",
		why:  "errors are logged, and shown to people who may not know the key",
		run: func(t *trial) {
			req := t.newRequest()
			asked := false
			wrong := sandboxer.NewSecret([]byte("wrong-key-of-the-conformance-test-7f3a"), "wrong")
			t.s.canary.remember(wrong)
			t.sweep(req)
			other := *req
			other.Secret = func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
				asked = true
				return wrong, nil
			}
			h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) {
				return t.s.one.spy.Extension.Provision(ctx, &other)
			})
			if !asked {
				return // it needs none
			}
			if err == nil { // a backend that takes any key
				target := targetOf(&other, h)
				_, _ = do(t, "Teardown", func(ctx context.Context) (sandboxer.CleanupReport, error) {
					return t.s.one.spy.Extension.Teardown(ctx, target)
				})
			} else {
				t.code("Provision with a wrong credential", err, sandboxer.Unauthenticated, sandboxer.PermissionDenied)
			}
			if said := t.s.canary.said(); len(said) > 0 {
				t.broken("a secret was shown: %q", said)
			}
		},
	}}
}
