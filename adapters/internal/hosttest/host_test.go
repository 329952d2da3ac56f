package hosttest_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// session dials as an adapter would and runs a command.
func session(t *testing.T, h *hosttest.Host, address, command string) (string, error) {
	t.Helper()
	key, err := ssh.ParsePublicKey(publicKey(t, h.Host().HostKeys[0]))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: h.Host().User, Auth: []ssh.AuthMethod{ssh.PublicKeys(h.Server.Signer())}, HostKeyCallback: ssh.FixedHostKey(key), Timeout: 20 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	s, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := s.CombinedOutput(command)
	return string(out), err
}

func publicKey(t *testing.T, line string) []byte {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return key.Marshal()
}

func name(t *testing.T) string {
	return strings.ToLower(t.Name()) + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// TestHosts: each host's sessions reach its own engine and Compose, see its own network, and have a home of their own.
func TestHosts(t *testing.T) {
	t.Parallel()
	one, two := hosttest.Start(t, 1), hosttest.Start(t, 2)
	id := name(t)
	t.Cleanup(func() { one.Remove(id) })
	port := one.FreePort()
	out, err := session(t, one, one.Host().Address, "docker run -d --name "+id+" -p 127.0.0.1:"+strconv.Itoa(port)+":80 "+
		hosttest.Image+" sh -c 'echo hello >/tmp/index.html; exec httpd -f -h /tmp' && docker volume create --label by="+id+" "+id+"-v && docker network create "+id+"-n")
	if err != nil {
		t.Fatal(out, err)
	}
	if diff := cmp.Diff([]string{"container " + id, "network " + id + "-n", "volume " + id + "-v"}, one.Resources(id)); diff != "" {
		t.Error(diff)
	}
	if left := two.Resources(id); left != nil {
		t.Errorf("the second host's engine has the first one's %q", left)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: one.Dial, DisableKeepAlives: true}}
	resp, err := client.Get("http://127.0.0.1:" + strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "hello\n" {
		t.Errorf("the published port says %q", body)
	}
	if _, err := two.Dial(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
		t.Error("the first host's port is there on the second one")
	}
	if _, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
		t.Error("the first host's port is there on the machine")
	}
	for _, h := range []*hosttest.Host{one, two} {
		out, err := session(t, h, h.Host().Address, "docker compose version --short; echo $HOME; docker version -f '{{.Server.Version}}'")
		if err != nil || strings.TrimLeft(out, "v")[0] < '2' || !strings.Contains(out, h.Server.Home) {
			t.Errorf("%q, %v", out, err)
		}
	}
	if one.Server.Home == two.Server.Home || one.Host().ID == two.Host().ID {
		t.Error("the hosts are the same")
	}
	one.Remove(id)
	if left := one.Resources(id); left != nil {
		t.Errorf("Remove left %q", left)
	}
}

// TestAddressStays: a server that is started again is reached as before, and one that is down answers nothing.
func TestAddressStays(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	address := h.Host().Address
	h.Server.Kill()
	if out, err := session(t, h, address, "echo up"); err == nil {
		t.Errorf("a server that is down said %q", out)
	}
	h.Server.Run()
	if out, err := session(t, h, address, "echo up"); err != nil || out != "up\n" {
		t.Error(out, err)
	}
}

// TestProxy: the rules of a proxy hold on the way into the namespace.
func TestProxy(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	p := h.Proxy()
	if out, err := session(t, h, p.Address, "echo through"); err != nil || out != "through\n" {
		t.Error(out, err)
	}
	p.ResetAfter(100)
	if out, err := session(t, h, p.Address, "echo through"); err == nil {
		t.Errorf("it got through a connection that was reset: %q", out)
	}
	p.ResetAfter(-1)
	p.BlackHole(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	if n, err := conn.Read(make([]byte, 8)); err == nil {
		t.Errorf("the black hole said %d bytes", n)
	}
}

// TestOutside: threads that were in a host's namespace come back to no other goroutine.
func TestOutside(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		conn, err := h.Dial(t.Context(), "tcp", h.Server.ListenAddress())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		for _, thread := range []string{"self", "thread-self"} {
			if now, err := os.Readlink("/proc/" + thread + "/ns/net"); err != nil || now != before {
				t.Fatalf("%s is in %s, not in %s: %v", thread, now, before, err)
			}
		}
	}
}

// TestLogin: users that are not root are of the engine's group or not, and are no accounts of the machine.
func TestLogin(t *testing.T) {
	t.Parallel()
	for login, may := range map[hosttest.Login]bool{hosttest.Member: true, hosttest.Nobody: false} {
		h := hosttest.StartKind(t, 1, hosttest.Kind{Login: login})
		out, err := session(t, h, h.Host().Address, "id -u; cd && touch file && docker compose ls -q")
		if (err == nil) != may || !strings.HasPrefix(out, strconv.Itoa(hosttest.LoginID)+"\n") || may == strings.Contains(out, "permission denied") {
			t.Errorf("%d: %q, %v", login, out, err)
		}
		if _, err := user.Lookup(h.Host().User); err == nil {
			t.Errorf("%s is an account of this machine", h.Host().User)
		}
	}
}

// TestStandalone: Compose is a program, and docker has no such plugin, whatever the machine has.
func TestStandalone(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 2, hosttest.Kind{Standalone: true, Programs: map[string]string{"greet": "#!/bin/sh\necho hello\n"}})
	out, err := session(t, h, h.Host().Address, "docker-compose ls -q && greet && ! docker compose version")
	if err != nil || !strings.Contains(out, "hello\n") {
		t.Errorf("%q, %v", out, err)
	}
}
