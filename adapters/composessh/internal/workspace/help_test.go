package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// connect gives the way to a host that is this machine, over a real sshd.
func connect(tb testing.TB, s *sshtest.Server) *sshx.Conn {
	tb.Helper()
	p := sshx.NewPool(sshx.Config{SSHConfig: "none", Agent: "none"})
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
		s.WaitNoProcess("", 10*time.Second)
	})
	c, err := p.Host(tb.Context(), s.Host(), s.Secret)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// gitProgram skips the test where there is no git, and fails it where one is required.
func gitProgram(tb testing.TB) string {
	tb.Helper()
	git := os.Getenv("SANDBOXER_GIT")
	if git == "" {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			tb.Fatal("SANDBOXER_GIT is not set: run scripts/real/git.sh, or name the path of git")
		}
		tb.Skip("SANDBOXER_GIT is not set; it needs a real git (make test installs one)")
	}
	return git
}

// git runs git in dir, with no configuration but its own.
func git(tb testing.TB, dir string, args ...string) string {
	tb.Helper()
	cmd := exec.Command(gitProgram(tb), append([]string{"-c", "user.name=T", "-c", "user.email=t@example.net", "-c", "init.defaultBranch=main",
		"-c", "protocol.file.allow=always", "-c", "gc.auto=0", "-c", "maintenance.auto=false"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(tb testing.TB, name, data string) {
	tb.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(data), 0o644)); err != nil {
		tb.Fatal(err)
	}
}

func read(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

func lstat(tb testing.TB, name string) fs.FileInfo {
	tb.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

func readlink(tb testing.TB, name string) string {
	tb.Helper()
	target, err := os.Readlink(name)
	if err != nil {
		tb.Fatal(err)
	}
	return target
}

// repo is a bare repository below root, and what its refs are.
type repo struct {
	root, name string // root/name is the repository
	main, old  string // commits of main and of its parent
	side       string // the commit of the branch team/side
	tag, light string // commits of the annotated tag v1 and of the other
	pull       string // the commit of refs/pull/7/head, which no branch holds
}

// newRepo makes one that serves partial clones of any commit when open is true, as the big hosters do.
func newRepo(tb testing.TB, open bool) repo {
	tb.Helper()
	r := repo{root: tb.TempDir(), name: "team/it's one.git"}
	work, bare := tb.TempDir(), filepath.Join(r.root, r.name)
	git(tb, work, "init", "-q")
	commit := func(text string) string {
		write(tb, filepath.Join(work, "file"), text)
		git(tb, work, "add", "-A")
		git(tb, work, "commit", "-q", "-m", text)
		return git(tb, work, "rev-parse", "HEAD")
	}
	write(tb, filepath.Join(work, ".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	write(tb, filepath.Join(work, "big.bin"), "version https://git-lfs.github.com/spec/v1\n")
	write(tb, filepath.Join(work, "dir/script"), "#!/bin/sh\n")
	if err := errors.Join(os.Chmod(filepath.Join(work, "dir/script"), 0o755), os.Symlink("/etc/passwd", filepath.Join(work, "link"))); err != nil {
		tb.Fatal(err)
	}
	r.old = commit("one")
	git(tb, work, "tag", "-a", "-m", "first", "v1")
	git(tb, work, "tag", "light")
	r.tag, r.light = r.old, r.old
	r.main = commit("two")
	git(tb, work, "checkout", "-q", "-b", "team/side")
	r.side = commit("side")
	git(tb, work, "checkout", "-q", "--detach", "main")
	r.pull = commit("pull")
	git(tb, work, "update-ref", "refs/pull/7/head", r.pull)
	git(tb, work, "checkout", "-q", "main")
	git(tb, r.root, "clone", "-q", "--mirror", work, bare)
	write(tb, filepath.Join(bare, "git-daemon-export-ok"), "")
	if open {
		git(tb, bare, "config", "uploadpack.allowAnySHA1InWant", "true")
	}
	return r
}

// findCanary looks for a secret in every process of the machine and in files below dirs, and says where it is.
func findCanary(canary string, dirs ...string) []string {
	var found []string
	needle := []byte(canary)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		for _, f := range []string{"cmdline", "environ"} {
			if data, err := os.ReadFile(filepath.Join(p, f)); err == nil && bytes.Contains(data, needle) {
				found = append(found, filepath.Join(p, f))
			}
		}
	}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, needle) {
					found = append(found, name)
				}
			}
			return nil
		})
	}
	return found
}

// names lists a directory.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// waitFor asks until it is so.
func waitFor(tb testing.TB, within time.Duration, what string, f func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}
