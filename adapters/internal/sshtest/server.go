package sshtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// EnvServer names the variable with the path of sshd.
const EnvServer = "SANDBOXER_SSHD"

// envMark is in the environment of every process that a server's sessions start.
const envMark = "SANDBOXER_TEST_SSHD"

// Server is a running sshd that lets the user who runs the test in, by the key in Credential.
type Server struct {
	Address    string           // "127.0.0.1:port"
	User       string           // who runs the test, or the one of Place.Login
	HostKey    string           // its public key as an authorized_keys line
	Credential sandboxer.Secret // the private key that it accepts
	Dir        string           // everything of it: configuration, keys, log
	Home       string           // HOME of its sessions; login files go here
	Temp       string           // TMPDIR of its sessions

	tb     testing.TB
	place  Place
	over   []string // what lies over the machine's files for the server: source, target, source, …
	listen string   // where sshd listens, as it sees it
	sshd   string
	mark   string
	signer ssh.Signer

	mu    sync.Mutex
	cmd   *exec.Cmd
	alive io.Closer
}

// Start runs a server on loopback until the test ends, and fails the test when a session's process outlives it by 10 s. lines go into its
// sshd_config and override the defaults, which are sshd's own but for authentication. It skips the test where there is no
// sshd, and fails it where one is required.
func Start(tb testing.TB, lines ...string) *Server {
	tb.Helper()
	var d net.Dialer
	s := StartIn(tb, Place{Free: freeAddress, Dial: d.DialContext}, lines...)
	s.Address = s.listen
	return s
}

// Place is where a server runs, and how it is reached, if it is not in the test's own network.
type Place struct {
	Enter []string                // a command that runs its arguments there; it must not leave a process between
	Free  func(testing.TB) string // an address to listen on, as it is called there
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Env   []string // NAME=value for the server's sessions beside HOME and TMPDIR
	Login *Login   // who is let in; nil: who runs the test
	Hide  []string // directories of the machine that are empty for the server's sessions
}

// StartIn is Start in a place. Whoever calls it sets Address, when there is one for the test to dial.
func StartIn(tb testing.TB, place Place, lines ...string) *Server {
	tb.Helper()
	sshd := os.Getenv(EnvServer)
	if sshd == "" {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			tb.Fatalf("%s is not set: run scripts/real/ssh.sh, or name the path of sshd", EnvServer)
		}
		tb.Skipf("%s is not set; it needs a real sshd (make test installs one)", EnvServer)
	}
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, place: place, sshd: sshd, User: me.Username, Dir: tempDir(tb), mark: randomHex()}
	s.Home, s.Temp = filepath.Join(s.Dir, "home"), filepath.Join(s.Dir, "tmp")
	for _, dir := range []string{s.Home, s.Temp} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	if me.Uid == "0" {
		// sshd of a distribution keeps its privileges apart in this directory, which its service makes.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	hostKey, public := NewKey(tb)
	s.write("host_key", hostKey)
	s.HostKey = public
	private, authorized := NewKey(tb)
	s.Credential = sandboxer.NewSecret(private, "test")
	if s.signer, err = ssh.ParsePrivateKey(private); err != nil {
		tb.Fatal(err)
	}
	s.write("authorized_keys", []byte(authorized+"\n"))
	s.write("key", private)
	s.hide(place.Hide)
	if place.Login != nil {
		s.admit(tb, place.Login)
	}
	s.listen = place.Free(tb)
	s.Configure(lines...)
	s.Run()
	tb.Cleanup(func() {
		s.Kill()
		s.WaitNoProcess("", 10*time.Second)
		s.killAll()
		if tb.Failed() {
			if log, err := os.ReadFile(filepath.Join(s.Dir, "log")); err == nil {
				tb.Logf("sshd said, but for what it says of each session:\n%s", unusual(string(log)))
			}
		}
	})
	return s
}

