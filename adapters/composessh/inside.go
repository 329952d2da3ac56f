package composessh

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// Paths that lie neither in the workspace nor in a named volume are copied by programs of the image, as Exec runs them. What
// they can do to modes and times is what that tar can do.

const listInside = `mkdir -p "$1" && cd "$1" && command -v tar >/dev/null || exit 127; find . -type l -print 2>/dev/null || :`

// copyInside is CopyIn through the main service's own container.
func (b *box) copyInside(ctx context.Context, t sandboxer.Target, dst string, tar io.Reader) error {
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	list := &capped{}
	res, err := b.e.Exec(ctx, t, sandboxer.ExecRequest{Command: []string{"sh", "-c", listInside, "sh", dst}, Dir: "/", Stdout: list, Stderr: errs})
	if err == nil && res.ExitCode != 0 {
		err = b.fileError(dst, res.ExitCode, errs.text())
	}
	who, werr := b.ownerOf(ctx, t)
	if err = errors.Join(err, werr); err != nil {
		return fmt.Errorf("copying into %q of sandbox %s: %w", dst, b.name, err)
	}
	in := archive.NewReader(ctx, tar)
	defer func() { _ = in.Close() }() // ends its goroutine
	r, w := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := archive.Rewrite(w, in, archive.RewriteOptions{Links: list.names(), Bad: sandboxer.InvalidArgument, UID: who.uid, GID: who.gid})
		checked <- err
		_ = w.CloseWithError(err) // nil: the end
	}()
	res, err = b.e.Exec(ctx, t, sandboxer.ExecRequest{Command: []string{"sh", "-c", `cd "$1" && exec tar -xpf -`, "sh", dst}, Dir: "/", Stdin: r, Stderr: errs})
	_ = r.CloseWithError(io.ErrClosedPipe) // whoever still writes need not
	bad := <-checked
	switch {
	case err == nil && res.Err() != nil:
		err = b.fileError(dst, res.ExitCode, errs.text())
	case bad != nil && !errors.Is(bad, io.ErrClosedPipe):
		err = bad
	}
	if err != nil {
		return fmt.Errorf("copying into %q of sandbox %s: %w", dst, b.name, err)
	}
	return nil
}

const packInside = `[ -e "$1" ] || exit 44; command -v tar >/dev/null || exit 127
if [ -d "$1" ]; then cd "$1" && exec tar -cf - .; fi
d=${1%/*}; cd "${d:-/}" && exec tar -cf - "./${1##*/}"`

// copyOutside is CopyOut through the main service's own container.
func (b *box) copyOutside(ctx context.Context, t sandboxer.Target, src string, tar io.Writer) error {
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	out := archive.NewWriter(ctx, tar)
	res, err := b.e.Exec(ctx, t, sandboxer.ExecRequest{Command: []string{"sh", "-c", packInside, "sh", src}, Dir: "/", Stdout: out, Stderr: errs})
	_ = out.Close() // ends its goroutine; it holds nothing back
	if err == nil && res.Err() != nil {
		err = b.fileError(src, res.ExitCode, errs.text())
	}
	if err != nil {
		return fmt.Errorf("copying %q out of sandbox %s: %w", src, b.name, err)
	}
	return nil
}

// capped keeps up to 64 MiB of a list of names, one a line.
type capped struct{ text []byte }

func (c *capped) Write(p []byte) (int, error) {
	if len(c.text)+len(p) > 64<<20 {
		return 0, errors.New("the sandbox has too many symbolic links to copy safely")
	}
	c.text = append(c.text, p...)
	return len(p), nil
}

func (c *capped) names() map[string]bool {
	out := map[string]bool{}
	begin := 0
	for i, ch := range c.text {
		if ch == '\n' {
			name := string(c.text[begin:i])
			if len(name) > 2 && name[:2] == "./" {
				out[name[2:]] = true
			}
			begin = i + 1
		}
	}
	return out
}
