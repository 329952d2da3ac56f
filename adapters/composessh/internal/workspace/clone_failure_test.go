package workspace_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// closed is an address where nobody listens.
func closed(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestCloneFails(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	plainly := serveHTTP(t, r.root, false, nil)
	secure := serveHTTP(t, r.root, true, nil)
	refusing := func(status int) string {
		return serveHTTP(t, r.root, false, func(w *web) { w.refuse = status }).repo(r)
	}
	daemon := serveGit(t, r.root)
	url := plainly.repo(r)
	for name, tc := range map[string]struct {
		repo, ref string
		o         workspace.CloneOptions
		code      sandboxer.Code
		say       string
	}{
		"unknown branch":          {url, "nothing-like-it", workspace.CloneOptions{}, sandboxer.InvalidArgument, "nothing-like-it"},
		"unknown ref":             {url, "refs/pull/99/head", workspace.CloneOptions{}, sandboxer.InvalidArgument, "refs/pull/99/head"},
		"unknown full branch":     {url, "refs/heads/nothing", workspace.CloneOptions{}, sandboxer.InvalidArgument, "refs/heads/nothing"},
		"unknown commit":          {url, strings.Repeat("ab", 20), workspace.CloneOptions{}, sandboxer.InvalidArgument, "abab"},
		"unknown commit, all":     {url, strings.Repeat("ab", 20), workspace.CloneOptions{Depth: -1}, sandboxer.InvalidArgument, "abab"},
		"short commit":            {url, r.main[:10], workspace.CloneOptions{}, sandboxer.InvalidArgument, "40 digits"},
		"no repository":           {plainly.URL + "/none", "", workspace.CloneOptions{}, sandboxer.InvalidArgument, "no such repository"},
		"no repository, daemon":   {daemon + "none", "", workspace.CloneOptions{}, sandboxer.InvalidArgument, "no such repository"},
		"nobody listens":          {"http://" + closed(t) + "/a", "", workspace.CloneOptions{}, sandboxer.Unavailable, "does not reach"},
		"nobody listens, git":     {"git://" + closed(t) + "/a", "", workspace.CloneOptions{}, sandboxer.Unavailable, "does not reach"},
		"nobody listens, ssh":     {"ssh://" + closed(t) + "/a", "", workspace.CloneOptions{}, sandboxer.Unavailable, "does not reach"},
		"no such name":            {"https://nowhere.invalid/a", "", workspace.CloneOptions{}, sandboxer.Unavailable, "does not reach"},
		"unknown authority":       {secure.repo(r), "", workspace.CloneOptions{}, sandboxer.FailedPrecondition, "certificate"},
		"forbidden":               {refusing(http.StatusForbidden), "", workspace.CloneOptions{}, sandboxer.PermissionDenied, "403"},
		"too many":                {refusing(http.StatusTooManyRequests), "", workspace.CloneOptions{}, sandboxer.ResourceExhausted, "429"},
		"broken server":           {refusing(http.StatusBadGateway), "", workspace.CloneOptions{}, sandboxer.Unavailable, "502"},
		"credential for git":      {daemon + r.name, "", workspace.CloneOptions{Credential: &workspace.Credential{Secret: hide("x")}}, sandboxer.InvalidArgument, "no credentials"},
		"credential in the clear": {"http://example.net/a", "", workspace.CloneOptions{Credential: &workspace.Credential{Secret: hide("x")}}, sandboxer.InvalidArgument, "in the clear"},
		"two lines":               {url, "", workspace.CloneOptions{Credential: &workspace.Credential{Secret: hide("a\nb")}}, sandboxer.Unauthenticated, "several lines"},
		"no secret":               {url, "", workspace.CloneOptions{Credential: &workspace.Credential{}}, sandboxer.Unauthenticated, "empty"},
	} {
		dir := filepath.Join(host.Dir, "w", "tree")
		_, err := workspace.Clone(t.Context(), c, dir, source(t, tc.repo, tc.ref), tc.o)
		if sandboxer.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v, want %s with %q", name, err, tc.code, tc.say)
		}
		if exists(filepath.Join(host.Dir, "w")) {
			if left := names(t, filepath.Join(host.Dir, "w")); len(left) > 0 {
				t.Errorf("%s: left behind: %v", name, left)
			}
		}
	}
	for _, dir := range []string{"", "relative", "/", "/a\nb"} {
		if _, err := workspace.Clone(t.Context(), c, dir, source(t, url, ""), workspace.CloneOptions{}); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("directory %q: %v", dir, err)
		}
	}
}