// unusual is the last of what a server said that is not part of every connection.
func unusual(log string) string {
	lines := slices.DeleteFunc(strings.Split(log, "\n"), func(line string) bool {
		for _, usual := range []string{"Starting session: ", "Close session: ", "Connection from ", "Connection closed by ", "Closing connection to ",
			"Transferred: ", "Accepted key ", "Accepted publickey ", "Postponed publickey ", "User child is on pid ", "Received disconnect ", "Disconnected from "} {
			if strings.HasPrefix(line, usual) {
				return true
			}
		}
		return line == ""
	})
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// tempDir is one with a short name: sockets have to fit, and sshd wants its keys in a place that only we can write.
func tempDir(tb testing.TB) string {
	dir, err := os.MkdirTemp("", "sshd")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *Server) write(name string, data []byte) {
	s.tb.Helper()
	mode := os.FileMode(0o600)
	if name == "authorized_keys" {
		mode = 0o644 // it is read as the user who logs in
	}
	if err := os.WriteFile(filepath.Join(s.Dir, name), data, mode); err != nil {
		s.tb.Fatal(err)
	}
}

// Configure writes the configuration; it counts after the next Run.
func (s *Server) Configure(lines ...string) {
	s.tb.Helper()
	host, port, _ := net.SplitHostPort(s.listen)
	conf := append(append([]string(nil), lines...), // the first value counts
		"ListenAddress "+host, "Port "+port,
		"HostKey "+filepath.Join(s.Dir, "host_key"),
		"PidFile none",
		"AuthorizedKeysFile "+filepath.Join(s.Dir, "authorized_keys"),
		"StrictModes no", "UsePAM no", "PermitRootLogin yes",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PrintMotd no", "PrintLastLog no", "UseDNS no", "LogLevel VERBOSE",
		// Sessions find no login files of the machine, and every process of theirs can be found.
		fmt.Sprintf("SetEnv HOME=%s TMPDIR=%s %s=%s %s", s.Home, s.Temp, envMark, s.mark, strings.Join(s.place.Env, " ")),
	)
	s.write("sshd_config", []byte(strings.Join(conf, "\n")+"\n"))
}

// Run starts the server, and waits until it answers.
func (s *Server) Run() {
	s.tb.Helper()
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	// The pipe ends with this process, also with one that panics, and the server with the pipe.
	argv := append([]string{"-c", `"$@" & p=$!; read -r _; kill -KILL $p`, "sh"}, s.enter()...)
	cmd := exec.Command("/bin/sh", append(argv, s.sshd, "-D", "-e", "-f", filepath.Join(s.Dir, "sshd_config"))...)
	alive, err := cmd.StdinPipe()
	if err != nil {
		s.tb.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C"}
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	s.cmd, s.alive = cmd, alive
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		conn, err := s.place.Dial(ctx, "tcp", s.listen)
		if err == nil {
			banner := make([]byte, 4)
			_, err = conn.Read(banner)
			_ = conn.Close()
			if err == nil && string(banner) == "SSH-" {
				return
			}
		}
		if !tick(ctx, 10*time.Millisecond) {
			out, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			s.tb.Fatalf("sshd does not answer at %s: %v\n%s", s.listen, err, out)
		}
	}
}

// Kill ends the server and all of its connections at once, as a crash of the host would; processes of sessions go on.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, alive := s.cmd, s.alive
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	for _, pid := range children(cmd.Process.Pid) { // those that serve connections have left the group
		if !s.marked(pid) {
			killProcess(pid)
		}
	}
	_ = cmd.Process.Kill()
	_ = alive.Close()
	_ = cmd.Wait()
}

// Restart is Kill and Run.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	s.Run()
}

// NewHostKey gives the server another key; it counts after the next Run.
func (s *Server) NewHostKey() {
	s.tb.Helper()
	key, public := NewKey(s.tb)
	s.write("host_key", key)
	s.HostKey = public
}

// Host describes the server to an adapter. Its credential is [Server.Secret]'s.
func (s *Server) Host() sandboxer.Host {
	return sandboxer.Host{ID: "host-1", Address: s.Address, User: s.User, HostKeys: []string{s.HostKey}, Credential: "test:key"}
}

// Secret is a [sandboxer.SecretFunc] that gives out Credential.
func (s *Server) Secret(_ context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
	if ref != "test:key" {
		return sandboxer.Secret{}, sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("there is no %s", ref))
	}
	return s.Credential, nil
}

// KeyFile is the private key as a file, for programs.
func (s *Server) KeyFile() string { return filepath.Join(s.Dir, "key") }

// Signer is the private key in use.
func (s *Server) Signer() ssh.Signer { return s.signer }

// Authorize lets further keys in: lines of authorized_keys.
func (s *Server) Authorize(lines ...string) {
	s.tb.Helper()
	name := filepath.Join(s.Dir, "authorized_keys")
	old, err := os.ReadFile(name)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.write("authorized_keys", append(old, []byte(strings.Join(lines, "\n")+"\n")...))
}

// NewKey makes an ed25519 key: as PEM, and as an authorized_keys line.
func NewKey(tb testing.TB) (private []byte, public string) {
	tb.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		tb.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(block), string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(sshPub)))
}

// freeAddress finds a port that nobody listens on, and below those that systems give to connections: one of these would
// keep a server that is down from coming up again.
func freeAddress(tb testing.TB) string {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(12000)))
		if err == nil {
			_ = l.Close()
			return l.Addr().String()
		}
	}
	tb.Fatal("no port is free")
	return ""
}

func randomHex() string {
	var raw [12]byte
	_, _ = rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

func tick(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ListenAddress is where the server listens, as its place calls it.
func (s *Server) ListenAddress() string { return s.listen }

// Port is the port of Address.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Address)
	return port
}
