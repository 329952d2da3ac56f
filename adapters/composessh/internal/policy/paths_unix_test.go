//go:build unix

package policy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// shells are those that a host's sh may be, as far as this machine has them.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, argv := range map[string][]string{"sh": {"sh"}, "dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}} {
		if path, err := exec.LookPath(argv[0]); err == nil {
			found[name] = append([]string{path}, argv[1:]...)
		}
	}
	if len(found) == 0 {
		t.Skip("there is no shell")
	}
	return found
}

// check runs PathCheck.
func check(t *testing.T, shell []string, workspace string, paths ...string) (outside []string, code int) {
	t.Helper()
	return run(t, exec.Command(shell[0], append(shell[1:], "-c", policy.PathCheck(), "sh", workspace)...), paths...)
}

func run(t *testing.T, cmd *exec.Cmd, paths ...string) (outside []string, code int) {
	t.Helper()
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n") + "\n")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		outside = append(outside, strings.TrimSuffix(line, "\n"))
	}
	return outside, cmd.ProcessState.ExitCode()
}

// TestPathCheck: what leads out of the workspace is found, however it does, and nothing else is.
func TestPathCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ws := filepath.Join(dir, "ws")
	for _, name := range []string{"ws/a/b", "ws/sp ace", "ws/-n", "ws/$(touch x)", "ws/closed/in", "ws-other", "ws\n"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(ws, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"ws/root": "/", "ws/etc": "/etc/passwd", "ws/up": "..", "ws/sibling": "../ws-other", "ws/newline": "../ws\n",
		"ws/chain": "chain2", "ws/chain2": "a/../../ws-other", "ws/loop": "loop", "ws/dangling": "/nowhere/at/all", "ws/a/out": "/usr",
		"ws/inside": "a/b", "ws/absolute": ws + "/a", "ws/self": ".", "ws/back": "../ws/a",
		"link": "ws",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	good := []string{
		".", "a", "a/b", "file", "sp ace", "-n", "$(touch x)", "inside", "absolute", "self", "self/self/a", "back", "back/b",
		"not/there/yet", "a/b/new", "inside/new/er", "closed/in",
	}
	bad := []string{
		"root", "root/etc", "root/not/there", "etc", "up", "up/ws-other", "sibling", "newline", "chain", "chain/new", "loop", "loop/x",
		"dangling", "dangling/x/y", "a/out", "a/out/bin", "inside/../out/x", "self/self/root",
	}
	for name, shell := range shells(t) {
		for _, workspace := range []string{ws, filepath.Join(dir, "link")} {
			if outside, code := check(t, shell, workspace, good...); code != 0 || outside != nil {
				t.Errorf("%s: %d, %q", name, code, outside)
			}
			outside, code := check(t, shell, workspace, append(append([]string{}, bad...), good...)...)
			if diff := cmp.Diff(bad, outside); code != 1 || diff != "" {
				t.Errorf("%s: %d, %s", name, code, diff)
			}
		}
		if _, code := check(t, shell, filepath.Join(dir, "gone"), "a"); code != 2 {
			t.Errorf("%s: a workspace that is not there: %d", name, code)
		}
	}
	if _, err := os.Stat(filepath.Join(ws, "x")); err == nil {
		t.Error("the name of a file was run")
	}
}

// TestPathCheckWithoutSight: what the user cannot look into is not said to be inside.
func TestPathCheckWithoutSight(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run a command as somebody else")
	}
	ws := t.TempDir()
	if err := os.Mkdir(filepath.Join(ws, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(ws, "closed", "root")); err != nil {
		t.Fatal(err)
	}
	for dir := ws; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, shell := range shells(t) {
		cmd := exec.Command(shell[0], append(shell[1:], "-c", policy.PathCheck(), "sh", ws)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if _, code := run(t, cmd); code == 2 {
			t.Skip("the directory for temporary files is closed to others")
		}
		cmd = exec.Command(cmd.Path, cmd.Args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		outside, code := run(t, cmd, "closed", "closed/root", "closed/new", "new")
		if diff := cmp.Diff([]string{"closed/root", "closed/new"}, outside); code != 1 || diff != "" {
			t.Errorf("%s: %d, %s", name, code, diff)
		}
	}
}
