package sshx_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// What a command leaves in the background keeps its output to itself, and goes on.
func TestRunnerAndWhatStaysInTheBackground(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	onRunner(t, c)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			var out bytes.Buffer
			command := "echo begun; (trap '' PIPE; while [ ! -e go ]; do sleep 0.05; done; echo stray; echo >gone" + strconv.Itoa(i) + ") &"
			if i%3 == 0 {
				command = "echo begun; ( (while [ ! -e go ]; do sleep 0.05; done; echo >gone" + strconv.Itoa(i) + ") >/dev/null 2>&1 & )"
			}
			got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell(command), Dir: s.Dir, Stdout: &out})
			if err != nil || got.ExitCode != 0 || out.String() != "begun\n" {
				t.Errorf("%+v, %v, %q", got, err, out.String())
			}
			for range 3 {
				out.Reset()
				if _, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"echo", "next"}, Stdout: &out, Stderr: &out}); err != nil || out.String() != "next\n" {
					t.Errorf("%v, %q", err, out.String())
				}
			}
		})
	}
	wg.Wait()
	if _, err := c.Output(t.Context(), "sh", "-c", "cd '"+s.Dir+"'; touch go; until [ $(ls gone* | wc -l) -eq 12 ]; do sleep 0.05; done"); err != nil {
		t.Error(err)
	}
}

// A cancelled command ends with its whole tree, and its runner runs the next.
func TestRunnerAfterACancelledCommand(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	onRunner(t, c)
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var out lockedBuffer
		done := make(chan error, 1)
		go func() {
			_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: shell("echo begun; " + fmt.Sprintf(tree, 7810+i)), Stdout: &out})
			done <- err
		}()
		if i < 2 { // and once at any moment
			s.WaitProcess(fmt.Sprintf("sleep %d3", 7810+i), 20*time.Second)
			out.await(t, "begun")
		}
		cancel()
		if err := within(t, 10*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Canceled || strings.Contains(err.Error(), "not confirmed") {
			t.Errorf("error is %v, want Canceled, and its end confirmed", err)
		}
		if left := s.Processes("sleep 781"); len(left) > 0 {
			t.Errorf("left when Exec returned:\n%s", strings.Join(left, "\n"))
		}
		if i == 0 && parent(t, c) != "perl" {
			t.Error("the runner has gone")
		}
		usable(t, c)
	}
}

// Sessions are for those who need one: a runner gives its own.
func TestRunnersGiveWay(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, "MaxSessions 2")
	cfg := config()
	cfg.MaxConns = 2
	c := connect(t, s, cfg)
	onRunner(t, c)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			var out bytes.Buffer
			req := sandboxer.ExecRequest{Command: shell("sleep 0.05; printf %s " + strconv.Itoa(i)), Stdout: &out}
			if i%2 == 0 {
				req.TTY = &sandboxer.TTY{}
			}
			if got, err := c.Exec(t.Context(), req); err != nil || got.ExitCode != 0 || out.String() != strconv.Itoa(i) {
				t.Errorf("%d: %+v, %v, %q", i, got, err, out.String())
			}
		})
	}
	wg.Wait()
	usable(t, c)
}

func TestRunnerThatIsKilled(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	onRunner(t, c)
	done := running(t.Context(), s, c, 7820)
	for _, p := range s.Processes("perl") {
		if pid, line, _ := strings.Cut(p, " "); strings.HasPrefix(line, "perl") {
			n, _ := strconv.Atoi(pid)
			if p, err := os.FindProcess(n); err == nil {
				_ = p.Kill()
			}
		}
	}
	if err := within(t, 10*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Unavailable || sandboxer.IsRefused(err) {
		t.Errorf("error is %v, want Unavailable and an unknown fate", err)
	}
	s.WaitNoProcess("sleep 7820", 10*time.Second)
	usable(t, c)
	onRunner(t, c)
}

// A command that gave itself a new environment is found all the same.
func TestClearedEnvironment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		runner bool
		end    func(*sshtest.Server, *sshtest.Proxy, context.CancelFunc)
	}{
		{"cancelled in a session", false, func(_ *sshtest.Server, _ *sshtest.Proxy, cancel context.CancelFunc) { cancel() }},
		{"cancelled on a runner", true, func(_ *sshtest.Server, _ *sshtest.Proxy, cancel context.CancelFunc) { cancel() }},
		{"cut off in a session", false, func(_ *sshtest.Server, p *sshtest.Proxy, _ context.CancelFunc) { p.Reset() }},
		{"cut off on a runner", true, func(_ *sshtest.Server, p *sshtest.Proxy, _ context.CancelFunc) { p.Reset() }},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t)
			if !test.runner {
				withoutPerl(t, s)
			}
			p, c := behind(t, s, config())
			if test.runner {
				onRunner(t, c)
			} else {
				usable(t, c)
			}
			number := fmt.Sprintf("7.%d%d", i, os.Getpid())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: []string{"env", "-i", "/bin/sh", "-c", "/bin/sleep 1" + number + " & exec /bin/sleep 2" + number}})
				done <- err
			}()
			s.WaitFind("sleep 1"+number, 1, 20*time.Second)
			s.WaitFind("sleep 2"+number, 1, 20*time.Second)
			test.end(s, p, cancel)
			if err := within(t, 20*time.Second, done); err == nil {
				t.Error("there is no error")
			}
			s.WaitFind("sleep 1"+number, 0, 20*time.Second)
			s.WaitFind("sleep 2"+number, 0, 20*time.Second)
		})
	}
}

// Input that nobody takes, or that never ends, keeps no runner from the next command.
func TestRunnerAndInput(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	onRunner(t, c)
	for range 4 {
		r, w := io.Pipe()
		var out bytes.Buffer
		got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("read x; echo got $x"), Stdin: io.MultiReader(strings.NewReader("line\nmore\n"), r), Stdout: &out})
		if err != nil || got.ExitCode != 0 || out.String() != "got line\n" {
			t.Errorf("%+v, %v, %q", got, err, out.String())
		}
		go func() { _, _ = w.Write(make([]byte, 1<<20)); _ = w.Close() }() // nobody reads it any more
		out.Reset()
		data := noise(3 << 20)
		got, err = c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &out})
		if err != nil || got.ExitCode != 0 || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%+v, %v, %d bytes", got, err, out.Len())
		}
		_ = r.Close()
	}
	if parent(t, c) != "perl" {
		t.Error("the runner has gone")
	}
}
