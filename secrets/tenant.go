package secrets

import (
	"context"
	"errors"
	"fmt"

	"github.com/sand-boxer/sandboxer"
)

// TenantKeys looks up the keys that a tenant brought, the current one first; none, and no error, where it brought none. It
// is called concurrently and at each use of a key. Give each key a version of your own that is no function of its value and no
// other tenant's (the number of its row in a table of all tenants' keys), or make it with [Versioned].
type TenantKeys func(ctx context.Context, tenant string, ref sandboxer.SecretRef) ([]sandboxer.Secret, error)

// Tenants configures [PerTenant].
type Tenants struct {
	Keys TenantKeys // required
	// Platform holds the platform's own keys. Defaults to none: everybody brings a key.
	Platform sandboxer.SecretSource
	// AllowPlatform says whether the platform pays for a consumer whose tenant brought no key. Defaults to consumers
	// without a tenant only, because anything else spends the platform's money.
	AllowPlatform func(c sandboxer.Consumer, ref sandboxer.SecretRef) bool
	// Hint ends the message for a tenant without a key, and says where your users set theirs. Defaults to a general one.
	Hint string
}

// PerTenant is bring-your-own-key: a consumer's sandbox is paid with its tenant's own key where there is one, with the
// platform's where the policy allows that, and otherwise refused as Unauthenticated, naming the reference. Who pays is
// decided in Payer alone; Secret never changes it: see the package comment. InvalidArgument without Keys.
func PerTenant(cfg Tenants) (sandboxer.SecretSource, error) {
	if cfg.Keys == nil {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("secrets.PerTenant needs Tenants.Keys, the look-up of the keys that tenants brought"))
	}
	if cfg.AllowPlatform == nil {
		cfg.AllowPlatform = func(c sandboxer.Consumer, _ sandboxer.SecretRef) bool { return c.Tenant == "" }
	}
	if cfg.Hint == "" {
		cfg.Hint = "store the tenant's own key under that reference, or let the platform pay (Tenants.AllowPlatform)"
	}
	return &perTenant{cfg}, nil
}

type perTenant struct{ cfg Tenants }

func (s *perTenant) Payer(ctx context.Context, ref sandboxer.SecretRef, c sandboxer.Consumer) (sandboxer.Payer, error) {
	if c.Tenant != "" {
		keys, err := s.keys(ctx, ref, c.Tenant)
		if err != nil {
			return sandboxer.Payer{}, err
		}
		if len(keys) > 0 {
			return sandboxer.Payer{Tenant: c.Tenant, Key: keys[0].Version()}, nil
		}
	}
	if s.cfg.Platform == nil || !s.cfg.AllowPlatform(c, ref) {
		return sandboxer.Payer{}, missing(ref, c.Tenant, s.cfg.Hint)
	}
	p, err := s.cfg.Platform.Payer(ctx, ref, c)
	if err == nil && p.Tenant != "" {
		return sandboxer.Payer{}, sandboxer.Refused(sandboxer.Internal, fmt.Errorf("the platform's source of keys says that tenant %q pays", p.Tenant))
	}
	return p, err
}

func (s *perTenant) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	if p.Tenant == "" {
		if s.cfg.Platform == nil {
			return sandboxer.Secret{}, missing(ref, "", "the platform bought this sandbox and has no source of keys any more; set Tenants.Platform")
		}
		return s.cfg.Platform.Secret(ctx, ref, p)
	}
	keys, err := s.keys(ctx, ref, p.Tenant)
	if err != nil {
		return sandboxer.Secret{}, err
	}
	if len(keys) == 0 {
		return sandboxer.Secret{}, missing(ref, p.Tenant, "the key that it bought this sandbox with was taken away; "+s.cfg.Hint)
	}
	refused, _ := sandboxer.RefusedKey(ctx)
	for _, k := range keys {
		if k.Version() == p.Key && k.Version() != refused {
			return k, nil
		}
	}
	return keys[0], nil // rotated, or revoked at the backend before it was taken away here
}

func (s *perTenant) keys(ctx context.Context, ref sandboxer.SecretRef, tenant string) ([]sandboxer.Secret, error) {
	if err := ctxErr(ctx); err != nil {
		return nil, err
	}
	keys, err := s.cfg.Keys(ctx, tenant, ref)
	switch code := sandboxer.CodeOf(err); {
	case err == nil:
		return keys, nil
	case isMissing(err):
		return nil, nil
	case code == sandboxer.Unknown: // a store that cannot be asked is not a tenant without a key
		return nil, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("looking up the key of tenant %q under %q: %w", tenant, shown(ref), err))
	default:
		return nil, sandboxer.Refused(code, fmt.Errorf("looking up the key of tenant %q under %q: %w", tenant, shown(ref), err))
	}
}
