package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/secrets"
)

func TestPerTenantPinsThePayer(t *testing.T) {
	t.Parallel()
	newKey := secrets.Versioned()
	keys := map[string][]string{}
	s, err := secrets.PerTenant(secrets.Tenants{
		Keys: func(_ context.Context, tenant string, _ sandboxer.SecretRef) (out []sandboxer.Secret, _ error) {
			for _, k := range keys[tenant] {
				out = append(out, newKey([]byte(k)))
			}
			return out, nil
		},
		Platform:      secrets.Map(map[sandboxer.SecretRef]string{ref: keyA}),
		AllowPlatform: func(c sandboxer.Consumer, _ sandboxer.SecretRef) bool { return c.Tenant != "strict" },
		Hint:          "set it on your account page",
	})
	if err != nil {
		t.Fatal(err)
	}
	acme := sandboxer.Consumer{ID: "c", Tenant: "acme"}

	bought := payer(t, s, acme)
	if bought.Tenant != "" || reveal(t, s, ref, bought) != keyA {
		t.Fatalf("without a key of its own: %+v", bought)
	}
	keys["acme"] = []string{keyB}
	if reveal(t, s, ref, bought) != keyA {
		t.Error("bought by the platform, and served with the key that the tenant added later")
	}
	own := payer(t, s, acme)
	if own.Tenant != "acme" || reveal(t, s, ref, own) != keyB {
		t.Fatalf("with a key of its own: %+v", own)
	}
	keys["acme"] = []string{keyC, keyB}
	if got := reveal(t, s, ref, own); got != keyB {
		t.Errorf("after the tenant added another key: served with %q", got)
	}
	if p := payer(t, s, acme); p.Key == own.Key {
		t.Error("a new sandbox is not bought with the current key")
	}
	refused := func(key string) string {
		secret, err := s.Secret(sandboxer.WithRefusedKey(t.Context(), newKey([]byte(key))), ref, own)
		if err != nil {
			t.Fatal(err)
		}
		return string(secret.Reveal())
	}
	if got := refused(keyB); got != keyC {
		t.Errorf("after the backend refused the key that it was bought with: served with %q", got)
	}
	keys["acme"] = []string{keyB, keyC}
	if got := refused(keyB); got != keyB {
		t.Errorf("after the backend refused the current key: served with %q, which the tenant replaced", got)
	}
	keys["acme"] = []string{keyC}
	if got := reveal(t, s, ref, own); got != keyC {
		t.Errorf("after rotation: served with %q", got)
	}
	keys["acme"] = nil
	_, err = s.Secret(t.Context(), ref, own)
	wantMissing(t, err, `tenant "acme"`, string(ref), "taken away", "account page")

	_, err = s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c", Tenant: "strict"})
	wantMissing(t, err, `tenant "strict"`, string(ref), "account page")
}

func TestPerTenantDefaults(t *testing.T) {
	t.Parallel()
	if _, err := secrets.PerTenant(secrets.Tenants{}); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("without a look-up: %v", err)
	}
	s, err := secrets.PerTenant(secrets.Tenants{
		Keys:     secrets.TenantMap(map[string]map[sandboxer.SecretRef]string{"acme": {ref: keyB}}),
		Platform: secrets.Map(map[sandboxer.SecretRef]string{ref: keyA}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := payer(t, s, sandboxer.Consumer{ID: "c"}); reveal(t, s, ref, p) != keyA {
		t.Error("a consumer without a tenant is not served by the platform")
	}
	if p := payer(t, s, sandboxer.Consumer{ID: "c", Tenant: "acme"}); reveal(t, s, ref, p) != keyB {
		t.Error("a tenant with a key is not served with it")
	}
	_, err = s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c", Tenant: "other"})
	wantMissing(t, err, `tenant "other"`, "AllowPlatform")

	down, err := secrets.PerTenant(secrets.Tenants{
		Keys: func(context.Context, string, sandboxer.SecretRef) ([]sandboxer.Secret, error) {
			return nil, errors.New("database is away")
		},
		Platform:      secrets.Map(map[sandboxer.SecretRef]string{ref: keyA}),
		AllowPlatform: func(sandboxer.Consumer, sandboxer.SecretRef) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := down.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c", Tenant: "acme"}); !errors.Is(err, sandboxer.Unavailable) {
		t.Errorf("a look-up that fails made the platform pay: %v", err)
	}
}

func TestTenantFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(path, content string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tenants/acme/E2B_API_KEY", keyB)
	write("outside/E2B_API_KEY", keyC)
	s, err := secrets.PerTenant(secrets.Tenants{Keys: secrets.TenantFiles(filepath.Join(dir, "tenants"))})
	if err != nil {
		t.Fatal(err)
	}
	p := payer(t, s, sandboxer.Consumer{ID: "c", Tenant: "acme"})
	write("tenants/acme/E2B_API_KEY", keyC)
	write("tenants/acme/E2B_API_KEY.previous", keyB)
	if got := reveal(t, s, ref, p); got != keyB {
		t.Errorf("bought with the previous key: served with %q", got)
	}
	for _, tenant := range []string{"../outside", "..", ".", "acme/..", "a b", strings.Repeat("x", 201)} {
		_, err := s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c", Tenant: tenant})
		wantMissing(t, err)
	}
	if err := os.Symlink(filepath.Join(dir, "outside"), filepath.Join(dir, "tenants", "evil")); err == nil {
		if _, err := s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c", Tenant: "evil"}); err == nil {
			t.Error("a link that leaves the directory was followed")
		}
	}
}

func FuzzTenantFilesStaysInside(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "E2B_API_KEY"), []byte(keyA), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "tenants", "acme"), 0o700); err != nil {
		f.Fatal(err)
	}
	lookup := secrets.TenantFiles(filepath.Join(dir, "tenants"))
	f.Add("acme", "env:E2B_API_KEY")
	f.Add("..", "E2B_API_KEY")
	f.Add("acme", "../../E2B_API_KEY")
	f.Add("acme/..", "env:../E2B_API_KEY")
	f.Fuzz(func(t *testing.T, tenant, name string) {
		if keys, err := lookup(t.Context(), tenant, sandboxer.SecretRef(name)); len(keys) > 0 || err != nil {
			t.Errorf("%q %q: %d keys, %v", tenant, name, len(keys), err)
		}
	})
}

func ExamplePerTenant() {
	source, err := secrets.PerTenant(secrets.Tenants{
		Keys: secrets.TenantMap(map[string]map[sandboxer.SecretRef]string{
			"acme": {"env:E2B_API_KEY": "e2b_0123456789abcdef0123456789abcdef01234567"},
		}),
		Hint: "add your key under Settings, API keys",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tenant := range []string{"acme", "newcomer"} {
		p, err := source.Payer(context.Background(), "env:E2B_API_KEY", sandboxer.Consumer{ID: "u1", Tenant: tenant})
		fmt.Printf("%q %v\n", p.Tenant, err)
	}
	// Output:
	// "acme" <nil>
	// "" unauthenticated: tenant "newcomer" has no key under the reference "env:E2B_API_KEY": add your key under Settings, API keys
}
