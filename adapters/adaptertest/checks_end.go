package adaptertest

import (
	"context"
	"slices"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
)

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
