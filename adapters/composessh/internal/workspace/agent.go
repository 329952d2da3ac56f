package workspace

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sand-boxer/sandboxer"
)

// maxSocket is what a socket's address holds on Linux, without the NUL.
const maxSocket = 107

// serveAgent listens on a socket of the host and signs with the key for whoever connects there, which are the processes of
// the login and root. It signs nothing but logins of one user. stop ends it and waits for it.
func serveAgent(ctx context.Context, r Runner, socket string, signer ssh.Signer, user string) (stop func(), err error) {
	host, ok := r.(interface {
		Listen(ctx context.Context, network, address string) (net.Listener, error)
	})
	if !ok {
		return nil, sandboxer.Refused(sandboxer.Unsupported, errors.New("a repository over SSH with a key needs a host that can forward a socket to here"))
	}
	if len(socket) > maxSocket {
		return nil, invalid("the path %q is too long for a socket; clone into a directory with a path shorter by %d bytes", socket, len(socket)-maxSocket)
	}
	l, err := host.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, failed(r, sandboxer.CodeOf(err), "no socket for the key of the repository; sshd must have AllowStreamLocalForwarding: %w", err)
	}
	s := &agentServer{keys: &loginKey{signer: signer, user: user}, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() { s.accept(l) })
	return func() {
		_ = l.Close()
		s.end()
		s.wg.Wait()
	}, nil
}

type agentServer struct {
	keys agent.Agent
	wg   sync.WaitGroup

	mu    sync.Mutex
	ended bool
	conns map[net.Conn]struct{}
}

func (s *agentServer) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			_ = agent.ServeAgent(s.keys, conn) // ends with the connection
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *agentServer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close()
	}
}

// loginKey is an agent with one key, which signs requests to log in as one user and nothing else.
type loginKey struct {
	signer ssh.Signer
	user   string
}

var errAgent = errors.New("this agent signs logins with one key only")

func (k *loginKey) List() ([]*agent.Key, error) {
	pub := k.signer.PublicKey()
	return []*agent.Key{{Format: pub.Type(), Blob: pub.Marshal(), Comment: "sandboxer"}}, nil
}

func (k *loginKey) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return k.SignWithFlags(key, data, 0)
}

func (k *loginKey) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if !bytes.Equal(key.Marshal(), k.signer.PublicKey().Marshal()) || !isLogin(data, k.user) {
		return nil, errAgent
	}
	algorithm := ""
	switch {
	case flags&agent.SignatureFlagRsaSha512 != 0:
		algorithm = ssh.KeyAlgoRSASHA512
	case flags&agent.SignatureFlagRsaSha256 != 0:
		algorithm = ssh.KeyAlgoRSASHA256
	}
	with, ok := k.signer.(ssh.AlgorithmSigner)
	if algorithm == "" || !ok || key.Type() != ssh.KeyAlgoRSA {
		return k.signer.Sign(rand.Reader, data)
	}
	return with.SignWithAlgorithm(rand.Reader, data, algorithm)
}

// isLogin reports whether data is what a client signs to log in with a public key (RFC 4252, section 7). An empty user
// stands for any.
func isLogin(data []byte, user string) bool {
	var session struct {
		ID   []byte
		Rest []byte `ssh:"rest"`
	}
	var request struct {
		User, Service, Method string
		Signed                bool
		Rest                  []byte `ssh:"rest"`
	}
	const userAuthRequest = 50
	if ssh.Unmarshal(data, &session) != nil || len(session.ID) == 0 || len(session.Rest) < 1 || session.Rest[0] != userAuthRequest {
		return false
	}
	if ssh.Unmarshal(session.Rest[1:], &request) != nil {
		return false
	}
	return request.Signed && request.Service == "ssh-connection" && (user == "" || request.User == user) &&
		(request.Method == "publickey" || request.Method == "publickey-hostbound-v00@openssh.com")
}

func (k *loginKey) Add(agent.AddedKey) error       { return errAgent }
func (k *loginKey) Remove(ssh.PublicKey) error     { return errAgent }
func (k *loginKey) RemoveAll() error               { return errAgent }
func (k *loginKey) Lock([]byte) error              { return errAgent }
func (k *loginKey) Unlock([]byte) error            { return errAgent }
func (k *loginKey) Signers() ([]ssh.Signer, error) { return nil, errAgent }

// Extension refuses: what a session is bound to is not needed by a key that is asked for in one only.
func (k *loginKey) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}
