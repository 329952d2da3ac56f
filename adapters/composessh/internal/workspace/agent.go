package workspace

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

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
	s := &agentServer{key: &loginKey{signer: signer, user: user}, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() { s.accept(l) })
	return func() {
		_ = l.Close()
		s.end()
		s.wg.Wait()
	}, nil
}

type agentServer struct {
	key *loginKey
	wg  sync.WaitGroup

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
			s.key.serve(conn)
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

// The messages of the protocol (draft-miller-ssh-agent) that are understood.
const (
	agentFailure   = 5
	agentList      = 11
	agentKeys      = 12
	agentSign      = 13
	agentSignature = 14

	flagSHA256 = 2 // for RSA keys
	flagSHA512 = 4

	maxMessage = 256 << 10
)

// loginKey signs requests to log in as one user, and nothing else.
type loginKey struct {
	signer ssh.Signer
	user   string
}

// serve answers on a connection until that ends.
func (k *loginKey) serve(conn io.ReadWriter) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 || n > maxMessage {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		answer := k.answer(message)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer makes the reply to a message of at least one byte.
func (k *loginKey) answer(message []byte) []byte {
	pub := k.signer.PublicKey().Marshal()
	switch message[0] {
	case agentList:
		return ssh.Marshal(struct {
			Type    byte
			Count   uint32
			Key     []byte
			Comment string
		}{agentKeys, 1, pub, "sandboxer"})
	case agentSign:
		var request struct {
			Key, Data []byte
			Flags     uint32
		}
		if ssh.Unmarshal(message[1:], &request) == nil && bytes.Equal(request.Key, pub) && isLogin(request.Data, k.user) {
			if s, err := k.sign(request.Data, request.Flags); err == nil {
				return ssh.Marshal(struct {
					Type      byte
					Signature []byte
				}{agentSignature, ssh.Marshal(s)})
			}
		}
	}
	return []byte{agentFailure}
}

func (k *loginKey) sign(data []byte, flags uint32) (*ssh.Signature, error) {
	with, ok := k.signer.(ssh.AlgorithmSigner)
	if ok && k.signer.PublicKey().Type() == ssh.KeyAlgoRSA {
		switch {
		case flags&flagSHA512 != 0:
			return with.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
		case flags&flagSHA256 != 0:
			return with.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA256)
		}
	}
	return k.signer.Sign(rand.Reader, data)
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
