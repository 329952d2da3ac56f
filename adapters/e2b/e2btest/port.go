package e2btest

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
)

// port answers what Config's port_url leads to: /_port/{id}/{port}/…
func (s *Server) port(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/_port/"), "/", 3)
	s.mu.Lock()
	b := s.boxes[parts[0]]
	away := b == nil || b.paused
	s.mu.Unlock()
	if away || len(parts) < 2 {
		writeJSON(w, http.StatusBadGateway, map[string]any{"sandboxId": parts[0], "message": "The sandbox was not found", "code": 502})
		return
	}
	path := "/"
	if len(parts) == 3 {
		path += parts[2]
	}
	s.forward(w, r, parts[0], parts[1], path)
}

// forward passes a request on to a port of this machine, which is where the sandboxes' processes listen.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, id, port, path string) {
	n, err := strconv.ParseUint(port, 10, 16)
	closed := func(w http.ResponseWriter, _ *http.Request, _ error) {
		writeJSON(w, http.StatusBadGateway, map[string]any{"sandboxId": id, "message": "The sandbox is running but port is not open", "port": n, "code": 502})
	}
	if err != nil {
		closed(w, r, err)
		return
	}
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.FormatUint(n, 10)}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.URL.Path = path },
		ErrorHandler: closed,
		Transport:    &http.Transport{DisableKeepAlives: true},
	}
	proxy.ServeHTTP(w, r)
}
