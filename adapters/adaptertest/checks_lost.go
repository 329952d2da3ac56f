package adaptertest

import (
	"context"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

func lostChecks() []check {
	finds := func(s *suite) bool { return s.can(sandboxer.CapFind) }
	return []check{{
		name: "lost-reply/removed",
		when: func(s *suite) bool { return !finds(s) },
		rule: "after a Provision whose reply was lost, Teardown by name leaves nothing",
		why:  "connections break after the backend has done its work: what nobody knows of costs money for ever",
		run: func(t *trial) {
			sb, id, err := t.createLosing()
			if err == nil {
				_, _ = sb.Teardown(context.Background())
				t.broken("Create succeeded without the reply of Provision and without a Finder")
			}
			t.poll(func() bool { return len(t.existing(string(id))) == 0 })
			t.gone(string(id), "a Create whose reply was lost")
		},
	}, {
		name: "lost-reply/adopted",
		when: finds,
		rule: "after a Provision whose reply was lost, Find returns the handle of what it made, and there is exactly one resource",
		why:  "otherwise a sandbox that works is thrown away, or a second one is made beside it",
		run: func(t *trial) {
			usual := t.newBox()
			sb, id, err := t.createLosing()
			t.ok("Create whose reply was lost, and which could have been found,", err)
			t.Cleanup(func() { _, _ = sb.Teardown(context.Background()) })
			seen := t.s.one.spy.saw(string(id))
			if seen.provisionings != 1 {
				t.broken("Provision was called %d times", seen.provisionings)
			}
			if got := seen.target.Handle; got != seen.made {
				t.broken("the handle that was found is %s, and Provision had made %s", jsonOf(got), jsonOf(seen.made))
			}
			if n, one := t.existing(string(id)), t.existing(usual.name); len(n) != len(one) {
				t.broken("these exist: %q; of a sandbox that was made without trouble they are %q", n, one)
			}
			_, err = do(t, "Sandbox.Teardown", sb.Teardown)
			t.ok("Teardown of a sandbox that was adopted", err)
			t.gone(string(id), "Teardown of a sandbox that was adopted")
		},
	}, {
		name:  "lost-reply/snapshot",
		needs: []sandboxer.Capability{sandboxer.CapSnapshot},
		rule:  "after a Snapshot whose reply was lost, DeleteSnapshot by ID leaves nothing",
		why:   "snapshots are stored, and cost money, longer than any sandbox",
		run: func(t *trial) {
			b := t.newBox()
			t.s.one.hooks.on(sandboxer.OpSnapshot, b.id, func(ctx context.Context, _ sandboxer.Call, next func(context.Context) error) error {
				if err := next(ctx); err != nil {
					return err
				}
				return sandboxer.Mark(sandboxer.Unknown, errLost)
			})
			id := snapshotID()
			_, err := do(t, "Snapshot", func(ctx context.Context) (sandboxer.Snapshot, error) {
				return b.sb.Snapshot(ctx, sandboxer.SnapshotRequest{ID: id})
			})
			if err == nil {
				t.broken("Sandbox.Snapshot succeeded without a reply")
			}
			// Where listings lag the Manager cannot remove it at once, and tries again.
			t.poll(func() bool { return len(containing(t.s.liveNames(t), id))+len(t.snapshotsCalled(id)) == 0 })
			t.noSnapshot(id, "a Snapshot whose reply was lost")
		},
	}}
}

// createLosing makes a sandbox, and the reply of Provision does not arrive.
func (t *trial) createLosing() (*manager.Sandbox, sandboxer.ID, error) {
	t.Helper()
	id := sandboxer.NewID()
	t.s.one.hooks.lose(id)
	sb, err := do(t, "Create", func(ctx context.Context) (*manager.Sandbox, error) {
		return t.s.one.m.Create(ctx, sandboxer.CreateRequest{ID: id, Profile: t.s.profile.ID, Consumer: t.s.consumer()})
	})
	if made := t.s.one.spy.saw(string(id)).made; made.IsZero() {
		t.broken("Provision made nothing of which the reply could be lost: %v", err)
	}
	return sb, id, err
}
