package adaptertest

import (
	"context"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// tolerance is how far a time may be off that went through a backend: many keep seconds, and clocks differ.
const tolerance = 30 * time.Second

func lifetimeChecks() []check {
	return []check{{
		name: "lifetime/granted",
		rule: "a backend with a native lifetime sets it at or after ProvisionRequest.ExpiresAt, and ExpiresAt in the reachability says so",
		why:  "a sandbox that the backend ends early takes somebody's work with it",
		run: func(t *trial) {
			b := t.newBox()
			if e := b.reach.ExpiresAt; !e.IsZero() && e.Before(b.req.ExpiresAt.Add(-tolerance)) {
				t.broken("the backend ends the sandbox at %v; %v was asked for", e, b.req.ExpiresAt)
			}
			if t.s.can(sandboxer.CapInspect) {
				in, err := t.inspect(t.s.one.spy, b.target)
				t.ok("Inspect", err)
				if e := in.ExpiresAt; !e.IsZero() && e.Before(b.req.ExpiresAt.Add(-tolerance)) {
					t.broken("the backend ends the sandbox at %v; %v was asked for", e, b.req.ExpiresAt)
				}
			}
		},
	}, {
		name:  "lifetime/extend",
		needs: []sandboxer.Capability{sandboxer.CapExtend},
		rule:  "Extend moves the end as far as it says, and never to an earlier time",
		why:   "the Manager believes what was granted: a sandbox that ends before takes somebody's work with it",
		run: func(t *trial) {
			b := t.newBox()
			extender, _ := sandboxer.As[sandboxer.Extender](b.ext)
			first := t.end(b)
			extend := func(until time.Time) time.Time {
				granted, err := do(t, "Extend", func(ctx context.Context) (time.Time, error) { return extender.Extend(ctx, b.target, until) })
				t.ok("Extend", err)
				now := t.end(b)
				if off := now.Sub(granted).Abs(); !granted.IsZero() && !now.IsZero() && off > tolerance {
					t.broken("Extend to %v granted %v, and the backend's end is %v", until, granted, now)
				}
				if !now.IsZero() && (first.IsZero() || now.Before(first.Add(-tolerance))) {
					t.broken("Extend to %v made the end earlier: it was %v, and is %v", until, first, now)
				}
				return granted
			}
			extend(time.Now().Add(5 * time.Minute))
			later := b.req.ExpiresAt.Add(10 * time.Minute)
			for range 3 {
				extend(later)
			}
		},
	}}
}

// end is when the backend ends b by itself; zero: never.
func (t *trial) end(b *box) time.Time {
	t.Helper()
	if t.s.can(sandboxer.CapInspect) {
		in, err := t.inspect(t.s.one.spy, b.target)
		t.ok("Inspect", err)
		return in.ExpiresAt
	}
	r, err := do(t, "WaitReady", func(ctx context.Context) (sandboxer.Reachability, error) { return b.ext.WaitReady(ctx, b.target) })
	t.ok("WaitReady", err)
	return r.ExpiresAt
}

func pauseChecks() []check {
	return []check{{
		name:  "pause/idempotent",
		needs: []sandboxer.Capability{sandboxer.CapPause},
		rule:  "pausing a paused sandbox and resuming a running one succeed",
		why:   "both are repeated when their outcome is not known",
		run: func(t *trial) {
			b := t.newBox()
			pauser, _ := sandboxer.As[sandboxer.Pauser](b.ext)
			for i := range 3 {
				_, err := do(t, "Pause", only(func(ctx context.Context) error { return pauser.Pause(ctx, b.target) }))
				t.ok([]string{"Pause", "Pause of a paused sandbox", "Pause of a paused sandbox"}[i], err)
				t.stateIs(b, sandboxer.StatePaused)
			}
			for i := range 3 {
				_, err := do(t, "Resume", func(ctx context.Context) (sandboxer.Reachability, error) { return pauser.Resume(ctx, b.target) })
				t.ok([]string{"Resume", "Resume of a running sandbox", "Resume of a running sandbox"}[i], err)
				t.stateIs(b, sandboxer.StateReady)
			}
		},
	}, {
		name:  "pause/contents",
		needs: []sandboxer.Capability{sandboxer.CapPause, sandboxer.CapFiles},
		rule:  "what is in a sandbox stays while it is paused",
		why:   "pausing is for saving money, not for starting again",
		run: func(t *trial) {
			b := t.newBox()
			want := sampleTree()
			t.copyIn(b, "kept", want)
			_, err := do(t, "Sandbox.Pause", only(b.sb.Pause))
			t.ok("Sandbox.Pause", err)
			_, err = do(t, "Sandbox.Resume", only(b.sb.Resume))
			t.ok("Sandbox.Resume", err)
			if diff := diffTrees(want, t.copyOut(b, "kept")); diff != "" {
				t.broken("after Pause and Resume the files differ: %s", diff)
			}
		},
	}, {
		name:  "pause/teardown",
		needs: []sandboxer.Capability{sandboxer.CapPause},
		rule:  "a paused sandbox can be torn down",
		why:   "it costs money too",
		run: func(t *trial) {
			b := t.newBox()
			_, err := do(t, "Sandbox.Pause", only(b.sb.Pause))
			t.ok("Sandbox.Pause", err)
			_, err = do(t, "Sandbox.Teardown", b.sb.Teardown)
			t.ok("Teardown of a paused sandbox", err)
			t.gone(b.name, "Teardown of a paused sandbox")
		},
	}}
}

func (t *trial) stateIs(b *box, want sandboxer.State) {
	t.Helper()
	if !t.s.can(sandboxer.CapInspect) {
		return
	}
	in, err := t.inspect(t.s.one.spy, b.target)
	t.ok("Inspect", err)
	if in.State != want {
		t.broken("Inspect says that the sandbox is %q; it is %q", in.State, want)
	}
}
