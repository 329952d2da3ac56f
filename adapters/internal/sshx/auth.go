package sshx

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sand-boxer/sandboxer"
)

// credential is what a connection is authenticated with, as it was configured: parsed at every dial, never printed.
type credential struct {
	secret        sandboxer.Secret // private key with certificates, or a password
	identityFiles []string
	certFiles     []string
	agentSocket   string
	wantFiles     bool // a missing identity file is an error
}

// id tells credentials apart without keeping them.
func (c *credential) id() [32]byte {
	return sha256.Sum256(fmt.Appendf(c.secret.Reveal(), "\x00%q%q%q", c.identityFiles, c.certFiles, c.agentSocket))
}

// methods returns the ways to authenticate, and what closes the connection to the agent.
func (c *credential) methods(ctx context.Context) ([]ssh.AuthMethod, func(), error) {
	var signers []ssh.Signer
	var out []ssh.AuthMethod
	done := func() {}
	if value := c.secret.Reveal(); len(value) > 0 {
		if !bytes.Contains(value, []byte("-----BEGIN ")) {
			return passwordMethods(strings.TrimRight(string(value), "\r\n")), done, nil
		}
		own, err := parseIdentity(value, nil)
		if err != nil {
			return nil, nil, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the host's credential: %w", err))
		}
		return []ssh.AuthMethod{ssh.PublicKeys(own...)}, done, nil
	}
	for _, name := range c.identityFiles {
		own, err := readIdentity(name, c.certFiles)
		switch {
		case err == nil:
			signers = append(signers, own...)
		case errors.Is(err, os.ErrNotExist) && !c.wantFiles:
		case isLocked(err) && c.agentSocket != "":
			// The agent holds it, unlocked.
		default:
			return nil, nil, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("identity file %s: %w", name, err))
		}
	}
	var fromAgent func() ([]ssh.Signer, error)
	if c.agentSocket != "" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", c.agentSocket)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			done = func() { stop(); _ = conn.Close() }
			fromAgent = agent.NewClient(conn).Signers
		} else if len(signers) == 0 {
			return nil, nil, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the SSH agent does not answer: %w", err))
		}
	}
	if len(signers) == 0 && fromAgent == nil {
		return nil, nil, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("there is no credential for the host: set one, start an SSH agent, or name an IdentityFile in the SSH configuration"))
	}
	// One method with all keys: a client may try "publickey" only once.
	out = append(out, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		if fromAgent == nil {
			return signers, nil
		}
		more, err := fromAgent()
		if err != nil && len(signers) == 0 {
			return nil, fmt.Errorf("the SSH agent: %w", err)
		}
		return append(append([]ssh.Signer(nil), signers...), more...), nil
	}))
	return out, done, nil
}

func passwordMethods(password string) []ssh.AuthMethod {
	return []ssh.AuthMethod{
		ssh.Password(password),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range answers {
				if !echos[i] {
					answers[i] = password
				}
			}
			return answers, nil
		}),
	}
}

func readIdentity(name string, certFiles []string) ([]ssh.Signer, error) {
	value, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var certs []byte
	for _, f := range append([]string{name + "-cert.pub"}, certFiles...) {
		if cert, err := os.ReadFile(f); err == nil {
			certs = append(append(certs, cert...), '\n')
		}
	}
	return parseIdentity(value, certs)
}

// parseIdentity reads private keys in PEM, and the certificates for them in authorized_keys form, in the same text or in
// certs. A key that has a certificate is offered with it first. Nothing of the text is in an error.
func parseIdentity(text, certs []byte) ([]ssh.Signer, error) {
	var plain []ssh.Signer
	var notPEM []byte
	for rest := text; ; {
		begin := bytes.Index(rest, []byte("-----BEGIN "))
		if begin < 0 {
			notPEM = append(notPEM, rest...)
			break
		}
		notPEM = append(append(notPEM, rest[:begin]...), '\n')
		block, after := pem.Decode(rest[begin:])
		if block == nil {
			return nil, errors.New("the private key is no valid PEM")
		}
		signer, err := ssh.ParsePrivateKey(pem.EncodeToMemory(block))
		if err != nil {
			if isLocked(err) {
				return nil, fmt.Errorf("the private key is locked by a passphrase; give it unlocked, or through an agent: %w", err)
			}
			return nil, errors.New("the private key cannot be read: its format is not known, or it is damaged")
		}
		plain, rest = append(plain, signer), after
	}
	if len(plain) == 0 {
		return nil, errors.New("there is no private key in it")
	}
	var withCert []ssh.Signer
	for line := range bytes.Lines(append(append(notPEM, '\n'), certs...)) {
		key, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			continue
		}
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			continue
		}
		for _, signer := range plain {
			if bytes.Equal(cert.Key.Marshal(), signer.PublicKey().Marshal()) {
				certSigner, err := ssh.NewCertSigner(cert, signer)
				if err != nil {
					return nil, errors.New("the certificate does not fit its private key")
				}
				withCert = append(withCert, certSigner)
			}
		}
	}
	return append(withCert, plain...), nil
}

func isLocked(err error) bool {
	var locked *ssh.PassphraseMissingError
	return errors.As(err, &locked)
}
