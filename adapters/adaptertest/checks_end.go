package adaptertest

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
)

func secretChecks() []check {
	return []check{{
		name: "secrets/missing",
		rule: "a credential that cannot be fetched fails the create, refused, with the code of the source",
		why:  "nothing was asked for yet: the caller can set the key and try again",
		run: func(t *trial) {
			req := t.newRequest()
			t.sweep(req)
			asked := false
			req2 := *req
			req2.Secret = func(_ context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
				asked = true
				return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("no such credential: "+string(ref)))
			}
			h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) {
				return t.s.one.spy.Extension.Provision(ctx, &req2)
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
			right := req.Secret
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
			req.Secret = right
			if said := t.s.canary.said(); len(said) > 0 {
				t.broken("a secret was shown: %q", said)
			}
		},
	}}
}

// endChecks are run when all others are over, one after the other.
func endChecks() []check {
	return []check{{
		name: "end/nothing-live", alone: true,
		rule: "at the end nothing is live",
		why:  "nothing leaks: what every single test removed must be gone",
		run: func(t *trial) {
			b := t.shared()
			_, err := do(t, "Sandbox.Teardown", b.sb.Teardown)
			t.ok("Teardown of the sandbox that the tests shared", err)
			t.nothingLive("all tests")
			for _, s := range t.leftSnapshots() {
				t.broken("the snapshot %s exists after all tests", s)
			}
		},
	}, {
		name: "end/no-secret-shown", alone: true,
		rule: "no secret is in a handle, a status, an error, a label or a log line",
		why:  "all of these are stored and shown to people who may not know the key",
		run: func(t *trial) {
			if said := t.s.canary.said(); len(said) > 0 {
				t.broken("a secret was shown: %q", said)
			}
		},
	}, {
		name: "end/close", alone: true,
		rule: "Manager.Close succeeds and leaves nothing of a store that is not durable",
		why:  "a program that ends must not leave what nobody will remember",
		run: func(t *trial) {
			t.ok("Manager.Close", t.s.close(context.Background()))
			t.nothingLive("Manager.Close")
		},
	}, {
		name: "end/no-goroutine", alone: true,
		rule: "when everything is closed no goroutine is left",
		why:  "a goroutine that stays with every sandbox ends a program that makes many of them",
		run: func(t *trial) {
			if t.s.goroutines == nil {
				return
			}
			if err := goleak.Find(t.s.goroutines); err != nil {
				t.broken("%v", err)
			}
		},
	}}
}

// nothingLive breaks the rule where something exists that did not before the tests.
func (t *trial) nothingLive(after string) {
	t.Helper()
	var left []string
	if !t.settled(func() bool {
		left = slices.DeleteFunc(t.s.liveNames(t), func(name string) bool { return slices.Contains(t.s.before, name) })
		if !t.s.closed {
			for _, in := range t.listed(nil) {
				left = append(left, "listed: "+in.Handle.Ref().Name())
			}
		}
		return len(left) == 0
	}) {
		t.broken("after %s these exist: %q", after, left)
	}
}

func (t *trial) leftSnapshots() []string {
	t.Helper()
	var out []string
	for _, s := range t.snapshots() {
		if s.Labels[sandboxer.LabelOwner] == t.s.one.owner {
			out = append(out, s.ID)
		}
	}
	return out
}
