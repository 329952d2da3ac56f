package sandboxer

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// SecretRef names a secret: "env:E2B_API_KEY", "file:…", or a name that the host application's source knows. It is no
// secret itself and may be stored.
type SecretRef string

// Secret is a credential in use. It prints as "[redacted]" under every verb of fmt, in slog and in every encoding. The
// zero Secret is empty.
type Secret struct{ p *secretValue } // behind a pointer, so that it compares and is a map key

// secretValue holds the value in a closure. fmt prints an unexported field without asking its methods, under a verb that
// does not fit even what a pointer points to, and so do libraries that print by reflection; none looks into a function.
type secretValue struct {
	reveal  func() []byte
	version string
}

const redacted = "[redacted]"

// NewSecret keeps a copy of value. version names the key without revealing it, and changes when it is rotated.
func NewSecret(value []byte, version string) Secret {
	kept := bytes.Clone(value)
	return Secret{&secretValue{reveal: func() []byte { return bytes.Clone(kept) }, version: version}}
}

// Reveal returns a copy of the value. Do not keep it, log it or put it into an argument list.
func (s Secret) Reveal() []byte {
	if s.p == nil {
		return nil
	}
	return s.p.reveal()
}

// Version names the key without revealing it.
func (s Secret) Version() string {
	if s.p == nil {
		return ""
	}
	return s.p.version
}

// Equal compares values in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1
}

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SecretFunc fetches a secret for whoever pays. Fetch when used, and once more, with [WithRefusedKey], after the backend
// refused a key; do not keep it. Safe for concurrent use.
type SecretFunc func(ctx context.Context, ref SecretRef) (Secret, error)

type refusedKey struct{}

// WithRefusedKey returns a context for fetching a secret again after the backend refused key. Caches on the way are passed
// by, and a source with several keys of the same payer answers with its current one. Where the answer is [Secret.Equal] to
// key nothing has changed, and trying again is of no use.
func WithRefusedKey(ctx context.Context, key Secret) context.Context {
	return context.WithValue(ctx, refusedKey{}, key.Version())
}

// RefusedKey returns the version of the key that the backend refused, and false where a secret is fetched for the first
// time. It is for a [SecretSource] that keeps keys for a while.
func RefusedKey(ctx context.Context) (version string, ok bool) {
	version, ok = ctx.Value(refusedKey{}).(string)
	return version, ok
}

// Payer is whose key a sandbox was bought with. The Manager asks once, stores it with the intent, and never re-decides:
// "not found" under another payer's key does not mean gone.
type Payer struct {
	Tenant string `json:"tenant,omitempty"` // "": the platform
	Key    string `json:"key,omitempty"`    // the Secret's version at creation
}

// SecretSource gives out credentials. Safe for concurrent use.
type SecretSource interface {
	// Payer says whose key is to be used for c. Unauthenticated: which reference is missing and how to set it.
	Payer(ctx context.Context, ref SecretRef, c Consumer) (Payer, error)
	// Secret fetches the key of p.
	Secret(ctx context.Context, ref SecretRef, p Payer) (Secret, error)
}
