//go:build linux || darwin

package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// CopyIn extracts a tar stream into dst. Links arrive as they are and are never written through; a path that goes through
// a link out of the sandbox is refused. Set-user-ID and set-group-ID bits are dropped: a program in the workspace would run
// as the user of the host program, whoever starts it.
func (e *extension) CopyIn(ctx context.Context, t sandboxer.Target, dst string, tar io.Reader) error {
	x, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	defer x.close()
	rel, err := x.inside(dst)
	if err != nil {
		return err
	}
	root, err := x.root.OpenRoot(x.claim.Name)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = root.Close() }() // a directory: nothing was written to it
	err = root.MkdirAll(rel, 0o755)
	if err == nil {
		into, oerr := root.OpenRoot(rel)
		if err = oerr; err == nil {
			_, err = archive.Extract(ctx, tar, into, archive.ExtractOptions{})
			_ = into.Close() // as above
		}
	}
	if err != nil {
		return classifyPath(root, fmt.Errorf("copying into %q of sandbox %s: %w", dst, x.claim.Name, err))
	}
	return nil
}

// CopyOut writes the tree or file at src as tar. Sockets, devices and named pipes are left out.
func (e *extension) CopyOut(ctx context.Context, t sandboxer.Target, src string, tar io.Writer) error {
	x, err := e.open(ctx, t)
	if err != nil {
		return err
	}
	defer x.close()
	rel, err := x.inside(src)
	if err != nil {
		return err
	}
	root, err := x.root.OpenRoot(x.claim.Name)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = root.Close() }() // only read
	sum, err := archive.PackRoot(ctx, tar, root, rel, archive.PackOptions{})
	if err == nil {
		err = x.still()
	}
	if err != nil {
		return classifyPath(root, fmt.Errorf("copying %q out of sandbox %s: %w", src, x.claim.Name, err))
	}
	if len(sum.Skipped) > 0 {
		e.log.InfoContext(ctx, "left out of a copy: sockets, devices and named pipes", "sandbox", x.claim.Name, "files", sum.Skipped)
	}
	return nil
}

// classifyPath is classify for calls through root, whose refusal to follow a link out has no code.
func classifyPath(root *os.Root, err error) error {
	err = classify(err)
	_, refusal := root.Lstat("..") // the way to get hold of it
	var p *fs.PathError
	if errors.As(refusal, &p) && errors.Is(err, p.Err) {
		return sandboxer.Mark(sandboxer.InvalidArgument, err)
	}
	return err
}

// Dial connects to a port of this machine's loopback interface, which is the sandbox's too. Other addresses are
// PermissionDenied: they are no part of the sandbox.
func (e *extension) Dial(ctx context.Context, t sandboxer.Target, network, address string) (net.Conn, error) {
	x, err := e.open(ctx, t)
	if err != nil {
		return nil, err
	}
	x.close()
	addresses, err := loopback(network, address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	var conn net.Conn
	for _, a := range addresses {
		if conn, err = d.DialContext(ctx, network, a); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, classify(ctx.Err())
		}
	}
	return nil, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("sandbox %s: %w", x.claim.Name, err))
}

// loopback returns the addresses that address means, without asking anybody for the name.
func loopback(network, address string) ([]string, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("network %q: only tcp, tcp4 and tcp6 are dialled", network))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("address %q: %w", address, err))
	}
	switch host {
	case "", "localhost":
		four, six := net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)
		switch network {
		case "tcp4":
			return []string{four}, nil
		case "tcp6":
			return []string{six}, nil
		}
		return []string{four, six}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	return nil, sandboxer.Refused(sandboxer.PermissionDenied, fmt.Errorf("address %q is not of this sandbox; dial localhost, 127.0.0.1 or ::1", address))
}
