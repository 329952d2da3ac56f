package policy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// TestNothingIsOpened: whatever files a Compose file names, none is opened, under any policy. The kernel tells of each
// open in the directory, so an access could not go unseen.
func TestNothingIsOpened(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"compose.yaml", "other.yaml", "app.env", ".env", "label", "secret", "Dockerfile"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("services: {other: {image: alpine}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("LEAKED", "from the environment")
	t.Chdir(dir)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_OPEN|unix.IN_ACCESS); err != nil {
		t.Fatal(err)
	}
	const all = `services:
  web:
    image: alpine
    env_file: [%[1]s/app.env, app.env, ~/app.env]
    label_file: %[1]s/label
    environment: [LEAKED]
    volumes: ["~/:/x", "%[1]s:/y"]
    configs: [c]
    secrets: [s]
    credential_spec: {file: %[1]s/secret}
    build: {context: %[1]s, secrets: [s], dockerfile: Dockerfile, additional_contexts: {a: %[1]s}}
    %[2]s
configs: {c: {file: %[1]s/secret}}
secrets: {s: {file: ~/secret}}
`
	for _, p := range []policy.Policy{policy.Strict, policy.BuildAllowed, policy.Trusted} {
		for _, more := range []string{"", "extends: {file: %s/other.yaml, service: other}", "extends: {file: 'https://github.com/evil/x.git', service: other}"} {
			for _, include := range []string{"", "include: [%s/other.yaml]\n", "include: [oci://evil.invalid/x, 'https://github.com/evil/x.git']\n"} {
				o := options("web")
				o.Policy, o.Workspace = p, dir
				more, include := strings.ReplaceAll(more, "%s", dir), strings.ReplaceAll(include, "%s", dir)
				stack, err := policy.Load(t.Context(), []byte(include+fmt.Sprintf(all, dir, more)), o)
				if accepted := p == policy.Trusted && more == "" && include == ""; accepted != (err == nil) {
					t.Errorf("%s, %q, %q: %v", p, more, include, err)
				}
				if stack != nil && strings.Contains(string(stack.JSON), "from the environment") {
					t.Error("the environment of the program is in the canonical project")
				}
			}
		}
	}
	events := make([]byte, 4096)
	if n, err := unix.Read(watch, events); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a file was opened: %d bytes of events, %v", n, err)
	}
	if _, err := os.ReadFile("app.env"); err != nil { // the watch works
		t.Fatal(err)
	}
	if n, err := unix.Read(watch, events); n <= 0 || err != nil {
		t.Errorf("the watch sees nothing: %d, %v", n, err)
	}
}
