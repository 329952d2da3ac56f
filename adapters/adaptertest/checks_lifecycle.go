package adaptertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func capabilityChecks() []check {
	return []check{{
		name: "capabilities/declared", bare: true,
		rule: "capabilities.features in the manifest, where given, names exactly what the extension offers",
		why: "profiles are checked against the manifest when the Manager is built: what is declared and missing fails in the " +
			"middle of somebody's work, and what is there and hidden, by a wrapper without Unwrap perhaps, is never used",
		run: func(t *trial) {
			declared := t.s.manifest.Capabilities.Features
			if len(declared) == 0 {
				t.Logf("the manifest declares no features; the extension offers %v", t.s.caps)
				return
			}
			for _, c := range declared {
				if !t.s.can(c) {
					t.broken("the manifest declares %q, and the extension cannot do it", c)
				}
			}
			for _, c := range t.s.caps {
				if !slices.Contains(declared, c) {
					t.broken("the extension can do %q, and the manifest does not declare it (capabilities.features is %v)", c, declared)
				}
			}
		},
	}, {
		name: "capabilities/metered", bare: true,
		rule: "an extension whose pricing_model is metered is a Meterer",
		why:  "otherwise sandboxes run up a bill that nobody is told of",
		run: func(t *trial) {
			if t.s.manifest.Capabilities.PricingModel == sandboxer.PricingMetered && !t.s.can(sandboxer.CapMeter) {
				t.broken("pricing_model is metered, and the extension has no EstimateCost and MeterActual")
			}
		},
	}}
}

func provisionChecks() []check {
	return []check{{
		name: "provision/idempotent",
		rule: "Provision again under the same Name returns the same Handle and creates nothing",
		why:  "a call is repeated when nobody knows whether it arrived: a second resource would run, unknown and paid for",
		run: func(t *trial) {
			b := t.newBox()
			before := t.existing(b.name)
			for range 2 {
				h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return b.ext.Provision(ctx, b.again()) })
				t.ok("Provision of a name that exists", err)
				if h != b.target.Handle {
					t.broken("Provision of a name that exists returned another handle: %s, and first %s", jsonOf(h), jsonOf(b.target.Handle))
				}
			}
			if after := t.existing(b.name); !sameNumber(before, after) {
				t.broken("Provision was called three times, and now these exist: %q; after the first call they were %q", after, before)
			}
		},
	}, {
		name: "provision/handle",
		rule: "the Handle that Provision returns is made with ProvisionRequest.Handle: identity, a version of at least 1, state, no secret",
		why:  "handles are stored, and the Manager refuses one of which it cannot tell whose it is",
		run: func(t *trial) {
			b := t.shared()
			h := b.took.made
			if h.Ref() != b.req.Ref() || !h.HasState() || h.StateVersion() < 1 {
				t.broken("the handle is %s, and the request was for %+v", jsonOf(h), b.req.Ref())
			}
			if said := t.s.canary.said(); len(said) > 0 {
				t.broken("a secret was shown: %q", said)
			}
		},
	}, {
		name: "provision/checkpoint",
		rule: "a Handle that is given to Checkpoint names the request's sandbox, and a Checkpoint that fails ends the creation",
		why:  "it is stored to find half of a sandbox after a crash: what goes on without it is lost in the next crash",
		run: func(t *trial) {
			req := t.newRequest()
			var noted []sandboxer.Handle
			req.Checkpoint = func(_ context.Context, h sandboxer.Handle) error { noted = append(noted, h); return nil }
			t.provision(t.s.one.spy.Extension, req)
			if len(noted) == 0 {
				return // it is created in one step
			}
			for _, h := range noted {
				if h.Ref() != req.Ref() || !h.HasState() {
					t.broken("the handle that was given to Checkpoint is %s, and the request was for %+v", jsonOf(h), req.Ref())
				}
			}
			failing := t.newRequest()
			t.sweep(failing)
			full := errors.New("the disk is full")
			failing.Checkpoint = func(context.Context, sandboxer.Handle) error { return full }
			h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) {
				return t.s.one.spy.Extension.Provision(ctx, failing)
			})
			if err == nil {
				t.broken("Provision succeeded although Checkpoint failed")
			}
			if h.IsZero() {
				h = sandboxer.BareHandle(failing.Ref())
			}
			t.teardownOf(t.s.one.spy.Extension, targetOf(failing, h), "Teardown of what a failed Checkpoint left")
			t.gone(failing.Name, "Teardown of what a failed Checkpoint left")
		},
	}, {
		name: "provision/concurrent",
		rule: "all methods are safe for concurrent use, and Provision of one Name makes one resource",
		why:  "two processes with one store may both work on a sandbox for a moment",
		run: func(t *trial) {
			one := t.newRequest()
			t.provision(t.s.one.spy.Extension, one)
			alone := t.existing(one.Name)
			req := t.newRequest()
			t.sweep(req)
			var group sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), t.s.cfg.Within)
					defer cancel()
					_, errs[i] = t.s.one.spy.Extension.Provision(ctx, req)
				})
			}
			group.Wait()
			if !slices.Contains(errs, nil) {
				t.broken("of four concurrent calls of Provision none succeeded: %v", errs)
			}
			if all := t.existing(req.Name); !sameNumber(alone, all) {
				t.broken("four concurrent calls of Provision made these: %q", all)
			}
		},
	}}
}

func readyChecks() []check {
	return []check{{
		name: "wait-ready/repeated",
		rule: "WaitReady may be called again and says the same",
		why:  "after a restart the Manager waits again for what another process was waiting for",
		run: func(t *trial) {
			b := t.newBox()
			for range 2 {
				r, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) { return b.ext.WaitReady(ctx, b.target) })
				t.ok("WaitReady of a sandbox that is ready", err)
				if r.RemoteDir != b.reach.RemoteDir || r.ComposeProject != b.reach.ComposeProject || r.SSH != b.reach.SSH {
					t.broken("WaitReady said %s at first, and then %s", jsonOf(b.reach), jsonOf(r))
				}
			}
		},
	}, {
		name:  "wait-ready/usable",
		needs: []sandboxer.Capability{sandboxer.CapInspect},
		rule:  "WaitReady returns when the sandbox is usable, and not before",
		why:   "the first command after Create would fail now and then, on busy days only",
		run: func(t *trial) {
			req := t.newRequest()
			h := t.provision(t.s.one.spy.Extension, req)
			target := targetOf(req, h)
			_, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) {
				return t.s.one.spy.Extension.WaitReady(ctx, target)
			})
			t.ok("WaitReady", err)
			in, err := t.inspect(t.s.one.spy, target)
			t.ok("Inspect", err)
			if in.State != sandboxer.StateReady {
				t.broken("after WaitReady the sandbox is %q", in.State)
			}
		},
	}, {
		name: "wait-ready/gone",
		rule: "WaitReady fails for good where there is nothing to wait for",
		why:  "waiting for what will never come holds a create until its time-out, and then blames the wrong thing",
		run: func(t *trial) {
			b := t.newBox()
			t.teardown(b)
			begun := time.Now()
			_, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) { return b.ext.WaitReady(ctx, b.target) })
			if err == nil {
				t.broken("WaitReady of a sandbox that was torn down says that it is usable")
			}
			if took := time.Since(begun); took > t.s.cfg.Within {
				t.broken("WaitReady of a sandbox that was torn down took %v", took)
			}
		},
	}}
}
