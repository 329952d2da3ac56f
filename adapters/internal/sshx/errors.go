package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// errClosed is what calls on a closed Pool fail with.
var errClosed = sandboxer.Refused(sandboxer.FailedPrecondition, errors.New("the SSH pool is closed"))

// HostKeyError says that a server's key could not be trusted. Its code is FailedPrecondition: another try with the same
// configuration fails the same way.
type HostKeyError struct {
	Host        string // as it is looked up: "build1.example.net" or "[build1.example.net]:2222"
	Fingerprint string // "SHA256:…" of the key that the server showed
	KeyType     string // "ssh-ed25519"
	Line        string // what to add to known_hosts, once the fingerprint is known to be right
	Changed     bool   // another key is known for this host
	Revoked     bool   // the key is marked @revoked
	Known       string // where the other key, or the revocation, stands: "/home/u/.ssh/known_hosts:7"
}

func (e *HostKeyError) Error() string {
	switch {
	case e.Revoked:
		return fmt.Sprintf("the %s key %s of %s is revoked in %s; somebody who stole it may be answering", e.KeyType, e.Fingerprint, e.Host, e.Known)
	case e.Changed:
		return fmt.Sprintf("%s shows the %s key %s, but another is known in %s: it was reinstalled, or somebody is in between; when the new key is right, replace the old line by: %s",
			e.Host, e.KeyType, e.Fingerprint, e.Known, e.Line)
	}
	return fmt.Sprintf("the key of %s is not known; it shows the %s key %s; when that is right, add this line to known_hosts or to the host's keys: %s",
		e.Host, e.KeyType, e.Fingerprint, e.Line)
}

// dialError classifies what a dial failed with. Nothing was created, whatever it was.
func dialError(ctx context.Context, where string, err error) error {
	err = fmt.Errorf("connect to %s: %w", where, err)
	var hostKey *HostKeyError
	var algorithms *ssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &hostKey), errors.As(err, &algorithms):
		return sandboxer.Refused(sandboxer.FailedPrecondition, err)
	case isAuth(err):
		return sandboxer.Refused(sandboxer.Unauthenticated, err)
	case ctx.Err() != nil:
		return ctxError(ctx, err)
	case sandboxer.CodeOf(err) != sandboxer.Unknown && sandboxer.CodeOf(err) != sandboxer.DeadlineExceeded:
		return sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	return sandboxer.Refused(sandboxer.Unavailable, err)
}

// ctxError is a refusal because ctx ended before anything was done.
func ctxError(ctx context.Context, err error) error {
	return sandboxer.Refused(codeOf(ctx), fmt.Errorf("%w (%w)", err, context.Cause(ctx)))
}

func codeOf(ctx context.Context) sandboxer.Code {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return sandboxer.DeadlineExceeded
	}
	return sandboxer.Canceled
}

// isAuth reports whether the server accepted no credential. x/crypto has no type for it.
func isAuth(err error) bool {
	var auth *ssh.ServerAuthError
	return errors.As(err, &auth) || strings.Contains(err.Error(), "unable to authenticate") ||
		strings.Contains(err.Error(), "authentication failures")
}

// isThrottled reports whether a handshake ended as one does that sshd drops because of MaxStartups: the connection is
// closed before or while versions and keys are exchanged.
func isThrottled(err error) bool {
	if isAuth(err) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}
