package secrets

import (
	"context"
	"os"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Env reads the platform's keys from environment variables: "env:E2B_API_KEY". An empty variable counts as not set. The
// variable is read at each use, and line ends around the value are dropped.
//
// The version of a key that looks generated is a short fingerprint, the same after a restart. That of a chosen secret (a
// password) is another one after a restart, because a stable fingerprint would help guessing: see [WithVersionKey].
func Env(opts ...Option) sandboxer.SecretSource {
	v := newVersions(opts)
	return platform{read: func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		if err := ctxErr(ctx); err != nil {
			return sandboxer.Secret{}, err
		}
		name, ok := strings.CutPrefix(string(ref), "env:")
		if !ok {
			return sandboxer.Secret{}, otherKind(ref, "the environment serves references such as env:E2B_API_KEY")
		}
		if !envName(name) {
			return sandboxer.Secret{}, missing(ref, "", "what follows env: is no name of a variable (letters, digits and underscores)")
		}
		if generated([]byte(name)) {
			return sandboxer.Secret{}, missing(ref, "", "what follows env: looks like the key itself; name the variable that holds it")
		}
		value := os.Getenv(name)
		if strings.Trim(value, "\r\n") == "" {
			return sandboxer.Secret{}, missing(ref, "", "set the environment variable "+name+" of this process")
		}
		return v.secret([]byte(value)), nil
	}}
}

func envName(s string) bool {
	for i, c := range s {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_':
		case i > 0 && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 128
}
