package e2b

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// prepare makes the directory $1 and lists the links in it, so that nothing is written through one. Where it may not look,
// nothing is written either.
const prepare = `mkdir -p -- "$1" && cd -- "$1" && { find . -type l -print0 2>/dev/null || :; }`

// extract unpacks the uploaded archive $2 in $1 and removes it, whatever happens.
// Names and links were checked before, so tar may write links as they are (-P). GNU's tar sets the times of directories too
// early unless it is told otherwise.
const extract = `trap 'rm -f -- "$2"' EXIT; f=; case $(tar --version 2>/dev/null) in *GNU*) f=--delay-directory-restore;; esac
cd -- "$1" && tar $f -xpoPf "$2"`

// pack writes the tree at $1: a directory's contents, or one file. Nanosecond times need the pax format, which not every
// tar knows by name.
const pack = `f=; case $(tar --version 2>/dev/null) in *GNU*|*bsdtar*) f=--format=pax;; esac
if [ -d "$1" ] && [ ! -L "$1" ]; then cd -- "$1" && exec tar $f -cf - .
elif [ -e "$1" ] || [ -L "$1" ]; then d=${1%/*}; cd -- "${d:-/}" && exec tar $f -cf - -- "./${1##*/}"
fi
exit 66`

const noSuchPath = 66

// CopyIn extracts tar into dst with three requests, however many files there are: the archive is uploaded as a whole and
// unpacked there by tar, which every template of E2B's has. It needs the space twice for a moment.
func (e *extension) CopyIn(ctx context.Context, t sandboxer.Target, dst string, in io.Reader) error {
	var ses *session
	var dir string
	var links map[string]bool
	err := e.talk(ctx, t, func(s *session) error {
		root, err := e.workspace(ctx, t, s)
		if err != nil {
			return err
		}
		ses, dir = s, place(root, dst)
		links, err = e.linksIn(ctx, t, dir)
		return err
	})
	if err != nil {
		return err
	}
	// From here on in is read, and nothing can be tried again.
	name := "/tmp/.sandboxer-" + nonce() + ".tar"
	uploaded, err := e.upload(ctx, t, ses, name, func(w io.Writer) error {
		return archive.Rewrite(w, in, archive.RewriteOptions{Links: links, Bad: sandboxer.InvalidArgument, Progress: func(n int64) {
			sandboxer.Report(ctx, sandboxer.Progress{Stage: "upload", Done: n, Unit: "bytes"})
		}})
	})
	if err != nil {
		return errors.Join(err, e.dropUpload(ctx, t, ses, name))
	}
	if err := e.shell(ctx, t, io.Discard, extract, dir, uploaded); err != nil {
		return errors.Join(fmt.Errorf("unpacking in %s: %w", dir, err), e.dropUpload(ctx, t, ses, uploaded))
	}
	return nil
}

// linksIn makes dir and returns the links in it, relative to it.
func (e *extension) linksIn(ctx context.Context, t sandboxer.Target, dir string) (map[string]bool, error) {
	var out limited
	if err := e.shell(ctx, t, &out, prepare, dir); err != nil {
		return nil, fmt.Errorf("making %s: %w", dir, err)
	}
	links := map[string]bool{}
	for _, name := range strings.Split(out.String(), "\x00") {
		if name != "" {
			links[path.Clean(name)] = true
		}
	}
	return links, nil
}

// limited keeps up to 64 MiB.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > 64<<20 {
		return 0, errors.New("more than 64 MiB")
	}
	return l.Builder.Write(p)
}

// shell runs a script of ours in the sandbox.
func (e *extension) shell(ctx context.Context, t sandboxer.Target, stdout io.Writer, script string, args ...string) error {
	var stderr tail
	argv := append([]string{"/bin/sh", "-c", script, "sandboxer"}, args...)
	res, err := e.Exec(ctx, t, sandboxer.ExecRequest{Command: argv, Dir: "/", Stdout: stdout, Stderr: &stderr})
	if err != nil {
		return err
	}
	if err := res.Err(); err != nil {
		if res.ExitCode == noSuchPath {
			return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no %s in the sandbox", args[0]))
		}
		code := sandboxer.FailedPrecondition
		if strings.Contains(string(stderr), "No space left") {
			code = sandboxer.ResourceExhausted
		}
		return sandboxer.Mark(code, fmt.Errorf("%w: %s", err, plain(string(stderr))))
	}
	return nil
}

