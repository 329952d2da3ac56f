package workspace_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const waitLong = 30 * time.Second

func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

func remove(tb testing.TB, name string) {
	tb.Helper()
	if err := os.RemoveAll(name); err != nil {
		tb.Fatal(err)
	}
}

// stealFrom asks an agent for what it must not do.
func stealFrom(tb testing.TB, socket string, private []byte) {
	tb.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	a := agent.NewClient(conn)
	keys, err := a.List()
	if err != nil || len(keys) != 1 {
		tb.Fatalf("keys are %v, %v", keys, err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	login := func(user, service string) []byte {
		body := ssh.Marshal(struct {
			Type                  byte
			User, Service, Method string
			Signed                bool
			Algorithm             string
			Key                   []byte
		}{50, user, service, "publickey", true, keys[0].Format, keys[0].Blob})
		return append(ssh.Marshal(struct{ ID []byte }{make([]byte, 32)}), body...)
	}
	for name, data := range map[string][]byte{
		"text":            []byte("I owe you a thousand"),
		"another user":    login("somebody-else", "ssh-connection"),
		"another service": login("root", "ssh-other"),
		"nothing":         {},
	} {
		if s, err := a.Sign(signer.PublicKey(), data); err == nil {
			tb.Errorf("%s was signed: %v", name, s)
		}
	}
	if err := a.RemoveAll(); err == nil {
		tb.Error("the key was removed")
	}
}
