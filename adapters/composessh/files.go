package composessh

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// inFiles says where the container for files has a path; "" where it has not.
func (s *stack) inFiles(p string) string {
	p = path.Clean(p)
	for _, m := range s.Mounts {
		rest, ok := strings.CutPrefix(p, m.Target)
		if !ok || rest != "" && rest[0] != '/' && m.Target != "/" {
			continue
		}
		if m.At == "" {
			return ""
		}
		return path.Join(m.At, rest)
	}
	return ""
}

// place2 checks a path and says where it is for both containers.
func (b *box) paths(p string) (main, files string, err error) {
	if strings.ContainsRune(p, 0) {
		return "", "", badCommand("the path %q contains NUL", p)
	}
	if !path.IsAbs(p) && (p == ".." || strings.HasPrefix(path.Clean(p), "../")) {
		return "", "", badCommand("the path %q in sandbox %s leaves the workspace", p, b.name)
	}
	main = path.Clean(b.place(p))
	return main, b.inFiles(main), nil
}

// tool is a call of one of the host's programs in the container for files, with nothing of the image's environment.
func (b *box) tool(id, script string, args ...string) sandboxer.ExecRequest {
	cmd := []string{"sh", "-c", `e=$1 c=$2; shift 2; exec $e exec -i "$c" env -i PATH=` + toolPath + ` LC_ALL=C sh -c "$@"`, "sandboxer", b.engine, id, script, "sandboxer"}
	return sandboxer.ExecRequest{Command: append(cmd, args...), Env: b.env}
}

// makeScript makes the directory $1, and at says where that is. $2 is what it must not leave, $3 and $4 who owns what is made
// on the way.
const makeScript = `
at=$(readlink -m -- "$1") || exit 1
case $at/ in "$2"/*) ;; *) exit 45 ;; esac
up=$at made=
while [ ! -d "$up" ]; do made=$up up=$(dirname -- "$up"); done
umask 022
mkdir -p -- "$at" || exit 1
[ -z "$made" ] || [ "$3:$4" = 0:0 ] || chown -R "$3:$4" -- "$made" || exit 1
`

// prepareScript lists the symbolic links in what it makes.
const prepareScript = makeScript + `exec find "$at" -type l -printf '%P\0'
`

const extractScript = `
at=$(readlink -m -- "$1") || exit 1
case $at/ in "$2"/*) ;; *) exit 45 ;; esac
cd -- "$at" && exec tar -xpf - --same-owner --numeric-owner --warning=no-timestamp --delay-directory-restore`

// CopyIn extracts a tar stream into dst, owned by the user of the main service. The workspace and named volumes are written
// through the container for files; other paths through tar in the service's own container.
func (e *extension) CopyIn(ctx context.Context, t sandboxer.Target, dst string, tar io.Reader) error {
	b, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	main, files, err := b.paths(dst)
	if err != nil {
		return err
	}
	if files == "" {
		return b.copyInside(ctx, t, main, tar)
	}
	if err := b.writable(files); err != nil {
		return err
	}
	id, err := b.files(ctx, t, false)
	if err != nil {
		return err
	}
	who, err := b.ownerOf(ctx, t)
	if err != nil {
		return err
	}
	within := within(files)
	out, err := b.conn.Small(ctx, b.tool(id, prepareScript, files, within, strconv.Itoa(who.uid), strconv.Itoa(who.gid)))
	if err == nil && out.ExitCode != 0 {
		err = b.fileError(dst, out.ExitCode, string(out.Stderr))
	}
	if err != nil {
		return fmt.Errorf("copying into %q of sandbox %s: %w", dst, b.name, err)
	}
	return b.extract(ctx, b.tool(id, extractScript, files, within), dst, tar, archive.RewriteOptions{Links: links(string(out.Stdout)), UID: who.uid, GID: who.gid})
}

// writable refuses a path of the container for files where the workspace is read-only.
func (b *box) writable(files string) error {
	if b.ReadOnly && below(files, "/w") {
		return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf(
			"sandbox %s: its Compose file mounts paths below the repository, so that the workspace cannot be written: whoever could would choose what the engine mounts; mount the whole repository (.) instead", b.name))
	}
	return nil
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// within is what a path of the container for files must not leave: /w, or one volume.
func within(files string) string {
	parts := strings.SplitN(files, "/", 4)
	if parts[1] == "w" {
		return "/w"
	}
	return "/v/" + parts[2]
}

// maxLinks bounds what a sandbox can make us remember.
const maxLinks = 2_000_000

func links(list string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.SplitSeq(list, "\x00") {
		if name != "" && len(out) < maxLinks {
			out[name] = true
		}
	}
	return out
}

