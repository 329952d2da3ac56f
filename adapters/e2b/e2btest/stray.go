package e2btest

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
)

// Strays returns the requests to sandboxes that a team's key was sent with, in a header, in the address or in the body. A
// sandbox runs what nobody has looked at, and must never see the key that it was bought with.
func (s *Server) Strays() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.strays)
}

// usedKey notes a key that somebody came with.
func (s *Server) usedKey(key string) {
	if len(key) < 8 { // what is shorter is found by chance
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.used, key) {
		s.used = append(s.used, key)
	}
}

// watchStrays looks for keys in a request to a sandbox, and in its body as that is read.
func (s *Server) watchStrays(r *http.Request) {
	var head strings.Builder
	_ = r.Header.Write(&head) // into memory
	head.WriteString(r.URL.String())
	s.stray(r, []byte(head.String()))
	r.Body = &watched{ReadCloser: r.Body, s: s, r: r}
}

func (s *Server) stray(r *http.Request, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.used {
		if bytes.Contains(text, []byte(key)) {
			s.strays = append(s.strays, r.Method+" "+r.URL.Path)
			return
		}
	}
}

// longestKey is how much of a body is looked at again with what follows it.
const longestKey = 256

type watched struct {
	io.ReadCloser
	s    *Server
	r    *http.Request
	last []byte
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	text := append(w.last, p[:n]...)
	w.s.stray(w.r, text)
	w.last = bytes.Clone(text[max(0, len(text)-longestKey):])
	return n, err
}
