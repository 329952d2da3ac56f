package workspace_test

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// web is git's own HTTP server behind a Go server that may ask for a user and a password.
type web struct {
	*httptest.Server
	ca             string
	user, password string              // empty: everybody may read
	before         func(*http.Request) // called for each request that is let through
	refuse         int                 // with this status, when set
	echo           bool                // shows the credential to the client when it refuses

	requests, asked atomic.Int64 // all, and those with a credential
}

// serveHTTP starts it for the repositories below root.
func serveHTTP(tb testing.TB, root string, tls bool, adjust func(*web)) *web {
	tb.Helper()
	backend := filepath.Join(git(tb, "/", "--exec-path"), "git-http-backend")
	w := &web{}
	if adjust != nil {
		adjust(w)
	}
	handler := &cgi.Handler{Path: backend, Stderr: io.Discard, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	serve := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		user, password, given := r.BasicAuth()
		if given {
			w.asked.Add(1)
		}
		if w.user != "" && (user != w.user || password != w.password) {
			rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			text := "go away"
			if w.echo {
				text = "go away " + r.Header.Get("Authorization") + " " + password
			}
			http.Error(rw, text, http.StatusUnauthorized)
			return
		}
		if w.refuse != 0 {
			http.Error(rw, "refused", w.refuse)
			return
		}
		if w.before != nil {
			w.before(r)
		}
		handler.ServeHTTP(rw, r)
	})
	if tls {
		w.Server = httptest.NewTLSServer(serve)
		w.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}))
	} else {
		w.Server = httptest.NewServer(serve)
	}
	tb.Cleanup(w.Server.Close)
	return w
}

func (w *web) repo(r repo) string { return w.URL + "/" + (&url.URL{Path: r.name}).EscapedPath() }

// serveGit starts git's daemon, and returns the URL of what it serves.
func serveGit(tb testing.TB, root string) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(filepath.Join(git(tb, "/", "--exec-path"), "git-daemon"), "--reuseaddr", "--listen=127.0.0.1", "--port="+port, "--base-path="+root, "--log-destination=none")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(tb, 10*time.Second, "git daemon answers", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "git://127.0.0.1:" + port + "/"
}

// knownHost is the line for a server's key.
func knownHost(s *sshtest.Server) string {
	host, port, _ := net.SplitHostPort(s.Address)
	return "[" + host + "]:" + port + " " + strings.TrimSpace(s.HostKey)
}
