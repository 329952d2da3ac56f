package adaptertest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
)

// names is the least that an extension can be: it keeps names, and offers nothing besides.
type names struct {
	mu   sync.Mutex
	made map[string]bool
}

func (n *names) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if err := ctx.Err(); err != nil {
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made[req.Name] = true
	return req.Handle(1, struct{}{})
}

func (n *names) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.made[t.Handle.Ref().Name()] {
		return sandboxer.Reachability{}, sandboxer.Mark(sandboxer.NotFound, errors.New("it is gone"))
	}
	return sandboxer.Reachability{}, sandboxer.Mark(sandboxer.CodeOf(ctx.Err()), ctx.Err())
}

func (n *names) Teardown(_ context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.made, t.Handle.Ref().Name())
	return sandboxer.CleanupReport{}, nil
}

// TestMinimalAdapter: what the contract leaves open is not asked for.
func TestMinimalAdapter(t *testing.T) {
	backend := &names{made: map[string]bool{}}
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter {
			return sandboxer.Adapter{
				Handler:  "names",
				Manifest: []byte("id: ext.names\ntitle: Names\nhandler: names\ncapabilities:\n  isolation_levels: [container]\n  pricing_model: free\n"),
				New:      func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) { return backend, nil },
			}
		},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.name", Extension: "ext.names"}
		},
	})
}
