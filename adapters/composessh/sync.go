package composessh

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

// placeScript says where the directory is that it makes.
const placeScript = makeScript + `printf %s "$at"`

// Sync makes a directory of the workspace or of a named volume equal to src, owned by the user of the main service. Other
// paths are Unsupported: what compares and extracts is the host's, and is not in the image.
func (e *extension) Sync(ctx context.Context, t sandboxer.Target, dst string, src fs.FS) error {
	b, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	main, files, err := b.paths(dst)
	if err != nil {
		return err
	}
	if files == "" {
		return sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf(
			"sandbox %s: %q lies outside of the workspace and the named volumes of the service, and only these can be synced; use CopyIn", b.name, main))
	}
	if err := b.writable(files); err != nil {
		return err
	}
	if err := b.sync(ctx, t, dst, files, src); err != nil {
		return fmt.Errorf("syncing %q of sandbox %s: %w", dst, b.name, err)
	}
	return nil
}

func (b *box) sync(ctx context.Context, t sandboxer.Target, dst, files string, src fs.FS) error {
	id, err := b.files(ctx, t, false)
	if err != nil {
		return err
	}
	who, err := b.ownerOf(ctx, t)
	if err != nil {
		return err
	}
	out, err := b.conn.Small(ctx, b.tool(id, placeScript, files, within(files), strconv.Itoa(who.uid), strconv.Itoa(who.gid)))
	if err != nil {
		return err
	}
	if out.ExitCode != 0 {
		return b.fileError(dst, out.ExitCode, string(out.Stderr))
	}
	at := string(out.Stdout)
	_, err = workspace.PushFS(ctx, &inFilesContainer{b: b, id: id, dst: dst, at: at}, at, src,
		workspace.PushOptions{Owner: &workspace.Owner{UID: who.uid, GID: who.gid}})
	return err
}

// inFilesContainer runs the commands of a push in the container for files. Whatever the sandbox makes of its directories
// meanwhile, nothing but the workspace and its volumes can be written there.
type inFilesContainer struct {
	b   *box
	id  string
	dst string // for messages
	at  string // where that was when the call began
}

// stillScript runs a command unless the directory $1 has become, or has got on its way, a link.
const stillScript = `
[ "$(readlink -m -- "$1")" = "$1" ] || exit 45
shift
exec "$@"`

func (r *inFilesContainer) String() string { return r.b.conn.String() }

// RoundTrip is how far away the host is.
func (r *inFilesContainer) RoundTrip() time.Duration { return r.b.conn.RoundTrip() }

// Exec runs a command of a push.
func (r *inFilesContainer) Exec(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return r.run(ctx, req, r.b.conn.Exec)
}

// Send is Exec for a command that reads much.
func (r *inFilesContainer) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	return r.run(ctx, req, r.b.conn.Send)
}

func (r *inFilesContainer) run(ctx context.Context, req sandboxer.ExecRequest, exec func(context.Context, sandboxer.ExecRequest) (sandboxer.ExecResult, error)) (sandboxer.ExecResult, error) {
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	inside := r.b.tool(r.id, stillScript, append([]string{r.at}, req.Command...)...)
	inside.Stdin, inside.Stdout, inside.Stderr = req.Stdin, req.Stdout, errs
	if req.Stderr != nil {
		inside.Stderr = io.MultiWriter(errs, req.Stderr)
	}
	res, err := exec(ctx, inside)
	if err != nil {
		return res, err
	}
	text := strings.ToLower(errs.text())
	if res.ExitCode == 45 || res.ExitCode == 1 && (strings.Contains(text, "no such container") || strings.Contains(text, "is not running")) {
		return res, r.b.fileError(r.dst, res.ExitCode, errs.text())
	}
	return res, nil
}
