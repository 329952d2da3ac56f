package manager

import (
	"context"
	"maps"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// labels are what is stamped on the resources of r.
func (m *Manager) labels(r *record, a *attempt) map[string]string {
	if r.Stray != nil {
		return maps.Clone(r.Stray)
	}
	out := make(map[string]string, len(a.Recipe.Labels)+len(r.Asked.Labels)+6)
	maps.Copy(out, a.Recipe.Labels)
	maps.Copy(out, r.Asked.Labels)
	out[sandboxer.LabelID] = string(r.ID)
	out[sandboxer.LabelName] = a.Name
	m.stamp(out, r.Asked.Consumer)
	return out
}

// id is the ID that the resource of a carries: the record's, but for a stray.
func (a *attempt) id(r *record) sandboxer.ID {
	if r.Stray != nil {
		return a.Handle.Ref().ID
	}
	return r.ID
}

// stamp adds who owns something and on whose behalf it exists.
func (m *Manager) stamp(labels map[string]string, c sandboxer.Consumer) {
	labels[sandboxer.LabelOwner] = m.owner
	if c.ID != "" {
		labels[sandboxer.LabelConsumer] = c.ID
	}
	if c.Tenant != "" {
		labels[sandboxer.LabelTenant] = c.Tenant
	}
	if c.Run != "" {
		labels[sandboxer.LabelRun] = c.Run
	}
}

// provisionRequest is what attempt a asks for. All of it is the extension's own: the recipe is shared by many creates.
func (m *Manager) provisionRequest(r *record, a *attempt, h sandboxer.Host) *sandboxer.ProvisionRequest {
	return &sandboxer.ProvisionRequest{
		ID: a.id(r), Attempt: a.N, Name: a.Name, Profile: own.Profile(a.Recipe.Profile), Inputs: own.Inputs(a.Recipe.Inputs),
		Host: own.Host(h), Consumer: own.Consumer(r.Asked.Consumer), Labels: m.labels(r, a), ExpiresAt: a.Deadline,
		Secret:     m.watchKey(a.Extension, a.Payer).secret,
		Checkpoint: func(context.Context, sandboxer.Handle) error { return nil },
	}
}

// target is the subject of a call about attempt a, and the extension's own as well. keys may be nil.
func (m *Manager) target(r *record, a *attempt, h sandboxer.Host, keys *keyWatch) sandboxer.Target {
	if keys == nil {
		keys = m.watchKey(a.Extension, a.Payer)
	}
	handle := a.Handle
	if handle.IsZero() {
		handle = sandboxer.BareHandle(sandboxer.HandleRef{ID: a.id(r), Attempt: a.N, Extension: a.Extension, Host: a.Host})
	}
	return sandboxer.Target{
		Handle: handle, Host: own.Host(h), Inputs: own.Inputs(a.Recipe.Inputs), Consumer: own.Consumer(r.Asked.Consumer),
		Labels: m.labels(r, a), ExpiresAt: a.Deadline, Secret: keys.secret,
	}
}

func (m *Manager) readyTimeout(p *sandboxer.Profile) time.Duration {
	if p.ReadyTimeout > 0 {
		return p.ReadyTimeout
	}
	return m.cfg.ReadyTimeout
}

// find asks a Finder for what a Provision of attempt a, begun at a.Since, may have made. What it does not see with another
// key than keys was made for may exist.
func (m *Manager) find(ctx context.Context, f sandboxer.Finder, r *record, a *attempt, h sandboxer.Host, keys *keyWatch) (found sandboxer.Handle, err error) {
	req := m.provisionRequest(r, a, h)
	req.Secret = keys.secret
	since := a.Since
	if since.IsZero() {
		since = a.StartedAt
	}
	err = m.call(ctx, callOf(sandboxer.OpFind, r, a), func(ctx context.Context) (err error) {
		found, err = f.Find(ctx, req, since)
		return err
	})
	return found, err
}
