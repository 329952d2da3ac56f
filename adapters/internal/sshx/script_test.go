package sshx

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// FuzzCommandLine gives shells what sshd would give them, and looks at what arrives.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"", "a", "it's\nhere\n", "$(x)`y`", "\\", "\n", "!!\r", "\"$N\"", "'\"$N\"'", "é\xff", "a\x00b"} {
		f.Add(s, s)
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
	f.Fuzz(func(t *testing.T, value, arg string) {
		req := &sandboxer.ExecRequest{
			Command: []string{"sh", "-c", `printf '%s|%s|' "$V" "$1"; cat`, "sh", arg},
			Env:     map[string]string{"V": value}, Dir: "/", Stdin: strings.NewReader(""),
		}
		line, err := commandLine(req, newToken())
		if strings.Contains(value+arg, "\x00") {
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				t.Fatalf("error is %v, want InvalidArgument", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		token := line[strings.Index(line, envToken+"=")+len(envToken)+1:][:22]
		small, err := smallLine(req, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, shell := range shells {
			for _, direct := range []bool{true, false} {
				cmd := exec.Command(shell, "-c", bootstrap(token, direct))
				cmd.Stdin = strings.NewReader(line + "rest\n")
				out, err := cmd.Output()
				if want := token + markBegun + value + "|" + arg + "|rest\n"; err != nil || string(out) != want {
					t.Errorf("%s: %q, %v; want %q", shell, out, err, want)
				}
			}
			cmd := exec.Command(shell, "-c", `while IFS= read -r l;do eval "$l";done`)
			cmd.Stdin = strings.NewReader(small)
			out, err := cmd.Output()
			if want := []byte(value + "|" + arg + "|" + token + "0;"); err != nil || !bytes.Equal(out, want) {
				t.Errorf("%s: %q, %v; want %q", shell, out, err, want)
			}
		}
	})
}
