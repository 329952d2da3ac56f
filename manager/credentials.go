package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// credentials finds the SecretRefs in an extension's configuration: what the adapter declares, or else everything that is
// written as one.
func credentials(a sandboxer.Adapter, cfg sandboxer.Inputs) []sandboxer.SecretRef {
	keys, declared := a.Credentials, true
	if len(keys) == 0 {
		keys, declared = slices.Sorted(maps.Keys(cfg)), false
	}
	var refs []sandboxer.SecretRef
	for _, k := range keys {
		s, ok := cfg[k].(string)
		if ok && s != "" && (declared || strings.HasPrefix(s, "env:") || strings.HasPrefix(s, "file:")) {
			refs = append(refs, sandboxer.SecretRef(s))
		}
	}
	return refs
}

// payer asks once who pays at x for consumer c.
func (m *Manager) payer(ctx context.Context, x *extension, c sandboxer.Consumer) (sandboxer.Payer, error) {
	if len(x.pays) == 0 {
		return sandboxer.Payer{}, nil
	}
	var p sandboxer.Payer
	err := within(ctx, "who pays at "+x.id, m.cfg.CallTimeout, "CallTimeout", func(ctx context.Context) (err error) {
		p, err = m.cfg.Secrets.Payer(ctx, x.pays[0], c)
		return err
	})
	if err != nil {
		return p, sandboxer.Refused(codeOr(err, sandboxer.Unauthenticated), fmt.Errorf("no credential for %s: %w", x.id, err))
	}
	return p, nil
}

// keyNow is the version of the key that p has at x now; the one on record where that cannot be told.
func (m *Manager) keyNow(ctx context.Context, x *extension, p sandboxer.Payer) string {
	key := p.Key
	_ = within(ctx, "the key of "+x.id, m.cfg.CallTimeout, "CallTimeout", func(ctx context.Context) error {
		s, err := m.cfg.Secrets.Secret(ctx, x.pays[0], p)
		if err == nil {
			key = s.Version()
		}
		return err
	})
	return key
}

func codeOr(err error, or sandboxer.Code) sandboxer.Code {
	if c := sandboxer.CodeOf(err); c != sandboxer.Unknown {
		return c
	}
	return or
}

// keyWatch is the SecretFunc of one call, bound to whoever pays. It notices when the key that the sandbox was bought with
// is no longer the one that is used: what another key does not see may still exist.
type keyWatch struct {
	m     *Manager
	payer sandboxer.Payer
	first sandboxer.SecretRef

	mu      sync.Mutex
	foreign bool
	key     string // the last one that is foreign
}

func (m *Manager) watchKey(extensionID string, p sandboxer.Payer) *keyWatch {
	w := &keyWatch{m: m, payer: p}
	if x := m.extensions[extensionID]; x != nil && len(x.pays) > 0 {
		w.first = x.pays[0]
	}
	return w
}

func (w *keyWatch) secret(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
	s, err := w.m.cfg.Secrets.Secret(ctx, ref, w.payer)
	if err != nil {
		return s, sandboxer.Refused(codeOr(err, sandboxer.Unauthenticated), fmt.Errorf("credential %s: %w", ref, err))
	}
	if ref == w.first && w.payer.Key != "" && s.Version() != w.payer.Key {
		w.mu.Lock()
		w.foreign, w.key = true, s.Version()
		w.mu.Unlock()
	}
	return s, nil
}

// usedForeignKey reports whether another key than the payer's was handed out.
func (w *keyWatch) usedForeignKey() bool {
	_, foreign := w.foreignKey()
	return foreign
}

// foreignKey is the version of the last key that was handed out and is not the payer's, if there was one.
func (w *keyWatch) foreignKey() (version string, foreign bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.key, w.foreign
}
