package workspace

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// defaultUser is what GitHub wants with the token of an app; others take any name with a token.
const defaultUser = "x-access-token"

// Credential opens a private repository.
type Credential struct {
	// User of an http or https source. Defaults to "x-access-token", beside which GitHub, GitLab and Gitea take a token. The
	// user of an SSH source is in its URL.
	User string
	// Secret is the password or token, or the private key of an SSH source, in PEM and without a passphrase.
	Secret sandboxer.Secret
}

// check refuses what cannot work, or would give the secret away.
func (c *Credential) check(s Source) error {
	if c == nil {
		return nil
	}
	switch {
	case s.scheme == "git":
		return invalid("the protocol of %s knows no credentials; use https or ssh", s.URL)
	case s.scheme == "http" && !isLoopback(s.host):
		return invalid("the credential would travel to %s in the clear; use https", s.host)
	case s.scheme == "ssh" && c.User != "":
		return invalid("the user of an SSH source belongs into its URL: ssh://%s@%s/…", c.User, s.host)
	case s.scheme == "ssh" || c.User == "":
		return nil
	}
	return plain("the user of the credential", c.User, maxRef)
}

func isLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || (ip != nil && ip.IsLoopback())
}

// opened is a credential in use.
type opened struct {
	lines  []byte // for the script's standard input
	agent  string // socket on the host
	secret []byte
	stop   func()
}

func (o *opened) close() {
	if o.stop != nil {
		o.stop()
	}
	clear(o.lines)
	clear(o.secret)
}

// open makes the credential usable for a command on the host. temp is a directory there.
func (c *Credential) open(ctx context.Context, r Runner, s Source, temp string) (*opened, error) {
	if c == nil {
		return &opened{}, nil
	}
	secret := bytes.TrimRight(c.Secret.Reveal(), "\r\n")
	if s.scheme == "ssh" {
		signer, err := ssh.ParsePrivateKey(append(secret, '\n'))
		if err != nil {
			return nil, keyError(err)
		}
		socket := path.Join(temp, "a")
		stop, err := serveAgent(ctx, r, socket, signer, s.user)
		if err != nil {
			return nil, err
		}
		return &opened{agent: socket, stop: stop}, nil
	}
	if len(secret) == 0 || bytes.ContainsAny(secret, "\x00\r\n") {
		return nil, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("the secret for the repository is empty or has several lines; it must be a password or a token"))
	}
	user := c.User
	if user == "" {
		user = defaultUser
	}
	return &opened{lines: fmt.Appendf(nil, "%s\n%s\n", user, secret), secret: secret}, nil
}

// keyError does not show what it could not parse.
func keyError(err error) error {
	why := "it is no private key in PEM"
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		why = "it has a passphrase"
	}
	return sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the secret for the repository is not usable for SSH: %s", why))
}

// scrub takes the secret out of what a server made git say, in the forms that it travels in.
func (o *opened) scrub(lines []string) []string {
	if len(o.secret) == 0 {
		return lines
	}
	pair := bytes.Replace(bytes.TrimSuffix(o.lines, []byte{'\n'}), []byte{'\n'}, []byte{':'}, 1)
	hide := strings.NewReplacer(string(o.secret), "[redacted]", base64.StdEncoding.EncodeToString(pair), "[redacted]")
	for i, l := range lines {
		lines[i] = hide.Replace(l)
	}
	return lines
}
