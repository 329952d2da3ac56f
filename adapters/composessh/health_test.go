package composessh_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestReadyBeforeTheEngineLooks: an engine makes its first health check when an interval has passed; nobody waits for that,
// whatever the check looks like, unless it would show a secret.
func TestReadyBeforeTheEngineLooks(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]string{
		"a command":          `[CMD, test, -e, "/tmp/it is up"]`,
		"a line for a shell": `"test -e '/tmp/it is up' || exit 1"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hosttest.Start(t, 1)
			w := newWorld(t, repository(t, `
services:
  app:
    image: `+hosttest.Image+`
    command: [sh, -c, "sleep 0.5; touch '/tmp/it is up'; trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    healthcheck: {test: `+check+`, interval: 10m}
`), "", h)
			sb := w.create(w.request())
			if got := output(t, sb, "sh", "-c", "cd /tmp; ls"); got != "it is up\n" {
				t.Errorf("ready, and in /tmp is %q", got)
			}
		})
	}
}

// TestHealthCheckThatHangs: a check that takes long is left to the engine, which gives it its own time.
func TestHealthCheckThatHangs(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	w := newWorld(t, repository(t, `
services:
  app:
    image: `+hosttest.Image+`
    init: true
    command: [sleep, "1000"]
    healthcheck: {test: "echo x >>/tmp/looks; [ $$(grep -c x /tmp/looks) -gt 1 ] || sleep 100", interval: 5s, timeout: 20s}
`), "", h)
	sb := w.create(w.request())
	if got := output(t, sb, "cat", "/tmp/looks"); got != "x\nx\n" {
		t.Errorf("it was ready when the check had been made this often: %q", got)
	}
}

// TestHealthCheckWithSecret: a check that holds a secret is left to the engine, because a command line shows it.
func TestHealthCheckWithSecret(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	bin := filepath.Join(h.Server.Dir, "bin")
	calls := filepath.Join(bin, "calls")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(bin, "docker"):            "#!/bin/sh\necho \"$*\" >>" + calls + "\nPATH=${PATH#*:} exec docker \"$@\"\n",
		filepath.Join(h.Server.Home, ".bashrc"): "PATH=" + bin + ":$PATH\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	req := provisionRequest(h, repository(t, `
services:
  app:
    image: `+hosttest.Image+`
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    healthcheck: {test: [CMD, test, "${TOKEN}", "=", "hunter2"], interval: 1s}
`))
	req.Inputs["secret_env"] = map[string]any{"TOKEN": "the-token"}
	req.Secret = func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		if ref == "the-token" {
			return sandboxer.NewSecret([]byte("hunter2"), "v1"), nil
		}
		return h.Secret(ctx, ref)
	}
	ext := build(t, adapter(""))
	handle, err := ext.Provision(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	box := target(req, handle)
	defer func() {
		if r, err := ext.Teardown(context.Background(), box); err != nil || len(r.Left) > 0 {
			t.Error(r, err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := ext.WaitReady(ctx, box); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(calls)
	if err != nil || !strings.Contains(string(said), "up -d") || strings.Contains(string(said), "hunter2") {
		t.Errorf("%v; the engine's command was called as:\n%s", err, said)
	}
}