// extract sends a checked stream to a tar.
func (b *box) extract(ctx context.Context, req sandboxer.ExecRequest, dst string, tar io.Reader, o archive.RewriteOptions) error {
	in := archive.NewReader(ctx, tar)
	defer func() { _ = in.Close() }() // ends its goroutine
	r, w := io.Pipe()
	o.Bad = sandboxer.InvalidArgument
	o.Progress = func(n int64) { sandboxer.Report(ctx, sandboxer.Progress{Stage: "copy-in", Done: n, Unit: "bytes"}) }
	checked := make(chan error, 1)
	go func() {
		err := archive.Rewrite(w, in, o)
		checked <- err
		_ = w.CloseWithError(err) // nil: the end
	}()
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	req.Stdin, req.Stderr = r, errs
	res, err := b.conn.Send(ctx, req)
	_ = r.CloseWithError(io.ErrClosedPipe) // whoever still writes need not
	bad := <-checked
	switch {
	case err == nil && res.ExitCode != 0:
		err = b.fileError(dst, res.ExitCode, errs.text())
	case bad != nil && !errors.Is(bad, io.ErrClosedPipe):
		err = bad
	}
	if err != nil {
		return fmt.Errorf("copying into %q of sandbox %s: %w", dst, b.name, err)
	}
	return nil
}

const packScript = `
[ -e "$1" ] || [ -L "$1" ] || exit 44
at=$(readlink -m -- "$1") || exit 1
case $at/ in "$2"/*) ;; *) exit 45 ;; esac
[ -e "$at" ] || exit 44
set -- --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --hard-dereference --warning=no-file-ignored -cf -
if [ -d "$at" ]; then cd -- "$at" && exec tar "$@" .; fi
cd -- "$(dirname -- "$at")" && exec tar "$@" -- "./$(basename -- "$at")"`

// CopyOut writes the tree or file at src as tar. Sockets are left out. A file that grows while it is read is cut where it
// ended; one that shrinks is an error, Aborted.
func (e *extension) CopyOut(ctx context.Context, t sandboxer.Target, src string, tar io.Writer) error {
	b, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	main, files, err := b.paths(src)
	if err != nil {
		return err
	}
	if files == "" {
		return b.copyOutside(ctx, t, main, tar)
	}
	id, err := b.files(ctx, t, false)
	if err != nil {
		return err
	}
	out := archive.NewWriter(ctx, tar)
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	req := b.tool(id, packScript, files, within(files))
	req.Stdout, req.Stderr = out, errs
	res, err := b.conn.Receive(ctx, req)
	_ = out.Close() // ends its goroutine; it holds nothing back
	if err == nil && res.ExitCode != 0 && !onlyChanged(res.ExitCode, errs.text()) {
		err = b.fileError(src, res.ExitCode, errs.text())
	}
	if err != nil {
		return fmt.Errorf("copying %q out of sandbox %s: %w", src, b.name, err)
	}
	return nil
}

// onlyChanged says that tar has nothing to complain of but files that grew, or were removed, while it read.
func onlyChanged(code int, text string) bool {
	if code != 1 {
		return false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasSuffix(line, "file changed as we read it") && !strings.HasSuffix(line, "File removed before we read it") {
			return false
		}
	}
	return true
}

// fileError explains an exit code of our scripts, or of tar.
func (b *box) fileError(p string, code int, text string) error {
	low := strings.ToLower(text)
	why := sandboxer.Unknown
	switch {
	case code == 44:
		return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no %q", p))
	case code == 45:
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%q leads out of the sandbox's directories through a symbolic link", p))
	case code == 127:
		return sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("%q lies outside of the workspace and the named volumes of the service, and its image has no tar to copy it with", p))
	case strings.Contains(low, "no space left"), strings.Contains(low, "quota"):
		why = sandboxer.ResourceExhausted
	case strings.Contains(low, "shrank"):
		why = sandboxer.Aborted
	case strings.Contains(low, "permission denied"), strings.Contains(low, "read-only file system"), strings.Contains(low, "operation not permitted"):
		why = sandboxer.PermissionDenied
	case strings.Contains(low, "not a directory"), strings.Contains(low, "file exists"), strings.Contains(low, "is a directory"):
		why = sandboxer.InvalidArgument
	case strings.Contains(low, "no such container"), strings.Contains(low, "is not running"):
		b.e.remember(b.token, nil)
		why = sandboxer.NotFound
	}
	return sandboxer.Mark(why, errors.New(said([]byte(text))))
}

// owner is whose files are that are copied in.
type owner struct{ uid, gid int }

const ownerScript = `while read -r k _ id _; do case $k in Uid:|Gid:) echo "$id";; esac; done </proc/self/status`

// ownerOf asks who the commands of the main service are. Without a shell in its image, they are root for all we know.
func (b *box) ownerOf(ctx context.Context, t sandboxer.Target) (owner, error) {
	b.e.mu.Lock()
	who, ok := b.e.owners[b.token]
	b.e.mu.Unlock()
	if ok {
		return who, nil
	}
	id, err := b.container(ctx, t, b.Service, false)
	if err != nil {
		return who, err
	}
	out, err := b.conn.Small(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", `exec $1 exec "$2" sh -c "$3"`, "sandboxer", b.engine, id, ownerScript}, Env: b.env})
	if err != nil {
		return who, err
	}
	ids := strings.Fields(string(out.Stdout))
	if out.ExitCode == 0 && len(ids) == 2 {
		uid, uerr := strconv.Atoi(ids[0])
		gid, gerr := strconv.Atoi(ids[1])
		if uerr == nil && gerr == nil && uid >= 0 && gid >= 0 {
			who = owner{uid, gid}
		}
	}
	b.e.mu.Lock()
	b.e.owners[b.token] = who
	b.e.mu.Unlock()
	return who, nil
}
