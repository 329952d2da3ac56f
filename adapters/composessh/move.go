package composessh

import (
	"context"
	"crypto/rand"
	_ "embed" // for the script
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

//go:embed scripts/send.sh
var sendScript string

const receiveScript = `mkdir -p "$1" && cat >"$1/$2"`

// peer is where other hosts reach this one.
type peer struct{ user, host, port string }

var peerName = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*$`)

// parsePeer reads "[user@]host[:port]". What it takes means nothing but itself to ssh and to shells.
func parsePeer(text string) (peer, error) {
	p := peer{host: text}
	if user, rest, ok := strings.Cut(text, "@"); ok {
		p.user, p.host = user, rest
	}
	if host, port, err := net.SplitHostPort(p.host); err == nil {
		p.host, p.port = host, port
	}
	if !peerName.MatchString(p.host) && net.ParseIP(p.host) == nil || p.user != "" && !peerName.MatchString(p.user) || strings.Trim(p.port, "0123456789") != "" {
		return p, fmt.Errorf("is %q; give [user@]host[:port] as the other hosts call it", text)
	}
	return p, nil
}

// MoveSnapshot sends a snapshot from its host to one whose option peer says how hosts reach it. It is Unsupported where that
// is not set, or does not work.
func (e *extension) MoveSnapshot(ctx context.Context, from, to sandboxer.SnapshotTarget) (sandboxer.Snapshot, error) {
	s, b, err := e.arriving(ctx, to)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	if b.opts.Peer == "" {
		return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("the option peer of host %s does not say how other hosts reach it", b.conn))
	}
	a, err := e.hostOfSnapshot(ctx, from.Host, from.Secret, from.Snapshot)
	if err != nil {
		return sandboxer.Snapshot{}, err
	}
	if _, err := a.stored(ctx, from.Snapshot); err != nil {
		return sandboxer.Snapshot{}, err
	}
	got, err := e.admitting(ctx, b, s, func(dir string) (string, error) { return a.send(ctx, from.Snapshot.ID, b, dir) })
	if err != nil {
		return sandboxer.Snapshot{}, fmt.Errorf("moving snapshot %s from host %s to %s: %w", from.Snapshot.ID, a.conn, b.conn, err)
	}
	return got, nil
}

// send sends the files of a snapshot to a new directory of the other host, and returns the size of its data. The bytes go
// directly, by what the host's login may do at the other; all else is asked of both by us.
func (h *host) send(ctx context.Context, id string, to *host, dir string) (string, error) {
	cannot := func(why string) error {
		return sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("host %s cannot send to %s: %s", h.conn, to.opts.Peer, why))
	}
	if h.zstd && !to.zstd {
		return "", cannot("what it keeps may be compressed, and the other has no zstd")
	}
	if strings.ContainsAny(dir, "'\n") {
		return "", cannot("what the other calls its directory would mean something to a shell")
	}
	for _, name := range parts[:2] {
		text, err := h.run(ctx, "reading "+name, `exec cat "$ROOT/.snapshots/$1/$2"`, id, name)
		if err != nil {
			return "", err
		}
		req := to.script(receiveScript, dir, name)
		req.Stdin = strings.NewReader(text)
		if res, err := to.conn.Exec(ctx, req); err != nil || res.ExitCode != 0 {
			return "", errors.Join(fmt.Errorf("storing %s", name), err, res.Err())
		}
	}
	p, err := parsePeer(to.opts.Peer)
	if err != nil {
		return "", err
	}
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	req := h.script(sendScript, id, p.user, p.host, p.port, path.Join(dir, parts[2]))
	req.Stderr = errs
	res, err := h.conn.Exec(ctx, req)
	if err != nil {
		return "", err
	}
	if res.ExitCode != 0 {
		return "", cannot(said([]byte(errs.text())))
	}
	return to.run(ctx, "storing it", `durable "$1"/* || exit 1; wc -c <"$1/data"`, dir)
}

// arriving is the snapshot that is to be stored, and its host.
func (e *extension) arriving(ctx context.Context, to sandboxer.SnapshotTarget) (sandboxer.Snapshot, *host, error) {
	s := to.Snapshot
	s.State, s.Host = nil, to.Host.ID // not of where it came from
	h, err := e.hostOfSnapshot(ctx, to.Host, to.Secret, s)
	if err == nil && s.Kind != "" && s.Kind != kindWorkspace {
		err = sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("snapshot %s is one of %s; this extension keeps a %s only", s.ID, s.Kind, kindWorkspace))
	}
	return s, h, err
}

// admitting makes what fill puts into a directory of the host the snapshot, or leaves nothing.
func (e *extension) admitting(ctx context.Context, h *host, s sandboxer.Snapshot, fill func(dir string) (size string, err error)) (sandboxer.Snapshot, error) {
	dir := path.Join(h.root, ".snapshots", ".tmp."+s.ID+"."+strings.ToLower(rand.Text()))
	size, err := fill(dir)
	if err == nil {
		s, err = e.admit(ctx, h, dir, s, size)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_, rerr := h.run(ctx, "removing what came of it", `rm -rf "$1"; rmdir "$ROOT/.snapshots" "$ROOT" 2>/dev/null; :`, dir)
		if rerr != nil { // what is left is no longer a matter of who cannot
			err = sandboxer.Mark(sandboxer.CodeOf(rerr), errors.Join(err, rerr))
		}
	}
	return s, err
}
