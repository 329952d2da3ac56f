// Package keyretry lets an adapter that was refused with a key ask for it again, past every cache between it and the place
// where keys are kept. Adapters mark the context of the second fetch; caches of secrets look for the mark.
package keyretry

import "context"

type refusedKey struct{}

// Refused returns a context for fetching a secret again, after the backend refused the one of that version.
func Refused(ctx context.Context, version string) context.Context {
	return context.WithValue(ctx, refusedKey{}, version)
}

// Version returns the version that the backend refused, and whether there was one.
func Version(ctx context.Context) (string, bool) {
	v, ok := ctx.Value(refusedKey{}).(string)
	return v, ok
}
