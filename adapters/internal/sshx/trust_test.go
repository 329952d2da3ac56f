package sshx_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return data
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func knownLine(s *sshtest.Server, key string) string {
	host, port, _ := net.SplitHostPort(s.Address)
	return "[" + host + "]:" + port + " " + key + "\n"
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	dir := t.TempDir()
	_, other := sshtest.NewKey(t)
	tests := []struct {
		name  string
		keys  []string // of the host
		known string   // known_hosts of the configuration
		check func(*sshx.HostKeyError) bool
		code  sandboxer.Code
	}{
		{name: "authorized_keys line", keys: []string{other, s.HostKey + " comment"}},
		{name: "known_hosts line", keys: []string{strings.TrimSpace(knownLine(s, s.HostKey))}},
		{name: "known_hosts file of the host", keys: []string{write(t, dir, "own", knownLine(s, s.HostKey))}},
		{name: "known_hosts of the configuration", known: knownLine(s, s.HostKey)},
		{name: "wildcard", known: "127.0.0.* " + s.HostKey + "\n"},
		{name: "unknown", known: "other " + other + "\n", code: sandboxer.FailedPrecondition, check: func(e *sshx.HostKeyError) bool {
			return !e.Changed && !e.Revoked && e.Line == strings.TrimSpace(knownLine(s, s.HostKey)) && strings.HasPrefix(e.Fingerprint, "SHA256:")
		}},
		{name: "changed", known: knownLine(s, other), code: sandboxer.FailedPrecondition, check: func(e *sshx.HostKeyError) bool {
			return e.Changed && strings.HasSuffix(e.Known, ":1")
		}},
		{name: "changed, line", keys: []string{other}, code: sandboxer.FailedPrecondition, check: func(e *sshx.HostKeyError) bool { return e.Changed }},
		{name: "revoked", known: knownLine(s, s.HostKey) + "@revoked * " + s.HostKey + "\n", code: sandboxer.FailedPrecondition, check: func(e *sshx.HostKeyError) bool { return e.Revoked }},
		{name: "neither line nor file", keys: []string{"ssh-ed25519 nonsense"}, code: sandboxer.InvalidArgument},
		{name: "no such file", keys: []string{filepath.Join(dir, "missing")}, code: sandboxer.InvalidArgument},
		{name: "line of another host", keys: []string{"other.example.net " + s.HostKey}, code: sandboxer.InvalidArgument},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := config()
			cfg.KnownHosts = []string{write(t, dir, "known"+string(rune('a'+i)), test.known)}
			host := s.Host()
			host.HostKeys = test.keys
			p := sshx.NewPool(cfg)
			defer func() { _ = p.Close() }()
			c, err := p.Host(t.Context(), host, s.Secret)
			if err == nil {
				_, err = c.Output(t.Context(), "true")
			}
			if sandboxer.CodeOf(err) != test.code || err != nil && !sandboxer.IsRefused(err) {
				t.Fatalf("error is %v, refused %v; want %q", err, sandboxer.IsRefused(err), test.code)
			}
			var key *sshx.HostKeyError
			if test.check != nil && (!errors.As(err, &key) || !test.check(key)) {
				t.Errorf("error is %v, %+v", err, key)
			}
		})
	}
}

// A server that also has keys of types that are not known must be asked for one that is.
func TestOnlyOneKeyTypeIsKnown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, public := ecdsaKey(t)
	s := sshtest.Start(t, "HostKey "+write(t, dir, "ecdsa", key))
	for _, known := range []string{s.HostKey, public} {
		t.Run(known[:12], func(t *testing.T) {
			host := s.Host()
			host.HostKeys = []string{known}
			usable(t, connectTo(t, s, config(), host))
		})
	}
}

