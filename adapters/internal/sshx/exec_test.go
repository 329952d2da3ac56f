package sshx_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// config is one that depends on nothing of the machine and finds dead peers soon.
func config() sshx.Config {
	return sshx.Config{SSHConfig: "none", Agent: "none", KeepAlive: time.Second, Lease: 10 * time.Second, DialTimeout: 20 * time.Second}
}

// shortLease is one that ends what it hears nothing of while a test waits for it.
func shortLease() sshx.Config {
	cfg := config()
	cfg.Lease = 2 * time.Second
	return cfg
}

// connect returns a Conn to the server whose Pool ends with the test.
func connect(tb testing.TB, s *sshtest.Server, cfg sshx.Config) *sshx.Conn {
	tb.Helper()
	return connectTo(tb, s, cfg, s.Host())
}

func connectTo(tb testing.TB, s *sshtest.Server, cfg sshx.Config, host sandboxer.Host) *sshx.Conn {
	tb.Helper()
	p := sshx.NewPool(cfg)
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
		s.WaitNoProcess("", 10*time.Second)
	})
	c, err := p.Host(tb.Context(), host, s.Secret)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func shell(script string) []string { return []string{"sh", "-c", script} }

func TestExec(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, *sshtest.Server){"in a session": withoutPerl, "on a runner": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t)
			if prepare != nil {
				prepare(t, s)
			}
			c := connect(t, s, config())
			if prepare == nil {
				onRunner(t, c)
			}
			t.Run("commands", func(t *testing.T) { testExec(t, c) })
			if prepare == nil {
				onRunner(t, c)
			} else if got := parent(t, c); !strings.HasPrefix(got, "sshd") {
				t.Errorf("commands run under %q", got)
			}
		})
	}
}

// withoutPerl takes Perl away from what logs in, so that there are no runners.
func withoutPerl(t *testing.T, s *sshtest.Server) {
	t.Helper()
	bin := filepath.Join(s.Dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/bin", "/usr/bin"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "perl") {
				_ = os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(bin, e.Name()))
			}
		}
	}
	write(t, s.Home, ".bashrc", "PATH="+bin+"\n")
}

// parent tells under what a command runs: sshd, or a runner.
func parent(t *testing.T, c *sshx.Conn) string {
	t.Helper()
	var out strings.Builder
	if _, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell(`tr '\0' ' ' </proc/$PPID/cmdline | cut -c1-4`), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

// onRunner runs commands until there is a runner for them.
func onRunner(t *testing.T, c *sshx.Conn) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if strings.HasPrefix(parent(t, c), "perl") {
			return
		}
	}
	t.Fatal("no runner comes")
}