func TestCloneNeedsGit(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"git", "awk"} {
		have := []string{"sh", "mkdir", "rm", "awk", "ls"}
		if missing == "awk" {
			have = []string{"sh", "mkdir", "rm", "ls"}
		}
		dir := filepath.Join(t.TempDir(), "tree")
		_, err := workspace.Clone(t.Context(), shell{path: tools(t, have...)}, dir, source(t, "https://host/a", ""), workspace.CloneOptions{})
		if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !strings.Contains(err.Error(), "apt-get install "+missing) {
			t.Errorf("%s: %v, want FailedPrecondition that says what to install", missing, err)
		}
		if left := names(t, filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// A second call after a lost reply finds what the first one made; anything else in the place is left alone.
func TestCloneAgain(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	w := serveHTTP(t, r.root, false, nil)
	dir := filepath.Join(host.Dir, "w", "tree")
	s := source(t, w.repo(r), "main")
	// What a killed clone left is removed, and an empty directory is taken.
	fill(t, filepath.Dir(dir), map[string]string{".tree.clone-stale/tree/x": "x", ".other.clone-x/y": "y"})
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".other.clone-x", "tree"}, names(t, filepath.Dir(dir))); diff != "" {
		t.Errorf("beside it (-want +got):\n%s", diff)
	}
	asked := w.requests.Load()
	write(t, filepath.Join(dir, "made by a container"), "x")
	second, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{})
	if err != nil || second != first {
		t.Errorf("again: %q, %v, want %q", second, err, first)
	}
	if w.requests.Load() != asked || !exists(filepath.Join(dir, "made by a container")) {
		t.Error("it was cloned again")
	}
	if _, err := workspace.Clone(t.Context(), c, dir, source(t, w.repo(r), "v1"), workspace.CloneOptions{}); sandboxer.CodeOf(err) != sandboxer.AlreadyExists {
		t.Errorf("another ref: %v, want AlreadyExists", err)
	}
	for name, put := range map[string]func(string) error{
		"a file": func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"a link": func(p string) error { return os.Symlink(t.TempDir(), p) },
		"a full directory": func(p string) error {
			write(t, filepath.Join(p, "x"), "x")
			return nil
		},
	} {
		taken := filepath.Join(host.Dir, name)
		if err := put(taken); err != nil {
			t.Fatal(err)
		}
		if _, err := workspace.Clone(t.Context(), c, taken, s, workspace.CloneOptions{}); sandboxer.CodeOf(err) != sandboxer.AlreadyExists {
			t.Errorf("%s: %v, want AlreadyExists", name, err)
		}
	}
}

// Two calls at once do not mix their files.
func TestCloneTwiceAtOnce(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	s := source(t, serveHTTP(t, r.root, false, nil).repo(r), "")
	dir := filepath.Join(host.Dir, "w", "tree")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{}) })
	}
	wg.Wait()
	got, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{})
	if err != nil || got != r.main || git(t, dir, "status", "--porcelain") != "" {
		t.Errorf("it is %q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"tree"}, names(t, filepath.Dir(dir))); diff != "" {
		t.Errorf("beside it (-want +got):\n%s", diff)
	}
}

// Nothing that the login has configured, and nothing that a repository brings, runs or counts.
func TestCloneRunsNothing(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	w := serveHTTP(t, r.root, false, func(w *web) { w.user, w.password = "x-access-token", "right" })
	ran := filepath.Join(host.Dir, "ran")
	hook := "#!/bin/sh\ntouch '" + ran + "'\n"
	fill(t, host.Home, map[string]string{
		".gitconfig": "[core]\n\thooksPath = " + host.Home + "/hooks\n\tfsmonitor = touch " + ran + "\n[init]\n\ttemplateDir = " + host.Home + "/template\n" +
			"[credential]\n\thelper = !touch " + ran + "\n[filter \"lfs\"]\n\tsmudge = touch " + ran + "\n\trequired = true\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://\n",
		".netrc":                       "machine 127.0.0.1 login x-access-token password right\n",
		"hooks/post-checkout":          hook,
		"template/hooks/post-checkout": hook,
	})
	for _, p := range []string{"hooks/post-checkout", "template/hooks/post-checkout"} {
		if err := os.Chmod(filepath.Join(host.Home, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(host.Dir, "tree")
	s := source(t, w.repo(r), "")
	if _, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{}); sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
		t.Errorf("the login's .netrc: %v, want Unauthenticated", err)
	}
	if _, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{Credential: &workspace.Credential{Secret: hide("right")}}); err != nil {
		t.Fatal(err)
	}
	if exists(ran) {
		t.Error("something ran")
	}
	if got := read(t, filepath.Join(dir, "big.bin")); !strings.HasPrefix(got, "version https://git-lfs") {
		t.Errorf("a large file was fetched: %q", got)
	}
	if exists(filepath.Join(dir, ".git/hooks")) {
		t.Error("hooks came from a template")
	}
	if target := readlink(t, filepath.Join(dir, "link")); target != "/etc/passwd" {
		t.Errorf("the link leads to %q", target)
	}
}

