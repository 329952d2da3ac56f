package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/keyretry"
	"github.com/sand-boxer/sandboxer/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ref  = sandboxer.SecretRef("env:E2B_API_KEY")
	keyA = "e2b_0123456789abcdef0123456789abcdef01234567"
	keyB = "e2b_fedcba9876543210fedcba9876543210fedcba98"
	keyC = "e2b_00aa11bb22cc33dd44ee55ff00aa11bb22cc33dd"
)

// reveal is the key that p is served with.
func reveal(t *testing.T, s sandboxer.SecretSource, r sandboxer.SecretRef, p sandboxer.Payer) string {
	t.Helper()
	secret, err := s.Secret(t.Context(), r, p)
	if err != nil {
		t.Fatalf("Secret(%q, %+v): %v", r, p, err)
	}
	return string(secret.Reveal())
}

func payer(t *testing.T, s sandboxer.SecretSource, c sandboxer.Consumer) sandboxer.Payer {
	t.Helper()
	p, err := s.Payer(t.Context(), ref, c)
	if err != nil {
		t.Fatalf("Payer(%+v): %v", c, err)
	}
	return p
}

// wantMissing checks that err is a refusal that names the reference and says how to set it, and shows no key.
func wantMissing(t *testing.T, err error, words ...string) {
	t.Helper()
	var m *secrets.MissingError
	if !errors.Is(err, sandboxer.Unauthenticated) || !sandboxer.IsRefused(err) || !errors.As(err, &m) {
		t.Fatalf("got %v, want a refused Unauthenticated with a MissingError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the message %q does not say %q", err, w)
		}
	}
	for _, key := range []string{keyA, keyB, keyC} {
		if strings.Contains(err.Error(), key) {
			t.Errorf("the message %q shows a key", err)
		}
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("SANDBOXER_TEST_KEY", keyA+"\n")
	t.Setenv("SANDBOXER_TEST_EMPTY", "")
	s := secrets.Env()
	p, err := s.Payer(t.Context(), "env:SANDBOXER_TEST_KEY", sandboxer.Consumer{ID: "c", Tenant: "acme"})
	if err != nil || p.Tenant != "" || len(p.Key) != 8 {
		t.Fatalf("Payer: %+v, %v; want the platform with a version of 8 digits", p, err)
	}
	if got := reveal(t, s, "env:SANDBOXER_TEST_KEY", p); got != keyA {
		t.Errorf("got %q, want the key without its line end", got)
	}
	for ref, words := range map[sandboxer.SecretRef][]string{
		"env:SANDBOXER_TEST_EMPTY": {"env:SANDBOXER_TEST_EMPTY", "set the environment variable SANDBOXER_TEST_EMPTY"},
		"env:SANDBOXER_TEST_UNSET": {"set the environment variable SANDBOXER_TEST_UNSET"},
		"env:not a name":           {"no name of a variable"},
		"vault:e2b":                {"vault:e2b", "env:E2B_API_KEY"},
		"":                         {"env:E2B_API_KEY"},
		keyB:                       {"looks like a key"},
		"env:" + keyB:              {"looks like a key"},
	} {
		_, err := s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c"})
		wantMissing(t, err, words...)
	}
	_, err = s.Secret(t.Context(), "env:SANDBOXER_TEST_KEY", sandboxer.Payer{Tenant: "acme"})
	wantMissing(t, err, `tenant "acme"`)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Payer(ctx, "env:SANDBOXER_TEST_KEY", sandboxer.Consumer{}); !errors.Is(err, sandboxer.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), secrets.Files()
	file := func(name, content string, mode os.FileMode) sandboxer.SecretRef {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return sandboxer.SecretRef("file:" + path)
	}
	good := file("good", keyA+"\r\n", 0o600)
	p, err := s.Payer(t.Context(), good, sandboxer.Consumer{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, s, good, p); got != keyA {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "good"), []byte(keyB), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, s, good, p); got != keyB {
		t.Errorf("after the file was replaced: got %q", got)
	}
	for name, ref := range map[string]sandboxer.SecretRef{
		"absent":      sandboxer.SecretRef("file:" + filepath.Join(dir, "absent")),
		"empty":       file("empty", "\n", 0o600),
		"relative":    "file:key",
		"other kind":  "env:HOME",
		"key instead": sandboxer.SecretRef(keyA),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c"})
			wantMissing(t, err)
		})
	}
	refused := map[string]sandboxer.SecretRef{
		"too large": file("large", strings.Repeat("x", 64<<10+1), 0o600),
		"directory": sandboxer.SecretRef("file:" + dir),
	}
	if runtime.GOOS != "windows" {
		refused["group-readable"] = file("group", keyA, 0o640)
		refused["other-readable"] = file("other", keyA, 0o604)
		refused["other-writable"] = file("writable", keyA, 0o602)
	}
	for name, ref := range refused {
		t.Run(name, func(t *testing.T) {
			_, err := s.Secret(t.Context(), ref, sandboxer.Payer{})
			var m *secrets.MissingError
			if !errors.Is(err, sandboxer.Unauthenticated) || errors.As(err, &m) || strings.Contains(err.Error(), keyA) {
				t.Errorf("got %v, want Unauthenticated that does not let a chain go on", err)
			}
		})
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	first := secrets.Map(map[sandboxer.SecretRef]string{"both": keyA, "one": keyA})
	second := secrets.Map(map[sandboxer.SecretRef]string{"both": keyB, "two": keyB})
	s := secrets.Chain(first, second)
	for ref, want := range map[sandboxer.SecretRef]string{"both": keyA, "one": keyA, "two": keyB} {
		p, err := s.Payer(t.Context(), ref, sandboxer.Consumer{ID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if got := reveal(t, s, ref, p); got != want {
			t.Errorf("%s: got %q, want %q", ref, got, want)
		}
	}
	pinned, err := second.Payer(t.Context(), "both", sandboxer.Consumer{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if got := reveal(t, s, "both", pinned); got != keyB {
		t.Errorf("bought with the second source's key: served with %q", got)
	}
	if got := reveal(t, s, "both", sandboxer.Payer{Key: "gone0000"}); got != keyA {
		t.Errorf("rotated: got %q, want the first source's", got)
	}
	_, err = secrets.Chain(secrets.Env(), secrets.Files()).Payer(t.Context(), "env:SANDBOXER_TEST_NOT_SET", sandboxer.Consumer{})
	wantMissing(t, err, "set the environment variable")
	_, err = secrets.Chain().Payer(t.Context(), "x", sandboxer.Consumer{})
	wantMissing(t, err)
	_, err = secrets.Chain().Secret(t.Context(), "x", sandboxer.Payer{})
	wantMissing(t, err)

	broken := secrets.Chain(failing{}, first)
	if _, err := broken.Payer(t.Context(), "one", sandboxer.Consumer{}); !errors.Is(err, sandboxer.Unavailable) {
		t.Errorf("a source that fails was passed over: %v", err)
	}
	if _, err := broken.Secret(t.Context(), "one", sandboxer.Payer{}); !errors.Is(err, sandboxer.Unavailable) {
		t.Errorf("a source that fails was passed over: %v", err)
	}
}

type failing struct{}

func (failing) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{}, sandboxer.Refused(sandboxer.Unavailable, errors.New("the vault is sealed"))
}

func (failing) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unavailable, errors.New("the vault is sealed"))
}

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

func TestVersions(t *testing.T) {
	t.Parallel()
	version := func(value string, opts ...secrets.Option) string {
		return secrets.Versioned(opts...)([]byte(value)).Version()
	}
	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
	for _, key := range []string{keyA, pem} {
		if version(key) != version(key) {
			t.Errorf("a generated key has another version after a restart")
		}
	}
	if version(keyA) == version(keyB) {
		t.Error("two keys share a version")
	}
	for _, chosen := range []string{"hunter2", "1234", "correct horse battery staple", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1", ""} {
		if version(chosen) == version(chosen) {
			t.Errorf("%q can be guessed offline: its version is a stable function of it", chosen)
		}
		key := secrets.WithVersionKey([]byte("0123456789abcdef"))
		if version(chosen, key) != version(chosen, key) {
			t.Errorf("%q has no stable version with a version key", chosen)
		}
		newKey := secrets.Versioned()
		if newKey([]byte(chosen)).Version() != newKey([]byte(chosen)).Version() {
			t.Errorf("%q has no stable version within a process", chosen)
		}
	}
	if version(keyA, secrets.WithVersionKey([]byte("0123456789abcdef"))) == version(keyA) {
		t.Error("the version key changes nothing")
	}
}

// counting hands out a new version whenever rotate was called, and counts.
type counting struct {
	calls, generation atomic.Int64
	slow              time.Duration
	err               error
}

func (s *counting) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	s.calls.Add(1)
	return sandboxer.Payer{}, nil
}

