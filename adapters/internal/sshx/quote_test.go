package sshx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

func ecdsaKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

func ExampleQuoteAll() {
	line, err := sshx.QuoteAll("printf", "%s\n", "it's $HOME")
	fmt.Println(line, err)
	// Output:
	// 'printf' '%s
	// ' 'it'\''s $HOME' <nil>
}

// FuzzQuote asks the shells themselves.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "$(x)`y`", "\\", "\n", "!!", "-n", "~", "é\xff\r", "'\"'\"", "a\x00b"} {
		f.Add(s)
	}
	var shells []string
	for _, name := range []string{"dash", "bash", "sh"} {
		if path, err := exec.LookPath(name); err == nil {
			shells = append(shells, path)
		}
	}
	if len(shells) == 0 {
		f.Skip("there is no POSIX shell to ask")
	}
	f.Fuzz(func(t *testing.T, s string) {
		line, err := sshx.QuoteAll("printf", "%s", s)
		if strings.Contains(s, "\x00") {
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				t.Fatalf("%q: error is %v, want InvalidArgument", s, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, shell := range shells {
			out, err := exec.Command(shell, "-c", line).Output()
			if err != nil || !bytes.Equal(out, []byte(s)) {
				t.Errorf("%s: %q became %q, %v", shell, s, out, err)
			}
		}
	})
}