func testExec(t *testing.T, c *sshx.Conn) {
	big := strings.Repeat("0123456789abcdef", 64<<10)
	tests := []struct {
		name           string
		req            sandboxer.ExecRequest
		stdin          string
		stdout, stderr string
		want           sandboxer.ExecResult
	}{
		{name: "output", req: sandboxer.ExecRequest{Command: []string{"echo", "hello"}}, stdout: "hello\n"},
		{name: "both streams", req: sandboxer.ExecRequest{Command: shell("echo out; echo err >&2")}, stdout: "out\n", stderr: "err\n"},
		{name: "exit code", req: sandboxer.ExecRequest{Command: shell("exit 7")}, want: sandboxer.ExecResult{ExitCode: 7}},
		{name: "exit code that looks like a signal", req: sandboxer.ExecRequest{Command: shell("exit 137")}, want: sandboxer.ExecResult{ExitCode: 137}},
		{name: "signal", req: sandboxer.ExecRequest{Command: shell("kill -TERM $$")}, want: sandboxer.ExecResult{ExitCode: -1, Signal: "SIGTERM"}},
		{name: "signal that terminals send", req: sandboxer.ExecRequest{Command: shell("kill -INT $$")}, want: sandboxer.ExecResult{ExitCode: -1, Signal: "SIGINT"}},
		{name: "exit code of that", req: sandboxer.ExecRequest{Command: shell("exit 130")}, want: sandboxer.ExecResult{ExitCode: 130}},
		{name: "signal of a pipe", req: sandboxer.ExecRequest{Command: shell("kill -PIPE $$")}, want: sandboxer.ExecResult{ExitCode: -1, Signal: "SIGPIPE"}},
		{name: "exit code 255", req: sandboxer.ExecRequest{Command: shell("exit 255")}, want: sandboxer.ExecResult{ExitCode: 255}},
		{name: "no such command", req: sandboxer.ExecRequest{Command: []string{"no-such-command"}}, want: sandboxer.ExecResult{ExitCode: 127}, stderr: "*"},
		{name: "reserved word", req: sandboxer.ExecRequest{Command: []string{"if"}}, want: sandboxer.ExecResult{ExitCode: 127}, stderr: "*"},
		{name: "arguments", req: sandboxer.ExecRequest{Command: []string{"printf", "[%s]", "", "a b", "$HOME", "it's", "a\nb\n", "\r\\n*", "\xff\xfe", "~", "-n"}},
			stdout: "[][a b][$HOME][it's][a\nb\n][\r\\n*][\xff\xfe][~][-n]"},
		{name: "environment", req: sandboxer.ExecRequest{Command: shell(`printf %s "$A|$B|$C"`), Env: map[string]string{"A": "1'2", "B": "x\ny\n", "C": "$A"}}, stdout: "1'2|x\ny\n|$A"},
		{name: "directory", req: sandboxer.ExecRequest{Command: []string{"pwd"}, Dir: "/usr/bin"}, stdout: "/usr/bin\n"},
		{name: "no input", req: sandboxer.ExecRequest{Command: []string{"cat"}}},
		{name: "input", req: sandboxer.ExecRequest{Command: []string{"cat"}}, stdin: "a\x00b\n", stdout: "a\x00b\n"},
		{name: "much input", req: sandboxer.ExecRequest{Command: []string{"cat"}}, stdin: big, stdout: big},
		{name: "input that nobody reads", req: sandboxer.ExecRequest{Command: []string{"true"}}, stdin: strings.Repeat(big, 8)},
		{name: "much output", req: sandboxer.ExecRequest{Command: shell("head -c 5000000 /dev/zero")}, stdout: strings.Repeat("\x00", 5000000)},
		{name: "output and its end", req: sandboxer.ExecRequest{Command: shell("exec >&- 2>&-; sleep 0.1; exit 3")}, want: sandboxer.ExecResult{ExitCode: 3}},
		{name: "input after output ended", req: sandboxer.ExecRequest{Command: shell("exec >&- 2>&-; exit $(cat | wc -c)")}, stdin: "four", want: sandboxer.ExecResult{ExitCode: 4}},
		{name: "a script without a first line", req: sandboxer.ExecRequest{Command: shell("printf 'echo $0 $1' >s; chmod +x s; ./s a; rm s"), Dir: "/tmp"}, stdout: "./s a\n"},
		{name: "no permission", req: sandboxer.ExecRequest{Command: []string{"/etc/passwd"}}, want: sandboxer.ExecResult{ExitCode: 126}, stderr: "*"},
		{name: "a directory below home", req: sandboxer.ExecRequest{Command: shell("cd .. && basename $OLDPWD"), Dir: "./-"}, stdout: "-\n"},
		{name: "a child keeps the pipes", req: sandboxer.ExecRequest{Command: shell("sleep 2.5 & echo done")}, stdout: "done\n"},
	}
	if _, err := c.Output(t.Context(), "mkdir", "-p", "./-"); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			req := test.req
			req.Stdout, req.Stderr = &stdout, &stderr
			if test.stdin != "" {
				req.Stdin = strings.NewReader(test.stdin)
			}
			got, err := c.Exec(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if got.Duration <= 0 || got.Duration > 10*time.Second {
				t.Errorf("it took %v", got.Duration)
			}
			got.Duration = 0
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if stdout.String() != test.stdout {
				t.Errorf("stdout is %d bytes, %.200q; want %d bytes, %.200q", stdout.Len(), stdout.String(), len(test.stdout), test.stdout)
			}
			if test.stderr != "*" && stderr.String() != test.stderr {
				t.Errorf("stderr is %q, want %q", stderr.String(), test.stderr)
			}
		})
	}
}

func TestExecCancelEndsTheTree(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.WaitProcess("7101", 10*time.Second)
		s.WaitProcess("7103", 10*time.Second)
		cancel()
	}()
	_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: shell("trap '' TERM HUP INT; sleep 7101 & setsid sh -c 'sleep 7102 & setsid -f sleep 7103; wait' & wait")})
	if sandboxer.CodeOf(err) != sandboxer.Canceled {
		t.Errorf("error is %v, want Canceled", err)
	}
	if left := s.Processes("sleep 710"); len(left) > 0 {
		t.Errorf("left when Exec returned:\n%s", strings.Join(left, "\n"))
	}
	if _, err := c.Output(t.Context(), "true"); err != nil {
		t.Errorf("the connection is not usable any more: %v", err)
	}
}
