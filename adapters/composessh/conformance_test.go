package composessh_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/composessh"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// threeServices is a stack with a health check and a dependency, of the test's image.
const threeServices = `
services:
  app:
    image: ` + hosttest.Image + `
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    volumes: [".:/src", "cache:/cache"]
    depends_on:
      db: {condition: service_healthy}
  db:
    image: ` + hosttest.Image + `
    command: [sh, -c, "sleep 0.2; touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 500ms, retries: 60}
    volumes: ["data:/data"]
  web:
    image: ` + hosttest.Image + `
    command: [httpd, -f, -p, "80"]
    ports: ["80"]
    init: true
volumes: {cache: {}, data: {}}
`

// repository is a directory with a Compose file.
func repository(t testing.TB, compose string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(compose), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// secrets gives out the key of one host, to whoever asks.
type secrets struct{ host *hosttest.Host }

func (s secrets) Payer(ctx context.Context, ref sandboxer.SecretRef, _ sandboxer.Consumer) (sandboxer.Payer, error) {
	k, err := s.host.Secret(ctx, ref)
	return sandboxer.Payer{Key: k.Version()}, err
}

func (s secrets) Secret(ctx context.Context, ref sandboxer.SecretRef, _ sandboxer.Payer) (sandboxer.Secret, error) {
	return s.host.Secret(ctx, ref)
}

// adapter is the adapter with a configuration for tests.
func adapter(config string) sandboxer.Adapter {
	a := composessh.Adapter()
	a.Manifest = []byte(string(a.Manifest) + "config:\n  ssh_config: none\n  agent: none\n  stop_grace: 1s\n" + config)
	return a
}

func TestConformance(t *testing.T) {
	host := hosttest.StartKind(t, 1, hosttest.Kind{Login: hosttest.Member})
	repo := repository(t, threeServices)
	root := "conformance"
	t.Cleanup(func() { host.Remove("sandboxer-") })
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter { return adapter("  root: " + root + "\n") },
		Secrets: secrets{host},
		Within:  2 * time.Minute,
		Host:    func(testing.TB) sandboxer.Host { return host.Host() },
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{
				ID: "profile.stack", Extension: "ext.compose-ssh", Isolation: sandboxer.IsolationContainer,
				Inputs: sandboxer.Inputs{"repo": repo, "service": "app"}, ReadyTimeout: time.Minute,
			}
		},
		Live: func(t testing.TB) []string { return live(t, host, root) },
		Listen: func(port int) []string {
			return []string{"nc", "-ll", "-p", strconv.Itoa(port), "127.0.0.1", "-e", "cat"}
		},
		Bad: []sandboxer.Inputs{
			{"rep": "x"},
			{"repo": repo, "service": "nobody"},
			{"repo": repo, "compose_file": "../compose.yaml"},
			{"repo": repo, "compose_file": "none.yaml"},
			{"repo": repo, "env": map[string]any{"A=B": "c"}},
			{"repo": repo, "sandbox_id": "another"},
		},
	})
}

// live lists what exists on a host: what the engine has, and what lies in the root.
func live(t testing.TB, host *hosttest.Host, root string) []string {
	t.Helper()
	out := host.Resources("sandboxer-")
	var files []string
	for _, pattern := range []string{"*", ".[!.]*", ".snapshots/*", ".snapshots/.[!.]*"} {
		found, err := filepath.Glob(filepath.Join(host.Server.Home, root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, f := range files {
		if name := filepath.Base(f); name != ".watch" && name != ".snapshots" && !strings.HasPrefix(name, ".fence.") {
			out = append(out, f)
		}
	}
	return out
}
