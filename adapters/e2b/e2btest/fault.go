package e2btest

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"
)

// Fault is something that goes wrong.
type Fault struct {
	Match string // begins "POST /v2/sandboxes"; a * stands for one part of the path, and what follows may be left out
	Times int    // how often; 0: always
	Skip  int    // how many requests pass before

	Do     func()        // called before anything else
	Delay  time.Duration // before what follows
	Status int           // answer this and do nothing; 0: do it
	Body   string        // with Status; JSON
	Header map[string]string
	Lose   bool // do it, and break the connection instead of answering
	CutAt  int  // do it, and break the connection after this many bytes of the answer; 0: do not cut. -1: before the first
}

// Fail adds a fault. The first that matches is applied.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal forgets all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault returns the fault for a request. The caller holds s.mu.
func (s *Server) fault(request string) *Fault {
	for i, f := range s.faults {
		if !f.matches(request) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return f
	}
	return nil
}

func (f *Fault) matches(request string) bool {
	want, got := strings.Split(f.Match, "/"), strings.Split(request, "/")
	if len(want) > len(got) {
		return false
	}
	for i, part := range want {
		if part != "*" && part != got[i] {
			return false
		}
	}
	return true
}

func (f *Fault) apply(w http.ResponseWriter, r *http.Request, handle http.HandlerFunc, quit <-chan struct{}) {
	if f.Do != nil {
		f.Do()
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done(): // which it hears of only when the request was read
			return
		case <-quit:
			return
		}
	}
	switch {
	case f.Status != 0:
		for k, v := range f.Header {
			w.Header().Set(k, v)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		_, _ = w.Write([]byte(f.Body)) // the client went away
	case f.Lose:
		handle(&sink{header: http.Header{}}, r.WithContext(context.WithoutCancel(r.Context())))
		hangUp(w)
	case f.CutAt != 0:
		handle(&cutter{ResponseWriter: w, left: max(f.CutAt, 0)}, r)
	default:
		handle(w, r)
	}
}

// hangUp breaks the connection.
func hangUp(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // it is closed either way
			}
			_ = c.Close() // it is broken on purpose
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// sink swallows an answer.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

// cutter passes on the beginning of an answer and then breaks the connection, so that what was passed on arrives.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if err == nil && c.left == 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush() // the connection may be gone already
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
