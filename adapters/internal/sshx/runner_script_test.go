package sshx

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// lacks skips a test that cannot run here, and fails it where all of them must.
func lacks(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// perl is its path; the test needs that and Linux.
func perl(tb testing.TB) string {
	path, err := exec.LookPath("perl")
	if err != nil || runtime.GOOS != "linux" {
		lacks(tb, "a runner needs Perl and Linux: %v", err)
	}
	return path
}

func TestRunnerScriptIsStrict(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(perl(t), "-Mstrict", "-c", "-")
	cmd.Stdin = strings.NewReader(runnerScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// FuzzRunnerRequest gives a runner what is to be run, and looks at what arrives.
func FuzzRunnerRequest(f *testing.F) {
	program := perl(f)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if arch == "" {
		f.Skipf("the number of setsid on %s is not known to this test", runtime.GOARCH)
	}
	pipe := filepath.Join(f.TempDir(), "keeper")
	if out, err := exec.Command("mkfifo", pipe).CombinedOutput(); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	keeper := exec.Command("cat", pipe)
	hold := exec.Command("sh", "-c", `exec 3<>"$0";read x`, pipe) // so that it does not end with each writer
	end, err := hold.StdinPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err == nil {
		err = hold.Start()
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = end.Close()
		_, _ = hold.Wait(), keeper.Process.Kill()
		_ = keeper.Wait()
	})
	for _, s := range []string{"", "a", "it's\nhere\n", "$(x)`y`", "\\", "\n", "@x %y $0", "é\xff", "a\x00b"} {
		f.Add(s, s, []byte(s))
	}
	f.Fuzz(func(t *testing.T, value, arg string, input []byte) {
		req := &sandboxer.ExecRequest{
			Command: []string{"sh", "-c", `printf '%s|%s|' "$V" "$1"; cat; exit 3`, "sh", arg},
			Env:     map[string]string{"V": value}, Dir: "/", Stdin: bytes.NewReader(input),
		}
		if strings.Contains(value+arg, "\x00") {
			if err := check(req); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				t.Fatalf("error is %v, want InvalidArgument", err)
			}
			return
		}
		token := "y" + newToken()[1:] + "-0-"
		r := &runner{s: &session{token: token}}
		stdin := runnerLine(token, pipe, setsid[arch], time.Second)
		_, script, _ := strings.Cut(stdin, "\n")
		cmd := exec.Command(program, "-C0", "-e", script, token, pipe, strconv.Itoa(setsid[arch]), "1", strconv.Itoa(stripe))
		var in bytes.Buffer
		in.Write(r.request("y-1-", req, nil))
		for chunk := range slices.Chunk(input, 7) {
			in.Write(frame('I', string(chunk)))
		}
		in.Write(frame('E', ""))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdinPipe, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdinPipe.Close(); _ = cmd.Wait() }()
		go func() { _, _ = stdinPipe.Write(in.Bytes()) }()
		from := bufio.NewReader(out)
		if err := skipTo(from, token+markBegun); err != nil {
			t.Fatal(err)
		}
		var printed []byte
		buf := make([]byte, maxFrame)
		for {
			kind, payload, err := readFrame(from, buf)
			if err != nil {
				t.Fatal(err)
			}
			if kind == 'Q' {
				if want := "\x03\x00\x010"; string(payload) != want {
					t.Errorf("it ended with %q, want %q", payload, want)
				}
				break
			}
			printed = append(printed, payload...)
		}
		if want := value + "|" + arg + "|" + string(input); string(printed) != want {
			t.Errorf("got %q, want %q", printed, want)
		}
	})
}

// FuzzFrames takes whatever a host may send for frames.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("welcome\nx."), []byte(string(frame('O', "text"))+string(frame('Q', "\x00\x00\x010"))))
	f.Add([]byte("x"), frame('Z', ""))
	f.Add([]byte(""), []byte("O\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, noise, data []byte) {
		from := bufio.NewReader(bytes.NewReader(append(append(noise, "MARK."...), data...)))
		if bytes.Contains(noise, []byte("MARK.")) {
			return
		}
		if err := skipTo(from, "MARK."); err != nil {
			t.Fatalf("the mark is not found: %v", err)
		}
		buf := make([]byte, maxFrame)
		rest := len(data)
		for {
			kind, payload, err := readFrame(from, buf)
			if err != nil {
				return
			}
			if rest -= frameHead + len(payload); rest < 0 || !strings.ContainsRune("OXQDNL", rune(kind)) {
				t.Fatalf("frame %q with %d bytes from %q", kind, len(payload), data)
			}
		}
	})
}

// TestRunnerEndsOnce: the word on a command's end comes in the moment in which the command is given up.
func TestRunnerEndsOnce(t *testing.T) {
	t.Parallel()
	c := &runnerCall{done: make(chan struct{})}
	r := &runner{gone: make(chan struct{}), call: c}
	r.fail(errNoSession)
	if err := r.ended(c, []byte{0, 0, 1}); err == nil || c.ended {
		t.Errorf("a command that was given up has ended by itself: %v", err)
	}
	<-c.done
}
