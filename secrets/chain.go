package secrets

import (
	"context"
	"errors"

	"github.com/sand-boxer/sandboxer"
)

// Chain asks sources in order and takes the first that holds a key under the reference. Only a [MissingError] goes on to
// the next: a source that fails, or a key that cannot be read, is an error. A payer is served by the source that has the
// version it was pinned to, wherever that stands in the chain; where none has, or the backend refused that one, by the first that holds a key
// of that payer.
func Chain(sources ...sandboxer.SecretSource) sandboxer.SecretSource {
	return chain(append([]sandboxer.SecretSource(nil), sources...))
}

const noSource = "no source of keys is configured"

type chain []sandboxer.SecretSource

func (c chain) Payer(ctx context.Context, ref sandboxer.SecretRef, consumer sandboxer.Consumer) (sandboxer.Payer, error) {
	last := missing(ref, consumer.Tenant, noSource)
	for _, s := range c {
		p, err := s.Payer(ctx, ref, consumer)
		if err == nil || !isMissing(err) {
			return p, err
		}
		last = moreHelpful(last, err)
	}
	return sandboxer.Payer{}, last
}

func (c chain) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	var first sandboxer.Secret
	found, last := false, missing(ref, p.Tenant, noSource)
	refused, _ := sandboxer.RefusedKey(ctx)
	for _, s := range c {
		secret, err := s.Secret(ctx, ref, p)
		switch {
		case err == nil && (p.Key == "" || secret.Version() == p.Key && secret.Version() != refused):
			return secret, nil
		case err == nil && !found:
			first, found = secret, true
		case err == nil:
		case isMissing(err):
			last = moreHelpful(last, err)
		case found: // a rotated key is at hand; a broken source behind it need not keep it from being used
		default:
			return sandboxer.Secret{}, err
		}
	}
	if found {
		return first, nil
	}
	return sandboxer.Secret{}, last
}

// moreHelpful keeps the hint of the source that the reference is meant for, rather than of the last that was asked.
func moreHelpful(have, next error) error {
	var h, n *MissingError
	if errors.As(next, &n) && n.otherKind && errors.As(have, &h) && !h.otherKind && h.Hint != noSource {
		return have
	}
	return next
}