// tail keeps the beginning of an error output.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	if room := maxMessage - len(*t); room > 0 {
		*t = append(*t, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// upload streams what write writes into the file name and returns its path as the sandbox's processes see it.
func (e *extension) upload(ctx context.Context, t sandboxer.Target, ses *session, name string, write func(io.Writer) error) (string, error) {
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	wrote := make(chan error, 1)
	go func() {
		part, err := form.CreateFormFile("file", path.Base(name))
		if err == nil {
			err = write(part)
		}
		// Also after a failure the request is brought to its end: one that breaks off may still create the file later.
		closeErr := form.Close()
		if err == nil {
			err = closeErr
		}
		wrote <- err
		_ = pw.Close() // never fails
	}()
	answer, err := e.postFile(ctx, t, ses, name, form.FormDataContentType(), pr)
	_ = pr.CloseWithError(io.ErrClosedPipe) // so that the writer ends with its next write
	var writeErr error
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case writeErr = <-wrote:
	case <-grace.C: // the caller's reader blocks, and what the sandbox said stands
	}
	switch {
	case writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe):
		return "", writeErr
	case err != nil:
		return "", fmt.Errorf("uploading: %w", err)
	case writeErr != nil:
		return "", sandboxer.Mark(sandboxer.Unavailable, errors.New("uploading: the sandbox answered before it had all"))
	}
	return answer, nil
}

func (e *extension) postFile(ctx context.Context, t sandboxer.Target, ses *session, name, contentType string, body io.Reader) (string, error) {
	query := url.Values{"path": {name}}
	if user := ses.envdUser(); user != "" {
		query.Set("username", user)
	}
	left := new(atomic.Bool)
	req, err := e.envdRequest(traced(ctx, left), ses, http.MethodPost, "/files?"+query.Encode(), "", body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := e.envd.http.Do(req)
	if err != nil {
		return "", transportError(ctx, err, left.Load())
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxUnary))
	if err != nil {
		return "", transportError(ctx, fmt.Errorf("the reply broke off: %w", err), true)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return "", e.envdFailure(ctx, t, ses, res, text)
	}
	var written []struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(text, &written); err != nil || len(written) != 1 || !path.IsAbs(written[0].Path) || path.Base(written[0].Path) != path.Base(name) {
		return "", sandboxer.Mark(sandboxer.Unavailable, errors.New("the sandbox does not say where it put the uploaded file"))
	}
	return written[0].Path, nil
}

// dropUpload removes what a failed CopyIn may have left. It works after ctx ended.
func (e *extension) dropUpload(ctx context.Context, t sandboxer.Target, ses *session, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var err error
	for range 2 { // an upload that broke off may have created the file only now
		err = e.unary(ctx, t, ses, "/filesystem.Filesystem/Remove", map[string]string{"path": name}, nil)
		if errors.Is(err, sandboxer.NotFound) && rpcCode(err) == "" || errors.Is(err, sandboxer.FailedPrecondition) {
			return nil
		}
		sleep(ctx, 200*time.Millisecond)
	}
	if err == nil || rpcCode(err) != "" {
		return nil
	}
	return fmt.Errorf("a part of the upload may be left at %s in the sandbox: %w", name, err)
}

// CopyOut writes the tree at src as tar, with one request. What the sandbox's tar writes is checked on the way: names that
// leave the tree end the copy.
func (e *extension) CopyOut(ctx context.Context, t sandboxer.Target, src string, out io.Writer) error {
	return e.talk(ctx, t, func(ses *session) error {
		root, err := e.workspace(ctx, t, ses)
		if err != nil {
			return err
		}
		pr, pw := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := e.shell(ctx, t, pw, pack, place(root, src))
			_ = pw.CloseWithError(err) // never fails
			packed <- err
		}()
		err = archive.Rewrite(out, pr, archive.RewriteOptions{Bad: sandboxer.Internal, Progress: func(n int64) {
			sandboxer.Report(ctx, sandboxer.Progress{Stage: "download", Done: n, Unit: "bytes"})
		}})
		if err == nil {
			_, err = io.Copy(io.Discard, pr) // what follows the end of an archive
		}
		_ = pr.CloseWithError(errors.New("the archive is not read any more"))
		if packErr := <-packed; packErr != nil && (err == nil || !errors.Is(packErr, sandboxer.Aborted)) {
			return fmt.Errorf("packing %s: %w", place(root, src), packErr)
		}
		return err
	})
}
