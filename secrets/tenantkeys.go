package secrets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// TenantMap serves the tenants' keys from memory: tenant → reference → key. Tests use it.
func TenantMap(keys map[string]map[sandboxer.SecretRef]string, opts ...Option) TenantKeys {
	newKey, copied := Versioned(opts...), map[string]map[sandboxer.SecretRef]string{}
	for tenant, refs := range keys {
		copied[tenant] = map[sandboxer.SecretRef]string{}
		for ref, value := range refs {
			copied[tenant][ref] = value
		}
	}
	return func(_ context.Context, tenant string, ref sandboxer.SecretRef) ([]sandboxer.Secret, error) {
		if value := copied[tenant][ref]; value != "" {
			return []sandboxer.Secret{newKey([]byte(value))}, nil
		}
		return nil, nil
	}
}

// TenantFiles serves the tenants' keys from a directory: the key of tenant acme under env:E2B_API_KEY is the file
// acme/E2B_API_KEY, with the modes that [Files] asks for. A file acme/E2B_API_KEY.previous holds the key that was current
// before; what was bought with it goes on with it until that file is removed. Names that do not fit a file name (letters,
// digits, '.', '_', '@' and '-', not beginning with a dot) have no key here. Nothing outside the directory is ever read.
func TenantFiles(dir string, opts ...Option) TenantKeys {
	newKey := Versioned(opts...)
	return func(_ context.Context, tenant string, ref sandboxer.SecretRef) ([]sandboxer.Secret, error) {
		name := strings.TrimPrefix(string(ref), "env:")
		if !fileName(tenant) || !fileName(name) {
			return nil, nil
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("directory of the tenants' keys: %w", err)
		}
		defer func() { _ = root.Close() }()
		var keys []sandboxer.Secret
		for _, suffix := range []string{"", ".previous"} {
			value, err := readKeyFile(filepath.Join(tenant, name+suffix), root.OpenFile)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, sandboxer.Mark(sandboxer.Unauthenticated, err)
			case len(value) > 0:
				keys = append(keys, newKey(value))
			}
		}
		return keys, nil
	}
}

func fileName(s string) bool {
	if s == "" || len(s) > 200 || s[0] == '.' || strings.HasSuffix(s, ".previous") {
		return false
	}
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("._@-", c):
		default:
			return false
		}
	}
	return true
}
