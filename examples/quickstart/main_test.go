//go:build linux || darwin

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// lines is how many lines a whole run prints at least: an interruption behind each of them is tried.
const lines = 11

// program builds the example once for all tests.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// repository is a small one whose command takes a moment and leaves a child behind.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho from the command\nsleep 60 </dev/null >/dev/null 2>&1 &\nsleep 0.2\necho >&2 to its standard error\n"
	if err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run.sh", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// launch starts the program with a home of its own and ends it with sig after the n-th line of output; n < 0: never.
func launch(t *testing.T, bin, home, repo string, n int, sig os.Signal) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, repo, "./run.sh")
	cmd.Env = []string{"HOME=" + home, "XDG_CACHE_HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		_ = cmd.Process.Signal(sig)
	}
	var all strings.Builder
	in := bufio.NewReader(out)
	for i := 1; ; i++ {
		line, err := in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		if i == n {
			_ = cmd.Process.Signal(sig)
		}
	}
	err = cmd.Wait()
	return all.String() + errs.String(), err
}

// nothingLeft looks for files and processes.
func nothingLeft(t *testing.T, home, after string) {
	t.Helper()
	var left []string
	_ = filepath.WalkDir(home, func(path string, _ os.DirEntry, _ error) error {
		if path != home && path != filepath.Join(home, "Library") && path != filepath.Join(home, "Library", "Caches") {
			left = append(left, path)
		}
		return nil
	})
	if len(left) > 0 {
		t.Errorf("%v are left; the run said:\n%s", left, after)
	}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, e := range environs {
		if text, err := os.ReadFile(e); err == nil && bytes.Contains(text, []byte(home)) {
			t.Errorf("process %s is left; the run said:\n%s", filepath.Base(filepath.Dir(e)), after)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	bin, repo, home := program(t), repository(t), t.TempDir()
	out, err := launch(t, bin, home, repo, -1, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"quote", "0.02925 USD", "created", "copied", "from the command", "to its standard error", "snapshot", "restored", "the same tree in both: sha256:", `"state": "ready"`} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("control sequences without a terminal:\n%q", out)
	}
	nothingLeft(t, home, out)
}

// TestInterrupt ends a run with Ctrl-C at each of its steps.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	bin, repo := program(t), repository(t)
	for n := range lines {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			out, err := launch(t, bin, home, repo, n, os.Interrupt)
			if n > 0 && n < 6 && err == nil {
				t.Errorf("the run was interrupted and reports success:\n%s", out)
			}
			nothingLeft(t, home, out)
		})
	}
}

// endsAt is a context that ends when it is looked at for the n-th time.
type endsAt struct {
	context.Context
	end context.CancelFunc
	n   atomic.Int64
}

func (c *endsAt) look() context.Context {
	if c.n.Add(-1) < 0 {
		c.end()
	}
	return c.Context
}

func (c *endsAt) Err() error            { return c.look().Err() }
func (c *endsAt) Done() <-chan struct{} { return c.look().Done() }

// TestInterruptAfterKill: a run that follows a killed one removes what that one left, and the record of it after that, also
// when it is interrupted before it has begun, or while it looks. The record went first, and the processes stayed.
func TestInterruptAfterKill(t *testing.T) {
	t.Parallel()
	bin, repo := program(t), repository(t)
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			said, _ := launch(t, bin, home, repo, 8, syscall.SIGKILL)
			if !strings.Contains(said, "from the command") {
				t.Fatalf("the first run was killed before its command ran:\n%s", said)
			}
			kept, err := filepath.Glob(filepath.Join(home, "sandboxer-quickstart"))
			if len(kept) == 0 { // macOS
				kept, err = filepath.Glob(filepath.Join(home, "Library", "Caches", "sandboxer-quickstart"))
			}
			if err != nil || len(kept) != 1 {
				t.Fatalf("the first run kept %q, %v", kept, err)
			}
			inner, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctx := &endsAt{Context: inner, end: cancel}
			ctx.n.Store(int64(n))
			var out bytes.Buffer
			err = run(ctx, &out, kept[0], []string{repo, "./run.sh"})
			if sandboxer.CodeOf(err) != sandboxer.Canceled {
				t.Errorf("the run was interrupted and returns %v", err)
			}
			nothingLeft(t, home, out.String())
		})
	}
}

// TestKill ends a run with SIGKILL at each of its steps; the next run finds what it left, says so, and removes it.
func TestKill(t *testing.T) {
	t.Parallel()
	bin, repo := program(t), repository(t)
	for n := range lines {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			_, _ = launch(t, bin, home, repo, n, syscall.SIGKILL)
			out, err := launch(t, bin, home, repo, -1, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if n > 3 && n < 7 && !strings.Contains(out, "an earlier run was killed") {
				t.Errorf("a sandbox was left, and the next run did not say so:\n%s", out)
			}
			nothingLeft(t, home, out)
		})
	}
}