func (s *counting) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	s.calls.Add(1)
	if s.slow > 0 {
		<-time.After(s.slow)
	}
	v := fmt.Sprint("v", s.generation.Load())
	return sandboxer.NewSecret([]byte(v), v), s.err
}

func TestCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &counting{}
		s := secrets.Cached(src, 10*time.Second)
		get := func(ctx context.Context, p sandboxer.Payer) string {
			secret, err := s.Secret(ctx, ref, p)
			if err != nil {
				t.Fatal(err)
			}
			return secret.Version()
		}
		get(t.Context(), sandboxer.Payer{})
		get(t.Context(), sandboxer.Payer{})
		get(t.Context(), sandboxer.Payer{Tenant: "acme"})
		if n := src.calls.Load(); n != 2 {
			t.Errorf("%d fetches for two payers, want 2", n)
		}
		src.generation.Add(1)
		if got := get(t.Context(), sandboxer.Payer{}); got != "v0" {
			t.Errorf("within the lifetime: %s", got)
		}
		if got := get(keyretry.Refused(t.Context(), "v0"), sandboxer.Payer{}); got != "v1" {
			t.Errorf("after the backend refused v0: %s", got)
		}
		before := src.calls.Load()
		if got := get(keyretry.Refused(t.Context(), "v0"), sandboxer.Payer{}); got != "v1" || src.calls.Load() != before {
			t.Errorf("a second caller that was refused with v0: %s, %d fetches", got, src.calls.Load()-before)
		}
		src.generation.Add(1)
		time.Sleep(10 * time.Second) //nolint:forbidigo // synctest: no real time passes
		if got := get(t.Context(), sandboxer.Payer{}); got != "v2" {
			t.Errorf("after the lifetime: %s", got)
		}
		src.err = sandboxer.Refused(sandboxer.Unavailable, errors.New("sealed"))
		for range 2 {
			before = src.calls.Load()
			if _, err := s.Secret(t.Context(), "other", sandboxer.Payer{}); !errors.Is(err, sandboxer.Unavailable) || src.calls.Load() != before+1 {
				t.Errorf("a failure was kept: %v", err)
			}
		}
		if _, err := s.Payer(t.Context(), ref, sandboxer.Consumer{}); err != nil || src.calls.Load() != before+2 {
			t.Error("who pays was not asked of the source")
		}
	})
}

func TestCachedFetchesOnceForManyAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &counting{slow: time.Minute}
		s := secrets.Cached(src, time.Hour)
		errs := make(chan error)
		for i := range 8 {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*20*time.Second)
				defer cancel()
				_, err := s.Secret(ctx, ref, sandboxer.Payer{})
				errs <- err
			}()
		}
		failed := 0
		for range 8 {
			if err := <-errs; errors.Is(err, sandboxer.DeadlineExceeded) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if failed == 0 {
			t.Error("no waiting caller ended with its context")
		}
	})
}

func TestCachedWithoutLifetimeIsTheSource(t *testing.T) {
	t.Parallel()
	src := &counting{}
	if got := secrets.Cached(src, 0); got != sandboxer.SecretSource(src) {
		t.Errorf("got %T", got)
	}
}

func TestMissingErrorText(t *testing.T) {
	t.Parallel()
	got := (&secrets.MissingError{Ref: "env:X", Tenant: "acme", Hint: "do this"}).Error()
	if diff := cmp.Diff(`tenant "acme" has no key under the reference "env:X": do this`, got); diff != "" {
		t.Error(diff)
	}
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
