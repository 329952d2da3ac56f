package workspace_test

import (
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

func source(tb testing.TB, repo, ref string) workspace.Source {
	tb.Helper()
	s, err := workspace.ParseSource(repo, ref)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestCloneOfEveryRef(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	for _, open := range []bool{true, false} {
		r := newRepo(t, open)
		url := serveHTTP(t, r.root, false, nil).repo(r)
		for _, tc := range []struct {
			ref, commit, branch string
		}{
			{"", r.main, "main"},
			{"HEAD", r.main, "main"},
			{"main", r.main, "main"},
			{"team/side", r.side, "team/side"},
			{"v1", r.tag, ""},
			{"light", r.light, ""},
			{"refs/heads/team/side", r.side, "team/side"},
			{"refs/tags/v1", r.tag, ""},
			{"refs/pull/7/head", r.pull, ""},
			{r.old, r.old, ""},
			{r.main, r.main, ""},
		} {
			for _, depth := range []int{0, 2, -1} {
				if tc.ref == "HEAD" && depth != 0 {
					continue
				}
				dir := filepath.Join(host.Dir, "w", "it's a workspace")
				got, err := workspace.Clone(t.Context(), c, dir, source(t, url, tc.ref), workspace.CloneOptions{Depth: depth})
				if err != nil || got != tc.commit {
					t.Errorf("open %t, ref %q, depth %d: %q, %v, want %q", open, tc.ref, depth, got, err, tc.commit)
					continue
				}
				if head := git(t, dir, "rev-parse", "HEAD"); head != tc.commit {
					t.Errorf("ref %q: HEAD is %s, want %s", tc.ref, head, tc.commit)
				}
				if branch := git(t, dir, "branch", "--show-current"); branch != tc.branch {
					t.Errorf("ref %q: the branch is %q, want %q", tc.ref, branch, tc.branch)
				}
				if status := git(t, dir, "status", "--porcelain"); status != "" {
					t.Errorf("ref %q: not clean:\n%s", tc.ref, status)
				}
				if origin := git(t, dir, "config", "remote.origin.url"); origin != url {
					t.Errorf("ref %q: origin is %q", tc.ref, origin)
				}
				if depth == 0 && open && git(t, dir, "rev-list", "--count", "HEAD") != "1" {
					t.Errorf("ref %q: history was fetched", tc.ref)
				}
				if depth < 0 && tc.commit == r.main && git(t, dir, "rev-list", "--count", "HEAD") != "2" {
					t.Errorf("ref %q: history is missing", tc.ref)
				}
				if diff := cmp.Diff([]string{filepath.Base(dir)}, names(t, filepath.Dir(dir))); diff != "" {
					t.Errorf("beside the clone (-want +got):\n%s", diff)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestCloneOverGitAndSSH(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	dir := filepath.Join(host.Dir, "one")
	if got, err := workspace.Clone(t.Context(), c, dir, source(t, serveGit(t, r.root)+r.name, "main"), workspace.CloneOptions{}); err != nil || got != r.main {
		t.Errorf("git daemon: %q, %v, want %q", got, err, r.main)
	}
	server := sshtest.Start(t)
	private, public := sshtest.NewKey(t)
	server.Authorize(public)
	url := "ssh://" + server.User + "@" + server.Address + r.root + "/" + r.name
	o := workspace.CloneOptions{KnownHosts: []string{knownHost(server)}, Credential: &workspace.Credential{Secret: sandboxer.NewSecret(private, "1")}}
	dir = filepath.Join(host.Dir, "two")
	for _, ref := range []string{"main", r.old} {
		if got, err := workspace.Clone(t.Context(), c, dir, source(t, url, ref), o); err != nil || git(t, dir, "rev-parse", "HEAD") != got {
			t.Errorf("ssh, ref %s: %q, %v", ref, got, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	other, _ := sshtest.NewKey(t)
	for name, tc := range map[string]struct {
		o    workspace.CloneOptions
		code sandboxer.Code
	}{
		"no key":        {workspace.CloneOptions{KnownHosts: o.KnownHosts}, sandboxer.Unauthenticated},
		"another key":   {workspace.CloneOptions{KnownHosts: o.KnownHosts, Credential: &workspace.Credential{Secret: sandboxer.NewSecret(other, "1")}}, sandboxer.Unauthenticated},
		"not a key":     {workspace.CloneOptions{KnownHosts: o.KnownHosts, Credential: &workspace.Credential{Secret: sandboxer.NewSecret([]byte("token"), "1")}}, sandboxer.Unauthenticated},
		"unknown host":  {workspace.CloneOptions{Credential: o.Credential}, sandboxer.FailedPrecondition},
		"another host":  {workspace.CloneOptions{Credential: o.Credential, KnownHosts: []string{knownHost(host)}}, sandboxer.FailedPrecondition},
		"user override": {workspace.CloneOptions{KnownHosts: o.KnownHosts, Credential: &workspace.Credential{User: "x", Secret: o.Credential.Secret}}, sandboxer.InvalidArgument},
	} {
		if _, err := workspace.Clone(t.Context(), c, dir, source(t, url, ""), tc.o); sandboxer.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	if _, err := workspace.Clone(t.Context(), c, dir, source(t, strings.Replace(url, "one", "two", 1), ""), o); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("a repository that is not there: %v", err)
	}
	if diff := cmp.Diff([]string{"authorized_keys", "empty", "home", "host_key", "key", "log", "one", "sshd_config", "tmp"}, names(t, host.Dir)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if left := names(t, host.Temp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

func TestCloneReportsProgress(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	r := newRepo(t, true)
	url := serveHTTP(t, r.root, false, nil).repo(r)
	var mu sync.Mutex
	units := map[string]bool{}
	ctx := sandboxer.WithProgress(t.Context(), func(p sandboxer.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Stage != "clone" || p.Done > p.Total {
			t.Errorf("progress is %+v", p)
		}
		units[p.Unit] = true
	})
	if _, err := workspace.Clone(ctx, connect(t, host), filepath.Join(host.Dir, "w"), source(t, url, ""), workspace.CloneOptions{}); err != nil {
		t.Fatal(err)
	}
	if !units["objects"] {
		t.Errorf("units of progress are %v", units)
	}
}
