//go:build unix

package e2b_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

func archive(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	if _, _, _, err := r.sh(t.Context(), target, "mkdir outside inside && ln -s ../outside inside/link && ln -s /etc/passwd inside/file"); err != nil {
		t.Fatal(err)
	}
	copyIn := as[sandboxer.FileTransferer](t, r).CopyIn
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1} }
	for name, headers := range map[string][]*tar.Header{
		"parent":                {file("../outside/f")},
		"parent inside":         {file("a/../../outside/f")},
		"absolute":              {file("/tmp/f")},
		"link that was there":   {file("link/f")},
		"directory over a link": {{Name: "link/", Typeflag: tar.TypeDir}},
		"link of the archive":   {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, file("l/f")},
		"deep link":             {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, file("l/a/b/f")},
		"hard link to outside":  {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/f"}},
		"hard link via a link":  {{Name: "h", Typeflag: tar.TypeLink, Linkname: "link/f"}},
		"hard link to a link":   {{Name: "h", Typeflag: tar.TypeLink, Linkname: "file"}},
		"device":                {{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"pipe":                  {{Name: "p", Typeflag: tar.TypeFifo}},
	} {
		err := copyIn(t.Context(), target, "inside", bytes.NewReader(archive(t, headers...)))
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := copyIn(t.Context(), target, "inside", strings.NewReader("this is no archive"+strings.Repeat(" ", 600))); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("no archive: %v", err)
	}
	// A file that takes the place of a link is written there, and not where the link led.
	if err := copyIn(t.Context(), target, "inside", bytes.NewReader(archive(t, file("file")))); err != nil {
		t.Error(err)
	}
	_, out, _, err := r.sh(t.Context(), target, "ls outside; cat inside/file; test -L inside/file || echo ' replaced'; ls -A; ls -A ../../tmp")
	if err != nil || out != "x replaced\ninside\noutside\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestManyFilesInFewRequests: a tree goes in and out with as many requests as one file.
func TestManyFilesInFewRequests(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	if _, err := r.WaitReady(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	x := as[sandboxer.FileTransferer](t, r)
	headers := []*tar.Header{}
	for i := range 2000 {
		headers = append(headers, &tar.Header{Name: fmt.Sprintf("d%d/f%d", i%50, i), Typeflag: tar.TypeReg, Size: int64(i % 100)})
	}
	s.Requests()
	if err := x.CopyIn(t.Context(), target, "tree", bytes.NewReader(archive(t, headers...))); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n > 3 {
		t.Errorf("2,000 files went in with %d requests", n)
	}
	var out bytes.Buffer
	if err := x.CopyOut(t.Context(), target, "tree", &out); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n > 1 {
		t.Errorf("2,000 files came out with %d requests", n)
	}
	files := 0
	for in := tar.NewReader(&out); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files++
		}
	}
	if files != 2000 {
		t.Errorf("%d files came out", files)
	}
}

// stuck blocks until it is freed.
type stuck struct{ free chan struct{} }

func (s *stuck) Read([]byte) (int, error) { <-s.free; return 0, io.EOF }

func TestCopiesThatFailLeaveNothing(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	x := as[sandboxer.FileTransferer](t, r)
	good := archive(t, &tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 100000})

	s.Fail(e2btest.Fault{Match: "POST /files", Times: 1, Lose: true})
	if err := x.CopyIn(t.Context(), target, "d", bytes.NewReader(good)); sandboxer.CodeOf(err) != sandboxer.Unavailable {
		t.Errorf("an upload whose reply was lost: %v", err)
	}
	s.Fail(e2btest.Fault{Match: "POST /files", Times: 1, Status: 507, Body: `{"code":507,"message":"not enough disk space available"}`, Header: map[string]string{"Connection": "close"}})
	held := &stuck{free: make(chan struct{})}
	begun := time.Now()
	err := x.CopyIn(t.Context(), target, "d", io.MultiReader(bytes.NewReader(good[:50000]), held))
	close(held.free)
	if sandboxer.CodeOf(err) != sandboxer.ResourceExhausted || time.Since(begun) > 5*time.Second {
		t.Errorf("a full disk: %v after %v", err, time.Since(begun))
	}
	broken := errors.New("the disk broke")
	if err := x.CopyIn(t.Context(), target, "d", io.MultiReader(bytes.NewReader(good[:50000]), &failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	if err := x.CopyIn(t.Context(), target, "d", bytes.NewReader(good[:50000])); err == nil {
		t.Error("half an archive was taken for a whole one")
	}
	if err := x.CopyOut(t.Context(), target, ".", &failing{broken}); !errors.Is(err, broken) {
		t.Errorf("a destination that fails: %v", err)
	}
	wantCode(t, "CopyOut of nothing", x.CopyOut(t.Context(), target, "nope", io.Discard), sandboxer.NotFound, true)
	for at := 1; at < 3000; at += 111 {
		s.Fail(e2btest.Fault{Match: "POST /process.Process/Start", Times: 1, CutAt: at})
		err := x.CopyOut(t.Context(), target, ".", io.Discard)
		s.Heal()
		if at < 300 && err == nil {
			t.Errorf("a copy that was cut after %d bytes succeeded", at)
		}
	}
	if _, out, _, err := r.sh(t.Context(), target, "ls -A ../../tmp; ls -A d"); err != nil || out != "" {
		t.Errorf("left: %q, %v", out, err)
	}
}
