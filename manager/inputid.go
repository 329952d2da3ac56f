package manager

import (
	"fmt"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

// inputID is the input by which a profile or a request may name the sandbox, where the extension declares it. It counts as
// CreateRequest.ID, for callers that pass inputs on and nothing else.
const inputID = "sandbox_id"

// namedByInput is the ID of a request: its own, or the one among its inputs.
func (m *Manager) namedByInput(req sandboxer.CreateRequest) (sandboxer.ID, error) {
	p, err := m.cfg.Registry.Profile(req.Profile)
	if err != nil {
		return req.ID, nil //nolint:nilerr // resolving the request says it, with all that is wrong
	}
	v, ok := req.Inputs[inputID]
	if !ok {
		v, ok = p.Inputs[inputID]
	}
	manifest, err := m.cfg.Registry.Manifest(p.Extension)
	if !ok || err != nil || !slices.Contains(slices.Concat(manifest.Inputs.Optional, manifest.Inputs.Required), inputID) {
		return req.ID, nil
	}
	text, ok := v.(string)
	id := sandboxer.ID(text)
	if !ok {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input %q is %v; give the sandbox's ID as a string", inputID, v))
	}
	if err := id.Validate(); err != nil {
		return "", fmt.Errorf("input %q: %w", inputID, err)
	}
	if req.ID != "" && req.ID != id {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input %q is %q and CreateRequest.ID is %q; give one of them", inputID, id, req.ID))
	}
	return id, nil
}
