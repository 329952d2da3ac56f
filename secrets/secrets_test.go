package secrets_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/canary"
	"github.com/sand-boxer/sandboxer/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ref = sandboxer.SecretRef("env:E2B_API_KEY")

var keyA, keyB, keyC = canary.Key("a"), canary.Key("b"), canary.Key("c")

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
	t.Logf("%v, %+v", err, err) // for the search for keys
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
		"env:SANDBOXER_TEST_EMPTY":         {"env:SANDBOXER_TEST_EMPTY", "set the environment variable SANDBOXER_TEST_EMPTY"},
		"env:SANDBOXER_TEST_UNSET":         {"set the environment variable SANDBOXER_TEST_UNSET"},
		"env:not a name":                   {"no name of a variable"},
		"vault:e2b":                        {"vault:e2b", "env:E2B_API_KEY"},
		"":                                 {"env:E2B_API_KEY"},
		sandboxer.SecretRef(keyB):          {"looks like a key"},
		sandboxer.SecretRef("env:" + keyB): {"looks like a key"},
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
	refused, err := s.Secret(sandboxer.WithRefusedKey(t.Context(), sandboxer.NewSecret(nil, pinned.Key)), "both", pinned)
	if err != nil || string(refused.Reveal()) != keyA {
		t.Errorf("after the backend refused the second source's key: %v; want the first source's", err)
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

func TestVersions(t *testing.T) {
	t.Parallel()
	version := func(value string, opts ...secrets.Option) string {
		return secrets.Versioned(opts...)([]byte(value)).Version()
	}
	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
	for _, key := range []string{keyA, pem} {
		if first, again := version(key), version(key); first != again {
			t.Errorf("a generated key has another version after a restart")
		}
	}
	if version(keyA) == version(keyB) {
		t.Error("two keys share a version")
	}
	for _, chosen := range []string{"hunter2", "1234", "correct horse battery staple", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1", ""} {
		if first, again := version(chosen), version(chosen); first == again {
			t.Errorf("%q can be guessed offline: its version is a stable function of it", chosen)
		}
		key := secrets.WithVersionKey([]byte("0123456789abcdef"))
		if first, again := version(chosen, key), version(chosen, key); first != again {
			t.Errorf("%q has no stable version with a version key", chosen)
		}
		newKey := secrets.Versioned()
		if first, again := newKey([]byte(chosen)), newKey([]byte(chosen)); first.Version() != again.Version() {
			t.Errorf("%q has no stable version within a process", chosen)
		}
	}
	if version(keyA, secrets.WithVersionKey([]byte("0123456789abcdef"))) == version(keyA) {
		t.Error("the version key changes nothing")
	}
}

func TestMissingErrorText(t *testing.T) {
	t.Parallel()
	got := (&secrets.MissingError{Ref: "env:X", Tenant: "acme", Hint: "do this"}).Error()
	if diff := cmp.Diff(`tenant "acme" has no key under the reference "env:X": do this`, got); diff != "" {
		t.Error(diff)
	}
}

// TestFilesOfOthers: what somebody else may have written is no key of ours, and a pipe is not waited for.
func TestFilesOfOthers(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), secrets.Files()
	refused := func(what, path, says string) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			_, err := s.Secret(t.Context(), sandboxer.SecretRef("file:"+path), sandboxer.Payer{})
			done <- err
		}()
		select {
		case err := <-done:
			var m *secrets.MissingError
			if !errors.Is(err, sandboxer.Unauthenticated) || errors.As(err, &m) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is waited for", what)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := exec.CommandContext(t.Context(), "mkfifo", "-m", "600", pipe).Run(); err != nil {
		t.Logf("no pipes here: %v", err)
	} else {
		refused("a pipe", pipe, "not a regular file")
	}
	theirs := filepath.Join(dir, "theirs")
	if err := os.WriteFile(theirs, []byte(keyA), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, 12345, -1); err != nil {
		t.Skipf("only root can give files away: %v", err)
	}
	refused("a file of another user", theirs, "belongs to user 12345")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	refused("a link to a file of another user", link, "belongs to user 12345")
}
