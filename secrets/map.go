package secrets

import (
	"context"
	"maps"

	"github.com/sand-boxer/sandboxer"
)

// Map serves the platform's keys from memory, for tests and for host applications that have them at hand. values is
// copied. Versions are as in [Env].
func Map(values map[sandboxer.SecretRef]string, opts ...Option) sandboxer.SecretSource {
	v, values := newVersions(opts), maps.Clone(values)
	return platform{read: func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		if err := ctxErr(ctx); err != nil {
			return sandboxer.Secret{}, err
		}
		value, ok := values[ref]
		if !ok || value == "" {
			return sandboxer.Secret{}, otherKind(ref, "it is not in the map given to secrets.Map")
		}
		return v.secret([]byte(value)), nil
	}}
}