// Submodules come when asked for, and never over a protocol that was not.
func TestCloneSubmodules(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	inner := newRepo(t, true)
	w := serveHTTP(t, inner.root, false, nil)
	outer := func(url string) workspace.Source {
		work, name := t.TempDir(), strings.ReplaceAll(filepath.Base(t.TempDir()), "/", "")+"-"+canary(t)[6:20]
		git(t, work, "init", "-q")
		git(t, work, "-c", "protocol.allow=always", "submodule", "--quiet", "add", w.repo(inner), "sub")
		git(t, work, "config", "-f", ".gitmodules", "submodule.sub.url", url)
		git(t, work, "add", "-A")
		git(t, work, "commit", "-q", "-m", "outer")
		git(t, inner.root, "clone", "-q", "--bare", work, filepath.Join(inner.root, name))
		return source(t, w.URL+"/"+name, "")
	}
	good, bad := outer(w.repo(inner)), outer("file://"+filepath.Join(inner.root, inner.name))
	for name, tc := range map[string]struct {
		s    workspace.Source
		o    workspace.CloneOptions
		has  bool
		code sandboxer.Code
	}{
		"not asked":       {good, workspace.CloneOptions{}, false, ""},
		"asked":           {good, workspace.CloneOptions{Submodules: true}, true, ""},
		"file, not asked": {bad, workspace.CloneOptions{}, false, ""},
		"file":            {bad, workspace.CloneOptions{Submodules: true}, false, sandboxer.InvalidArgument},
	} {
		dir := filepath.Join(host.Dir, strings.ReplaceAll(name, " ", "-"))
		_, err := workspace.Clone(t.Context(), c, dir, tc.s, tc.o)
		if sandboxer.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %q", name, err, tc.code)
		}
		if has := exists(filepath.Join(dir, "sub/file")); has != tc.has {
			t.Errorf("%s: the submodule is there: %t", name, has)
		}
	}
}

// What git says of itself is parsed; what servers and hosts say is printed harmlessly.
func FuzzCloneOutput(f *testing.F) {
	for _, s := range []string{
		"Receiving objects:  45% (450/1000), 1.20 MiB | 2.00 MiB/s\rReceiving objects: 100% (1000/1000), done.\n",
		"Updating files:  99% (9/1)\n", "remote: \x1b[31mhello\nfatal: Authentication failed for 'x'\n", "Resolving deltas: 1% (-1/2)\r",
		"fatal: Remote branch x not found in upstream origin\n", strings.Repeat("a", 10_000), "Receiving objects: 1% (99999999999999999999/1)\n",
	} {
		f.Add(s, 128, "commit \n")
	}
	src, err := workspace.ParseSource("https://host/a", "main")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stderr string, code int, out string) {
		ctx := sandboxer.WithProgress(context.Background(), func(p sandboxer.Progress) {
			if p.Stage != "clone" || p.Unit == "" || p.Done < 0 || p.Total < p.Done {
				t.Errorf("progress is %+v", p)
			}
		})
		r := &answers{scripted: scripted{stderr: stderr, out: out, result: sandboxer.ExecResult{ExitCode: code & 0xff}}}
		commit, err := workspace.Clone(ctx, r, "/w/tree", src, workspace.CloneOptions{Depth: -1})
		if err == nil && commit != "" && (strings.Trim(commit, "0123456789abcdef") != "" || len(commit) < 40) {
			t.Errorf("the commit is %q", commit)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("the error has control characters: %q", err)
		}
	})
}

// answers lets the commands around the script succeed.
type answers struct{ scripted }

func (a *answers) Exec(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	if req.Stdout == nil {
		return sandboxer.ExecResult{}, nil
	}
	return a.scripted.Exec(ctx, req)
}
