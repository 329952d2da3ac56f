package e2btest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what kind of E2B the server is.
type Options struct {
	// Keys are the keys that are accepted, with the team that each belongs to. Defaults to every well-formed key
	// (e2b_ and hexadecimal digits), all of one team.
	Keys map[string]string
	// MaxConcurrent is the plan's cap on running sandboxes of a team. Defaults to none.
	MaxConcurrent int
	// MaxLifetime is the plan's longest lifetime. Defaults to 24 hours.
	MaxLifetime time.Duration
	// Placement is how long a create takes. It goes on when the client goes away, and the sandbox is listed only after it.
	Placement time.Duration
	// Old answers as a server without v2.
	Old bool
	// HoldPipes waits with the end of a process until nobody holds its outputs, as some releases of the daemon do. Otherwise
	// what is not read soon after the end of a process is lost, as with the others.
	HoldPipes bool
	// HideTokens leaves the access token out of GET /sandboxes/{id}.
	HideTokens bool
	// TokenPrefix is what the access tokens of sandboxes begin with. Defaults to "tok_".
	TokenPrefix string
	// Ahead is how far the server's clock is ahead of this machine's.
	Ahead time.Duration
	// EnvdVersion is the version of the daemon. Defaults to 0.6.4.
	EnvdVersion string
	// Addr is where to listen. Defaults to 127.0.0.1:0.
	Addr string
}

// Server is a running E2B. Safe for concurrent use.
type Server struct {
	opts Options
	dir  string
	http *http.Server
	url  string
	work sync.WaitGroup
	quit chan struct{} // closed by Close

	mu        sync.Mutex
	keys      map[string]string
	boxes     map[string]*box
	snapshots map[string]*snapshot
	faults    []*Fault
	requests  []Request
	most      map[string]int // by team: the most sandboxes that ran at once
	used      []string       // keys that somebody came with
	strays    []string
	closed    bool
}

// Request is one request that was answered, or not.
type Request struct {
	Method, Path string
	Inside       bool // to the daemon of a sandbox, not to the control plane
}

// Start starts a server. Close it.
func Start(opts Options) (*Server, error) {
	if opts.MaxLifetime == 0 {
		opts.MaxLifetime = 24 * time.Hour
	}
	if opts.EnvdVersion == "" {
		opts.EnvdVersion = "0.6.4"
	}
	if opts.TokenPrefix == "" {
		opts.TokenPrefix = "tok_"
	}
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	dir, err := os.MkdirTemp("", "e2btest-")
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", opts.Addr)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &Server{
		opts: opts, dir: dir, url: "http://" + l.Addr().String(), keys: map[string]string{}, boxes: map[string]*box{},
		snapshots: map[string]*snapshot{}, most: map[string]int{}, quit: make(chan struct{}),
	}
	for k, team := range opts.Keys {
		s.keys[k] = team
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second}
	s.work.Go(func() { _ = s.http.Serve(l) }) // always ErrServerClosed
	return s, nil
}

// URL is the base of the control plane, and of the way into sandboxes.
func (s *Server) URL() string { return s.url }

// Config is what an adapter's config has to say to use the server, beside api_key: api_url, sandbox_url, port_url.
func (s *Server) Config() map[string]any {
	return map[string]any{"api_url": s.url, "sandbox_url": s.url, "port_url": s.url + "/_port/{id}/{port}"}
}

// Close ends all sandboxes and the server, and removes what they kept.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		close(s.quit)
	}
	s.closed = true
	boxes := s.all()
	s.mu.Unlock()
	for _, b := range boxes {
		s.end(b)
	}
	err := s.http.Close()
	s.work.Wait()
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Server) all() []*box {
	out := make([]*box, 0, len(s.boxes))
	for _, b := range s.boxes {
		out = append(out, b)
	}
	return out
}

// Live returns what runs or is paused: the metadata sandboxer-name, or the ID where there is none. In order.
func (s *Server) Live() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, b := range s.boxes {
		name := b.metadata["sandboxer-name"]
		if name == "" {
			name = b.id
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Snapshots returns the names of the stored snapshots, in order.
func (s *Server) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, sn := range s.snapshots {
		out = append(out, sn.names[0])
	}
	slices.Sort(out)
	return out
}

// Requests returns all requests since the last call.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// MostAtOnce is the largest number of sandboxes of any team that ran at the same time.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := 0
	for _, n := range s.most {
		most = max(most, n)
	}
	return most
}

// Expire ends every sandbox as its deadline would.
func (s *Server) Expire() {
	s.mu.Lock()
	boxes := s.all()
	s.mu.Unlock()
	for _, b := range boxes {
		s.end(b)
	}
}

// RevokeTokens makes every access token of a sandbox invalid; the control plane hands out new ones.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boxes {
		b.token = s.opts.TokenPrefix + random(20)
	}
}

// SetKey makes key one of team's; Revoke makes it invalid.
func (s *Server) SetKey(key, team string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = team
}

// Revoke makes key invalid.
func (s *Server) Revoke(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = ""
}

// ServeHTTP answers a request of the control plane, of a sandbox's daemon, or for a port.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	inside := r.Header.Get("E2b-Sandbox-Id") != ""
	w.Header().Set("Date", time.Now().Add(s.opts.Ahead).UTC().Format(http.TimeFormat))
	if inside || strings.HasPrefix(r.URL.Path, "/_port/") {
		s.watchStrays(r)
	} else {
		s.usedKey(r.Header.Get("X-API-Key"))
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Inside: inside})
	f := s.fault(r.Method + " " + r.URL.Path)
	s.mu.Unlock()
	handle := s.control
	switch {
	case strings.HasPrefix(r.URL.Path, "/_port/"):
		handle = s.port
	case inside:
		handle = s.inside
	}
	if f == nil {
		handle(w, r)
		return
	}
	f.apply(w, r, handle, s.quit)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the client went away
	}
}

func apiError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"code": status, "message": message})
}
