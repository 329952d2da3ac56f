package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Untrusted archives: both the caller's, that go in, and what a sandbox's tar writes.
const (
	maxRewritten = 5_000_000
	maxName      = 4096
	// A sparse entry of a few bytes may stand for petabytes of zeros.
	bombSlack = 16 << 20
	bombRatio = 200
)

// RewriteOptions adjust Rewrite.
type RewriteOptions struct {
	Links    map[string]bool // names below the destination that are symbolic links there already
	Bad      sandboxer.Code  // of errors that lie in the stream
	Progress func(int64)     // told how many bytes of contents have passed; may be nil
	UID, GID int             // of every entry
}

// Rewrite copies a tar stream for a program that extracts it, and refuses what could be written outside the directory it is
// extracted in: absolute names, "..", names below a link of the same stream or of the destination, devices. Owners are
// replaced, nanosecond times are kept. The member "." is left out. It reports an error of in with the code of o.Bad, one of
// out as it is.
func Rewrite(out io.Writer, in io.Reader, o RewriteOptions) error {
	blocked, bad, progress := o.Links, o.Bad, o.Progress
	counted := &counter{r: in}
	r, w := tar.NewReader(counted), tar.NewWriter(out)
	links := map[string]bool{}
	var bytes int64
	fail := func(format string, args ...any) error {
		return sandboxer.Mark(bad, fmt.Errorf("tar stream: "+format, args...))
	}
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return w.Close()
		}
		if err != nil {
			return fail("%w", err)
		}
		if n >= maxRewritten {
			return fail("more than %d entries", maxRewritten)
		}
		if h, err = rewritten(h, links, blocked); err != nil {
			return fail("%w", err)
		}
		if h == nil {
			continue
		}
		h.Uid, h.Gid = o.UID, o.GID
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		m, err := io.Copy(w, &source{r, counted, &bytes})
		if m > 0 && progress != nil {
			progress(bytes)
		}
		var broken *readError
		if errors.As(err, &broken) {
			return fail("%w", broken.err)
		}
		if err != nil {
			return err
		}
	}
}

// counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// source tells errors of the source from those of the destination, and ends what expands beyond measure.
type source struct {
	r     io.Reader
	from  *counter
	total *int64
}

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (m *source) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if *m.total += int64(n); *m.total > bombSlack+bombRatio*m.from.n {
		err = fmt.Errorf("%d bytes expand to more than %d: sparse files are not copied as such", m.from.n, *m.total)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{err}
	}
	return n, err
}

// rewritten returns the header to write for h; nil to leave the entry out.
func rewritten(h *tar.Header, links, blocked map[string]bool) (*tar.Header, error) {
	name, err := withinDir(h.Name)
	if err != nil {
		return nil, err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return nil, errors.New("an entry without a name")
		}
		return nil, nil
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if links[dir] || blocked[dir] {
			return nil, fmt.Errorf("%q would be written through the link %q", clipName(name), clipName(dir))
		}
	}
	out := &tar.Header{Typeflag: h.Typeflag, Name: name, Size: h.Size, Mode: h.Mode & 0o7777, ModTime: h.ModTime, Format: tar.FormatPAX}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have the old kind of regular file
		out.Typeflag = tar.TypeReg
		delete(links, name)
	case tar.TypeDir:
		if blocked[name] || links[name] {
			return nil, fmt.Errorf("the directory %q is a link already", clipName(name))
		}
		out.Name, out.Size = name+"/", 0
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxName || strings.ContainsRune(h.Linkname, 0) {
			return nil, fmt.Errorf("the link %q leads nowhere", clipName(name))
		}
		out.Linkname, out.Size = h.Linkname, 0
		links[name] = true
	case tar.TypeLink:
		to, err := withinDir(h.Linkname)
		if err != nil {
			return nil, err
		}
		for dir := to; dir != "."; dir = path.Dir(dir) {
			if links[dir] || blocked[dir] {
				return nil, fmt.Errorf("the hard link %q leads through the link %q", clipName(name), clipName(dir))
			}
		}
		out.Linkname, out.Size = to, 0
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		return nil, fmt.Errorf("%q is neither a file, a directory nor a link (type %q)", clipName(name), h.Typeflag)
	}
	return out, nil
}

// withinDir cleans the name of an entry and refuses one that leaves its directory.
func withinDir(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", errors.New("a name of more than 4096 bytes")
	case strings.ContainsRune(name, 0):
		return "", errors.New("a name with a NUL character")
	case path.IsAbs(name):
		return "", fmt.Errorf("the absolute name %q", clipName(name))
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("the name %q leaves its directory", clipName(name))
		}
	}
	return path.Clean(name), nil
}

// clipName makes a name of a stream fit a message.
func clipName(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
