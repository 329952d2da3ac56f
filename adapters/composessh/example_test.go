package composessh_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestExample runs examples/compose against a real host.
func TestExample(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	dir := t.TempDir()
	known := filepath.Join(dir, "known_hosts")
	address := h.Host().Address
	host, port, _ := strings.Cut(address, ":")
	if err := os.WriteFile(known, []byte("["+host+"]:"+port+" "+h.Server.HostKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "compose")
	if out, err := exec.Command("go", "build", "-o", program, "../../examples/compose").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "-store", filepath.Join(dir, "store.db"), "-repo", "../../examples/compose/stack", "-service", "shell",
		"-i", h.Server.KeyFile(), "-known-hosts", known, "-image", hosttest.Image, h.Host().User+"@"+address, "sh", "-c", "ls; cat /proc/1/comm")
	cmd.Env = append(os.Environ(), "HOME="+dir, "SSH_AUTH_SOCK=")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"ready after", "workspace /src", "page:8080 is at tcp://127.0.0.1:", "\ncompose.yaml\n", "exit code 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	for _, r := range h.Resources("sandboxer-name") {
		if strings.Contains(text, strings.TrimSuffix(strings.Fields(r)[1], "-shell-1")) {
			t.Errorf("left: %s", r)
		}
	}
}
