package e2btest

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// inside answers for the daemon of a sandbox.
func (s *Server) inside(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("E2b-Sandbox-Id")
	s.mu.Lock()
	b := s.boxes[id]
	away := b == nil || b.paused
	token := ""
	if b != nil {
		token = b.token
	}
	s.mu.Unlock()
	if away {
		writeJSON(w, http.StatusBadGateway, map[string]any{"sandboxId": id, "message": "The sandbox was not found", "code": 502})
		return
	}
	if port := r.Header.Get("E2b-Sandbox-Port"); port != "49983" {
		s.forward(w, r, id, port, r.URL.Path)
		return
	}
	if r.URL.Path == "/health" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Header.Get("X-Access-Token") != token && !signed(r, token) {
		rpcFail(w, "unauthenticated", "unauthorized access, please provide a valid access token or method signing if supported")
		return
	}
	if method, ok := strings.CutPrefix(r.URL.Path, "/process.Process/"); ok {
		s.processRPC(w, r, b, method)
		return
	}
	if method, ok := strings.CutPrefix(r.URL.Path, "/filesystem.Filesystem/"); ok {
		filesystemRPC(w, r, b, method)
		return
	}
	switch {
	case r.URL.Path == "/files" && r.Method == http.MethodGet:
		download(w, r, b)
	case r.URL.Path == "/files" && r.Method == http.MethodPost:
		s.upload(w, r, b)
	case r.URL.Path == "/metrics":
		writeJSON(w, http.StatusOK, map[string]any{"cpu_count": 2})
	default:
		apiError(w, http.StatusNotFound, "not found")
	}
}

// signed checks the signature that stands for the access token in links to files.
func signed(r *http.Request, token string) bool {
	q := r.URL.Query()
	operation := "read"
	if r.Method == http.MethodPost {
		operation = "write"
	}
	text := q.Get("path") + ":" + operation + ":" + q.Get("username") + ":" + token
	if exp := q.Get("signature_expiration"); exp != "" {
		text += ":" + exp
	}
	sum := sha256.Sum256([]byte(text))
	return r.URL.Path == "/files" && q.Get("signature") == "v1_"+base64.RawStdEncoding.EncodeToString(sum[:])
}

func download(w http.ResponseWriter, r *http.Request, b *box) {
	path := b.real(r.URL.Query().Get("path"))
	f, err := os.Open(path)
	if err != nil {
		apiError(w, http.StatusNotFound, "path '"+r.URL.Query().Get("path")+"' does not exist")
		return
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		apiError(w, http.StatusBadRequest, "path is a directory")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request, b *box) {
	var written []map[string]any
	put := func(path string, from io.Reader) error {
		real := b.real(path)
		if err := os.MkdirAll(filepath.Dir(real), 0o755); err != nil {
			return err
		}
		f, err := os.Create(real)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		written = append(written, map[string]any{"name": filepath.Base(real), "type": "file", "path": real})
		return errors.Join(err, f.Close())
	}
	err := eachUpload(r, put)
	if err != nil {
		apiError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, written)
}

func eachUpload(r *http.Request, put func(string, io.Reader) error) error {
	path := r.URL.Query().Get("path")
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if kind == "application/octet-stream" {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(r.Body); err != nil {
				return err
			}
		}
		return put(path, body)
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path
		if name == "" {
			// FileName would keep the base only.
			_, d, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
			if err != nil {
				return err
			}
			name = d["filename"]
		}
		if err := put(name, part); err != nil {
			return err
		}
	}
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
