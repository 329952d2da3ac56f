package registry

import (
	"regexp"
	"strings"
	"unicode"
)

// secretShapes are what well-known keys look like. The prefixes are the vendors' own, as their documentation and the
// public secret scanners had them in November 2026; they are stable, because scanners depend on them.
var secretShapes = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"a private key", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)},
	{"an E2B key", regexp.MustCompile(`\be2b_[0-9a-fA-F]{16,}`)},
	{"an API key", regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{16,}`)},
	{"a Stripe key", regexp.MustCompile(`\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}`)},
	{"a GitHub token", regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})`)},
	{"a GitLab token", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20,}`)},
	{"a Slack token", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`)},
	{"an AWS key", regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`)},
	{"a Google key", regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`)},
	{"a Modal key", regexp.MustCompile(`\ba[ks]-[A-Za-z0-9]{22}\b`)},
	{"a Hugging Face token", regexp.MustCompile(`\bhf_[A-Za-z0-9]{30,}`)},
	{"an npm token", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}`)},
	{"a Docker token", regexp.MustCompile(`\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}`)},
	{"a JSON Web Token", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.`)},
	// Only where such URLs lead to servers of others: postgres://postgres:postgres@db in a test's settings is no secret.
	{"a URL with a password", regexp.MustCompile(`(?i)\b(?:https?|git|git\+https?|ssh|ftps?)://[^/\s:@?#]*:[^/\s@$?#][^/\s@]*@`)},
}

// secretShape says what kind of secret s contains, or "".
func secretShape(s string) string {
	if len(s) < 8 {
		return ""
	}
	for _, shape := range secretShapes {
		if shape.pattern.MatchString(s) {
			return shape.what
		}
	}
	return ""
}

// publicKey is a line of ssh's: the key, which nobody has to hide, and what its owner wrote behind it.
var publicKey = regexp.MustCompile(`^(?:(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]+(?:@openssh\.com)?) AAAA[A-Za-z0-9+/]+=*(?: (.*))?\n?$`)

// valueKind is what the name of a value says of it.
type valueKind uint8

const (
	plainValue  valueKind = iota
	secretValue           // api_key, password, authToken
	tokensValue           // stop_tokens: a number counts them, a list holds words of a model, anything else is a secret
	wordValue             // below tokens: a secret only where it looks like one
)

// kindOfValue tells it from a key, and where that says nothing from the keys above.
func kindOfValue(name string, above valueKind) valueKind {
	words := splitWords(name)
	if len(words) == 0 {
		return above
	}
	switch words[0] {
	case "max", "min", "num", "public": // max_tokens counts them
		return plainValue
	}
	before := ""
	if len(words) > 1 {
		before = words[len(words)-2]
	}
	switch words[len(words)-1] {
	case "password", "passwd", "passphrase", "secret", "secrets", "token", "apikey", "credential", "credentials":
		return secretValue
	case "tokens":
		switch before {
		case "api", "access", "auth", "bearer", "refresh", "secret", "private":
			return secretValue
		}
		return tokensValue
	case "key", "keys":
		switch before {
		case "api", "access", "secret", "private", "auth", "signing", "encryption", "ssh", "deploy", "license", "account":
			return secretValue
		}
	case "user", "username", "login", "email", "name", "id", "type", "kind", "version", "region", "zone",
		"url", "uri", "endpoint", "host", "hostname", "address", "port", "path", "file", "dir", "ttl", "timeout":
		return plainValue // beside a password
	}
	return above
}

// splitWords takes snake_case, kebab-case and camelCase apart, in lower case.
func splitWords(name string) []string {
	var words []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
			word.Reset()
		}
	}
	lower := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
		case unicode.IsUpper(r) && lower:
			end()
			fallthrough
		default:
			word.WriteRune(unicode.ToLower(r))
		}
		lower = unicode.IsLower(r)
	}
	end()
	return words
}

var (
	uuid      = regexp.MustCompile(`(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	refScheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:\S+$`)
	refName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

// looksLikeRef reports whether the value of a secret's key is a reference: env:NAME, file:/path, another scheme, or a
// plain name. A long run of letters mixed with digits is taken for the secret itself, and so is a long number where no word
// stands beside it, as it does in regcred-20261126.
func looksLikeRef(s string) bool {
	if s == "" || refScheme.MatchString(s) {
		return true
	}
	if !refName.MatchString(s) || looksRandom(s) {
		return false
	}
	word, number := false, false
	for _, part := range splitRuns(s) {
		letters, digits := count(part)
		if letters > 0 && digits >= 8 {
			return false
		}
		word = word || letters > 0
		number = number || digits >= 8
	}
	return word || !number
}

// looksRandom reports whether s holds what no person thought of as a name.
func looksRandom(s string) bool {
	for _, part := range splitRuns(s) {
		if letters, digits := count(part); letters+digits >= 16 && digits >= 3 && letters > 0 {
			return true
		}
	}
	return uuid.MatchString(s)
}

// splitRuns takes s apart where a person would separate words.
func splitRuns(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("._/- ", r) })
}

func count(s string) (letters, digits int) {
	for _, r := range s {
		if r >= '0' && r <= '9' {
			digits++
		} else {
			letters++
		}
	}
	return letters, digits
}

const (
	secretAdvice = "manifests, profiles and inputs hold references only, such as env:E2B_API_KEY or file:/run/secrets/e2b (or a name that the application's SecretSource knows)"
	// secretRotate is added where the value is certainly a key.
	secretRotate = "; if the file was shared, replace the key at its issuer"
)

// findSecrets walks a value and reports what is, or by its name must be, a secret that is written out. The message never
// shows it. isSecret marks keys of the top level that are secrets whatever they are called.
func findSecrets(at path, v any, isSecret func(key string) bool, report func(at path, text string)) {
	walkSecrets(at, v, plainValue, isSecret, report)
}

func walkSecrets(at path, v any, kind valueKind, isSecret func(string) bool, report func(path, string)) {
	below := kind
	if kind == tokensValue {
		below = wordValue
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if what := secretShape(k); what != "" {
				report(at, "holds a key that looks like "+what+"; "+secretAdvice+secretRotate)
				continue
			}
			kind := kindOfValue(k, below)
			if isSecret != nil && isSecret(k) {
				kind = secretValue
			}
			walkSecrets(at.with(k), v[k], kind, nil, report)
		}
	case []any:
		for i, item := range v {
			walkSecrets(at.with(i), item, below, nil, report)
		}
	case string:
		text := v
		if m := publicKey.FindStringSubmatch(v); m != nil {
			text, kind = m[1], plainValue
		}
		if what := secretShape(text); what != "" {
			report(at, "looks like "+what+" written out; "+secretAdvice+secretRotate)
		} else if kind == wordValue && looksRandom(v) || (kind == secretValue || kind == tokensValue) && !looksLikeRef(v) {
			report(at, "looks like a secret written out; "+secretAdvice)
		}
	case nil, bool:
	default:
		if kind == secretValue {
			report(at, "is a number where a reference to a secret is expected; "+secretAdvice)
		}
	}
}
