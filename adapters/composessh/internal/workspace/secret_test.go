package workspace_test

import (
	"encoding/base64"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// hide gives a secret that stands in no file and no process but this one.
func hide(value string) sandboxer.Secret { return sandboxer.NewSecret([]byte(value), "1") }

// canary makes a word that occurs nowhere else.
func canary(tb testing.TB) string {
	tb.Helper()
	_, public := sshtest.NewKey(tb)
	return "canary" + strings.NewReplacer("/", "x", "+", "y").Replace(strings.Fields(public)[1][30:60])
}

func TestTokenIsNowhere(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	token := canary(t)
	for _, tls := range []bool{true, false} {
		var mu sync.Mutex
		var found []string
		samples := 0
		w := serveHTTP(t, r.root, tls, func(w *web) {
			w.user, w.password = "x-access-token", token
			w.before = func(*http.Request) {
				got := findCanary(token, host.Dir)
				mu.Lock()
				defer mu.Unlock()
				samples++
				found = append(found, got...)
			}
		})
		for _, ref := range []string{"", r.pull} {
			dir := filepath.Join(host.Dir, "w", "tree")
			s := source(t, w.repo(r), ref)
			if _, err := workspace.Clone(t.Context(), c, dir, s, workspace.CloneOptions{CA: w.ca, Credential: &workspace.Credential{Secret: hide(token)}}); err != nil {
				t.Errorf("tls %t, ref %q: %v", tls, ref, err)
				continue
			}
			if samples < 2 {
				t.Errorf("looked %d times while git ran", samples)
			}
			if found = append(found, findCanary(token, host.Dir)...); len(found) > 0 {
				t.Errorf("the token was in %v", found)
			}
			if config := read(t, filepath.Join(dir, ".git/config")); strings.Contains(config, "credential") {
				t.Errorf("the configuration keeps:\n%s", config)
			}
			if out, err := c.Output(t.Context(), "rm", "-rf", dir); err != nil {
				t.Fatal(string(out), err)
			}
		}
		// A wrong one, shown around by the server, is not in the error.
		wrong := canary(t)
		w.echo = true
		_, err := workspace.Clone(t.Context(), c, filepath.Join(host.Dir, "w", "no"), source(t, w.repo(r), ""), workspace.CloneOptions{CA: w.ca, Credential: &workspace.Credential{User: "me", Secret: hide(wrong)}})
		if sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
			t.Errorf("a wrong token: %v, want Unauthenticated", err)
		}
		if basic := base64.StdEncoding.EncodeToString([]byte("me:" + wrong)); err != nil && (strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), basic)) {
			t.Errorf("the error shows the token: %v", err)
		}
		if _, err := workspace.Clone(t.Context(), c, filepath.Join(host.Dir, "w", "no"), source(t, w.repo(r), ""), workspace.CloneOptions{CA: w.ca}); sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
			t.Errorf("without a token: %v, want Unauthenticated", err)
		}
	}
	if diff := cmp.Diff([]string(nil), names(t, filepath.Join(host.Dir, "w"))); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

// A server that sends git elsewhere does not get the token to that place.
func TestTokenIsForItsServerOnly(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	r := newRepo(t, true)
	thief := serveHTTP(t, r.root, false, func(w *web) { w.user, w.password = "nobody", "knows" })
	honest := serveHTTP(t, r.root, false, func(w *web) { w.user, w.password = "x-access-token", "token-1" })
	honest.Config.Handler = redirect(thief.URL)
	_, err := workspace.Clone(t.Context(), connect(t, host), filepath.Join(host.Dir, "w"), source(t, honest.repo(r), ""), workspace.CloneOptions{Credential: &workspace.Credential{Secret: hide("token-1")}})
	if sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
		t.Errorf("error is %v, want Unauthenticated", err)
	}
	if thief.requests.Load() == 0 {
		t.Error("git did not follow: the test proves nothing")
	}
	if n := thief.asked.Load(); n > 0 {
		t.Errorf("the other server was shown a credential %d times", n)
	}
}

func redirect(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to+r.URL.RequestURI(), http.StatusFound)
	})
}

func TestKeyIsNowhere(t *testing.T) {
	t.Parallel()
	host, server := sshtest.Start(t), sshtest.Start(t)
	c := connect(t, host)
	r := newRepo(t, true)
	private, public := sshtest.NewKey(t)
	server.Authorize(public)
	line := strings.Split(string(private), "\n")[2] // of the PEM: part of the key itself
	// What the server runs for git is held up until everything has been looked at.
	hold := filepath.Join(t.TempDir(), "hold")
	write(t, hold, "")
	server.Configure("ForceCommand touch " + hold + ".began; while [ -e " + hold + " ]; do sleep 0.05; done; eval \"$SSH_ORIGINAL_COMMAND\"")
	server.Restart()
	done := make(chan error, 1)
	dir := filepath.Join(host.Dir, "tree")
	go func() {
		_, err := workspace.Clone(t.Context(), c, dir, source(t, "ssh://"+server.User+"@"+server.Address+r.root+"/"+r.name, ""),
			workspace.CloneOptions{KnownHosts: []string{knownHost(server)}, Credential: &workspace.Credential{Secret: sandboxer.NewSecret(private, "1")}})
		done <- err
	}()
	waitFor(t, waitLong, "git is there", func() bool { return exists(hold + ".began") })
	if found := findCanary(line, host.Dir, host.Temp); len(found) > 0 {
		t.Errorf("the key is in %v", found)
	}
	sockets, _ := filepath.Glob(filepath.Join(host.Dir, ".tree.clone-*", "a"))
	if len(sockets) != 1 {
		t.Errorf("sockets of the agent: %v", sockets)
	}
	for _, s := range sockets {
		stealFrom(t, s, private)
	}
	remove(t, hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if found := findCanary(line, host.Dir, host.Temp); len(found) > 0 {
		t.Errorf("the key is in %v", found)
	}
	if sockets, _ := filepath.Glob(filepath.Join(host.Dir, ".tree*")); len(sockets) > 0 {
		t.Errorf("left behind: %v", sockets)
	}
}
