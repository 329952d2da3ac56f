package secrets

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"unicode"

	"github.com/sand-boxer/sandboxer"
)

// Option adjusts how a source names the versions of its keys.
type Option func(*versions)

// WithVersionKey makes every version a keyed fingerprint (HMAC-SHA-256, 32 bits), stable across restarts and processes
// that are given the same key. Without it only what looks like a generated key has a version that survives a restart; see
// [Env]. key is a secret of the host application, 16 random
// bytes or more; it must not be kept where versions are stored.
func WithVersionKey(key []byte) Option {
	key = bytes.Clone(key)
	return func(v *versions) { v.key = key }
}

// versions names keys without revealing them. A version is stored and shown, so it must be of no use for guessing:
//
//   - A generated key (an API token, a private key) has so much entropy that 32 bits of a hash are of no use; its version
//     is the same in every process.
//   - A short or chosen secret could be guessed offline against any stable hash. Its version is keyed with random bytes of
//     this source, and is another one after a restart. That errs on the safe side: it looks rotated.
//   - With WithVersionKey all are keyed and stable.
type versions struct {
	key    []byte // "": none was given
	random []byte
}

const versionDomain = "sandboxer secret version 1\x00"

func newVersions(opts []Option) versions {
	v := versions{random: make([]byte, 32)}
	_, _ = rand.Read(v.random) // never fails: crypto/rand ends the program instead
	for _, o := range opts {
		o(&v)
	}
	return v
}

// secret wraps a value that was read. Line ends around it are no part of a key.
func (v versions) secret(value []byte) sandboxer.Secret {
	value = bytes.Trim(value, "\r\n")
	key := v.key
	if len(key) == 0 && !generated(value) {
		key = v.random
	}
	mac := hmac.New(sha256.New, append([]byte(versionDomain), key...))
	mac.Write(value)
	return sandboxer.NewSecret(value, hex.EncodeToString(mac.Sum(nil)[:4]))
}

// Versioned returns a function that makes keys whose versions are as in [Env], for look-ups of your own. Keep the function:
// another one may name a chosen secret differently.
func Versioned(opts ...Option) func(value []byte) sandboxer.Secret {
	return newVersions(opts).secret
}

// generated reports whether value was made by a machine: a private key in PEM, or one word of at least 24 characters in
// which digits and letters are well mixed.
func generated(value []byte) bool {
	if bytes.HasPrefix(value, []byte("-----BEGIN ")) && bytes.Contains(value, []byte("PRIVATE KEY-----")) {
		return true
	}
	if len(value) < 24 {
		return false
	}
	digits, letters, distinct := 0, 0, map[byte]bool{}
	for _, c := range value {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c < 0x80 && unicode.IsLetter(rune(c)):
			letters++
		case c <= ' ' || c >= 0x7f:
			return false
		}
		distinct[c] = true
	}
	return digits >= 4 && letters >= 4 && len(distinct) >= 8
}
