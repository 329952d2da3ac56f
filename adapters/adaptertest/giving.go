package adaptertest

import (
	"context"
	"maps"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// giving gives each call of an extension maps and lists of its own, as a Manager does: trials use one request several times,
// and side by side. Everything optional is reached through Unwrap.
type giving struct{ sandboxer.Extension }

func (g giving) Unwrap() sandboxer.Extension { return g.Extension }

func (g giving) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	given := *req
	given.Profile, given.Inputs, given.Host, given.Consumer = own.Profile(req.Profile), own.Inputs(req.Inputs), own.Host(req.Host), own.Consumer(req.Consumer)
	given.Labels = maps.Clone(req.Labels)
	return g.Extension.Provision(ctx, &given)
}

func (g giving) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	return g.Extension.WaitReady(ctx, ownTarget(t))
}

func (g giving) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	return g.Extension.Teardown(ctx, ownTarget(t))
}

func ownTarget(t sandboxer.Target) sandboxer.Target {
	t.Host, t.Inputs, t.Consumer = own.Host(t.Host), own.Inputs(t.Inputs), own.Consumer(t.Consumer)
	t.Labels = maps.Clone(t.Labels)
	return t
}