func TestHostKeyChangesUnderway(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	usable(t, c)
	old := s.HostKey
	s.Kill()
	s.NewHostKey()
	s.Run()
	var changed *sshx.HostKeyError
	var err error
	for range 2 { // the first may still find the old connection, broken
		_, err = c.Output(t.Context(), "true")
	}
	if !errors.As(err, &changed) || !changed.Changed || old == s.HostKey {
		t.Errorf("error is %v, want that the key changed", err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	dir := t.TempDir()
	caKey, caPublic := sshtest.NewKey(t)
	s.Authorize("cert-authority " + caPublic)
	certified, certificate := certify(t, caKey, s.User, time.Hour)
	_, expired := certify(t, caKey, s.User, -time.Hour)
	stranger, _ := sshtest.NewKey(t)
	keyFile := write(t, dir, "id", string(s.Credential.Reveal()))
	socket := serveAgent(t, s.Credential.Reveal())
	tests := []struct {
		name   string
		secret string
		agent  string
		config string
		code   sandboxer.Code
	}{
		{name: "key", secret: string(s.Credential.Reveal())},
		{name: "key with certificate", secret: certified + certificate},
		{name: "its key alone", secret: certified, code: sandboxer.Unauthenticated},
		{name: "certificate of another key", secret: certified + expired, code: sandboxer.Unauthenticated},
		{name: "stranger", secret: string(stranger), code: sandboxer.Unauthenticated},
		{name: "damaged", secret: "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n", code: sandboxer.Unauthenticated},
		{name: "password where none is taken", secret: "hunter2", code: sandboxer.Unauthenticated},
		{name: "agent", agent: socket},
		{name: "identity file", config: "Host *\n IdentityFile " + keyFile + "\n"},
		{name: "no such identity file", config: "Host *\n IdentityFile /nonexistent\n", code: sandboxer.Unauthenticated},
		{name: "agent that is not to be asked", agent: socket, config: "Host *\n IdentitiesOnly yes\n IdentityFile " + write(t, dir, "stranger", string(stranger)) + "\n", code: sandboxer.Unauthenticated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := config()
			if test.agent != "" {
				cfg.Agent = test.agent
			}
			if test.config != "" {
				cfg.SSHConfig = write(t, t.TempDir(), "config", test.config)
			}
			host := s.Host()
			if test.secret == "" {
				host.Credential = ""
			}
			p := sshx.NewPool(cfg)
			defer func() { _ = p.Close() }()
			c, err := p.Host(t.Context(), host, func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
				return sandboxer.NewSecret([]byte(test.secret), ""), nil
			})
			if err == nil {
				_, err = c.Output(t.Context(), "true")
			}
			if sandboxer.CodeOf(err) != test.code || err != nil && !sandboxer.IsRefused(err) {
				t.Errorf("error is %v; want %q", err, test.code)
			}
			if err != nil && test.secret != "" && strings.Contains(err.Error(), strings.TrimSpace(test.secret)) {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestConfigurationAndJumpHosts(t *testing.T) {
	t.Parallel()
	first, target := sshtest.Start(t), sshtest.Start(t)
	target.Authorize(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(first.Signer().PublicKey()))))
	dir := t.TempDir()
	known := write(t, dir, "known", knownLine(first, first.HostKey)+"inner "+target.HostKey+"\n")
	cfg := config()
	cfg.SSHConfig = write(t, dir, "config", "Host gate\n HostName 127.0.0.1\n Port "+first.Port()+"\n User "+first.User+
		"\nHost inner\n HostName 127.0.0.1\n Port "+target.Port()+"\n HostKeyAlias inner\n ProxyJump gate\nHost *\n UserKnownHostsFile "+known+"\n IdentityFile "+first.KeyFile()+"\n")
	host := sandboxer.Host{ID: "inner", Address: "inner", User: target.User}
	c := connectTo(t, target, cfg, host)
	out, err := c.Output(t.Context(), "sh", "-c", "echo $HOME $SSH_CONNECTION")
	if err != nil || !strings.HasPrefix(string(out), target.Home) || !strings.Contains(string(out), target.Port()) {
		t.Errorf("got %q, %v", out, err)
	}
	usable(t, c)
	host = target.Host()
	host.Options = sandboxer.Inputs{sshx.OptionJump: first.User + "@" + first.Address}
	cfg.SSHConfig, cfg.KnownHosts = "none", []string{known}
	host.Credential = first.Host().Credential
	p := sshx.NewPool(cfg)
	defer func() { _ = p.Close() }()
	if c, err = p.Host(t.Context(), host, first.Secret); err != nil {
		t.Fatal(err)
	}
	usable(t, c)
	host.Options[sshx.OptionJump] = 7
	if _, err := p.Host(t.Context(), host, first.Secret); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("error is %v, want InvalidArgument", err)
	}
	for _, address := range []string{"", "a b", "-oProxyCommand=x", "host:99999", "[::1", "a@b"} {
		host.Address = address
		if _, err := p.Host(t.Context(), host, first.Secret); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("%q: error is %v, want InvalidArgument", address, err)
		}
	}
}

func TestConfigurationThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	for text, code := range map[string]sandboxer.Code{
		"Match exec true\n User x\n":    sandboxer.InvalidArgument,
		"Host *\n ProxyCommand nc %h\n": sandboxer.Unsupported,
	} {
		cfg := config()
		cfg.SSHConfig = write(t, t.TempDir(), "config", text)
		p := sshx.NewPool(cfg)
		_, err := p.Host(t.Context(), sandboxer.Host{Address: "x"}, nil)
		if sandboxer.CodeOf(err) != code || !sandboxer.IsRefused(err) {
			t.Errorf("%q: error is %v, want %s", text, err, code)
		}
		_ = p.Close()
	}
}

// certify makes a key, and a certificate for it.
func certify(t *testing.T, ca []byte, user string, validFor time.Duration) (private, certificate string) {
	t.Helper()
	authority, err := ssh.ParsePrivateKey(ca)
	if err != nil {
		t.Fatal(err)
	}
	key, public := sshtest.NewKey(t)
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: pub, CertType: ssh.UserCert, ValidPrincipals: []string{user}, ValidAfter: uint64(time.Now().Add(-2 * time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(validFor).Unix())}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return string(key), string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(cert))) + "\n"
}

func serveAgent(t *testing.T, key []byte) string {
	t.Helper()
	raw, err := ssh.ParseRawPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(keyring, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done; _ = os.RemoveAll(dir) })
	return l.Addr().String()
}
