package sshx

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keeperIn runs the keeper's script in a shell of this machine.
type keeperIn struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	path  string
}

func startKeeper(t *testing.T, lease string, shell ...string) *keeperIn {
	t.Helper()
	script := strings.NewReplacer("TOKEN", "xhello", "LEASE", lease, "STEP", "1").Replace(bare(keeperScript))
	k := &keeperIn{t: t, cmd: exec.Command(shell[0], append(shell[1:], "-c", script)...), lines: make(chan string, 100)}
	said, err := os.Create(filepath.Join(t.TempDir(), "stderr")) // a file: what the shell leaves behind may hold on to it
	if err != nil {
		t.Fatal(err)
	}
	k.cmd.Stderr = said
	t.Cleanup(func() {
		_ = said.Close()
		if text, _ := os.ReadFile(said.Name()); t.Failed() && len(text) > 0 {
			t.Logf("its shell said:\n%s", text)
		}
	})
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := k.cmd.StdoutPipe()
	if err == nil {
		err = k.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			k.lines <- s.Text()
		}
		close(k.lines)
	}()
	hello := k.await("xhello=")
	pid, _, _ := strings.Cut(strings.TrimPrefix(hello, "xhello="), " ")
	k.path = "/proc/" + pid + "/fd/9"
	t.Cleanup(func() { _ = k.in.Close(); _ = k.cmd.Wait() })
	return k
}

// ended waits until it has said everything.
func (k *keeperIn) ended() {
	k.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-k.lines:
			if !ok {
				return
			}
		case <-limit:
			k.t.Fatal("the keeper does not end")
		}
	}
}

func (k *keeperIn) await(prefix string) string {
	k.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case l, ok := <-k.lines:
			if strings.HasPrefix(l, prefix) {
				return l
			} else if !ok {
				k.t.Fatalf("the keeper ended without %q", prefix)
			}
		case <-limit:
			k.t.Fatalf("%q does not come", prefix)
		}
	}
}

// begin starts a command as a bootstrap does, and waits until it runs. What is alive of it is in the listing under its mark.
func (k *keeperIn) begin(token, mark string) {
	k.t.Helper()
	line := announce(k.path, token) + "export " + envToken + "=" + token + ";exec env -i /bin/sh -c '" +
		"/bin/sleep 1" + mark + " & setsid /bin/sleep 2" + mark + " & exec /bin/sleep 3" + mark + "' >/dev/null 2>&1"
	cmd := exec.Command("setsid", "sh", "-c", line)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	k.alive(mark, 3)
}

// marked lists the processes of begin.
func marked(mark string) (out []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		words, _ := os.ReadFile(name)
		if parts := strings.Split(string(words), "\x00"); len(parts) > 1 && parts[0] == "/bin/sleep" && strings.HasSuffix(parts[1], mark) {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

func (k *keeperIn) alive(mark string, want int) {
	k.t.Helper()
	for begun := time.Now(); len(marked(mark)) != want; {
		if time.Since(begun) > 20*time.Second {
			k.t.Fatalf("%d processes with %s, want %d", len(marked(mark)), mark, want)
		}
	}
}

// The host's shell may be any.
func TestKeeperInAnyShell(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the keeper reads /proc as Linux has it")
	}
	for i, shell := range [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell[0]); err != nil {
				lacks(t, "there is no %s: %v", shell[0], err)
			}
			mark := func(n int) string { return fmt.Sprintf("%d.%d%d", os.Getpid(), i, n) } // of the seconds that they sleep
			say := func(k *keeperIn, line string) {
				t.Helper()
				if _, err := io.WriteString(k.in, line+"\n"); err != nil {
					t.Fatal(err)
				}
			}

			k := startKeeper(t, "60", shell...)
			for n := range 4 {
				k.begin(fmt.Sprintf("xtoken%d", n), mark(n))
			}
			say(k, "!xtoken1")
			say(k, "?xtoken2")
			k.await("xtoken")
			k.await("xtoken")
			k.alive(mark(1), 0)
			k.alive(mark(2), 0)
			k.alive(mark(0), 3)
			say(k, "?xnever") // and is told so after a while
			k.await("xnever")
			say(k, "-xtoken0")
			_ = k.in.Close()
			k.ended()
			k.alive(mark(3), 0)
			k.alive(mark(0), 3) // it had ended, so what it left stays
			if out, err := exec.Command("sh", "-c", announce(k.path, "xlate")+"echo begun").Output(); err == nil || string(out) != "xlate!" {
				t.Errorf("something begins without a keeper: %q, %v", out, err)
			}

			k = startKeeper(t, "2", shell...)
			k.begin("xtoken4", mark(4))
			say(k, ".") // and nothing more
			k.ended()
			k.alive(mark(4), 0)
			for _, pid := range marked(mark(0)) {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill()
				}
			}
		})
	}
}
