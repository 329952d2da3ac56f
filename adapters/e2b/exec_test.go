//go:build unix

package e2b_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// ending is how a command ends.
type ending struct {
	Exit     int
	Signal   string
	Out, Err string
}

// TestAStreamCutAtEachByte cuts the answer of an exec after 0, 1, 2 … bytes: either everything arrived, or an error says
// that it did not. There is no third way, and never a wrong exit code.
func TestAStreamCutAtEachByte(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		want   ending
		step   int
		opts   e2btest.Options
	}{
		"an exit code":         {`printf out; printf err >&2; exit 3`, ending{3, "", "out", "err"}, 1, e2btest.Options{}},
		"success":              {`printf out; printf err >&2`, ending{0, "", "out", "err"}, 7, e2btest.Options{HoldPipes: true}},
		"a signal":             {`printf out; kill -9 $$`, ending{-1, "SIGKILL", "out", ""}, 7, e2btest.Options{}},
		"the end of the shell": {`printf out; kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)`, ending{-1, "SIGKILL", "out", ""}, 7, e2btest.Options{HoldPipes: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const workers = 8
			var cuts atomic.Int64
			t.Run("cut", func(t *testing.T) {
				for w := range workers {
					t.Run(fmt.Sprint(w), func(t *testing.T) {
						t.Parallel()
						s := start(t, c.opts)
						r := newRig(t, s, nil)
						target := r.sandbox(t)
						if _, err := r.WaitReady(t.Context(), target); err != nil {
							t.Fatal(err)
						}
						full := false
						for at := w * c.step; !full; at += workers * c.step {
							if at > 5000 {
								t.Fatal("the stream never ends")
							}
							full = cutAt(t, r, target, at, c.script, c.want)
							if !full {
								cuts.Add(1)
							}
						}
						if !cutAt(t, r, target, 100000, c.script, c.want) {
							t.Error("a stream that was not cut is an error")
						}
					})
				}
			})
			if n := int(cuts.Load()); n < 100/c.step {
				t.Errorf("only %d cuts were errors", n)
			}
		})
	}
}

// cutAt runs a command whose answer is cut after that many bytes and reports whether all of it arrived.
func cutAt(t *testing.T, r *rig, target sandboxer.Target, at int, script string, want ending) bool {
	t.Helper()
	f := e2btest.Fault{Match: "POST /process.Process/Start", Times: 1, CutAt: at}
	if at == 0 {
		f.CutAt = -1
	}
	r.s.Fail(f)
	res, out, errs, err := r.sh(t.Context(), target, script)
	r.s.Heal()
	if err == nil {
		if got := (ending{res.ExitCode, res.Signal, out, errs}); got != want {
			t.Fatalf("cut after %d bytes, and no error: %s", at, cmp.Diff(want, got))
		}
		return true
	}
	if code := sandboxer.CodeOf(err); code != sandboxer.Unavailable && code != sandboxer.Unknown {
		t.Fatalf("cut after %d bytes: %v", at, err)
	}
	if sandboxer.IsRefused(err) {
		t.Fatalf("cut after %d bytes: it is said that nothing was done: %v", at, err)
	}
	return false
}

// TestTheShellIsKilled: a command that kills the shells that it runs below, as "killall sh" does, is not taken for one that
// succeeded, and does not run on.
func TestTheShellIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it finds its parents in /proc")
	}
	for name, opts := range map[string]e2btest.Options{"newest": {}, "pipes held": {HoldPipes: true}} {
		s := start(t, opts)
		r := newRig(t, s, nil)
		target := r.sandbox(t)
		mark := "mark-" + string(sandboxer.NewID())
		res, _, _, err := r.sh(t.Context(), target, `kill -9 $PPID; sleep 1; : `+mark)
		wantCode(t, name+": the inner shell", err, sandboxer.Unknown, false)
		if left := running(t, mark); len(left) > 0 || err == nil {
			t.Errorf("%s: it ended as %+v, and these run on: %q", name, res, left)
		}
		res, _, _, err = r.sh(t.Context(), target, `kill -9 $(cut -d' ' -f4 /proc/$PPID/stat) $PPID; sleep 1; : `+mark)
		if err != nil || res.Signal != "SIGKILL" || res.ExitCode != -1 {
			t.Errorf("%s: both shells: %+v, %v", name, res, err)
		}
		if left := running(t, mark); len(left) > 0 {
			t.Errorf("%s: these run on: %q", name, left)
		}
	}
}

func TestExecResults(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]e2btest.Options{"newest": {}, "pipes held": {HoldPipes: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, opts)
			r := newRig(t, s, nil)
			target := r.sandbox(t)
			type result struct {
				Exit     int
				Signal   string
				Out, Err string
			}
			big := strings.Repeat("x", 3<<20)
			for _, c := range []struct {
				script string
				want   result
			}{
				{"true", result{}},
				{"exit 1", result{Exit: 1}},
				{"exit 255", result{Exit: 255}},
				{"exit 137", result{Exit: 137}},
				{"no-such-command-anywhere", result{Exit: 127, Err: "sh: 1: no-such-command-anywhere: not found\n"}},
				{"kill -9 $$", result{Exit: -1, Signal: "SIGKILL"}},
				{"kill -TERM $$", result{Exit: -1, Signal: "SIGTERM"}},
				{"kill -INT $$", result{Exit: -1, Signal: "SIGINT"}},
				{"printf a; printf b >&2", result{Out: "a", Err: "b"}},
				{"sleep 30 & exit 4", result{Exit: 4}},
				{"(sleep 0.2; echo late) & echo now", result{Out: "now\n"}},
				{"head -c 3145728 /dev/zero | tr '\\0' x", result{Out: big}},
				{`printf '\036abc:0:0;'`, result{Out: "\x1eabc:0:0;"}},
			} {
				res, out, errs, err := r.sh(t.Context(), target, c.script)
				if err != nil {
					t.Errorf("%s: %v", c.script, err)
					continue
				}
				got := result{res.ExitCode, res.Signal, out, errs}
				if c.want.Exit == 127 {
					got.Err = c.want.Err // every shell has its own words
				}
				if got != c.want {
					t.Errorf("%s: %s", c.script, cmp.Diff(c.want, got))
				}
			}
		})
	}
}

// slow takes what is written with a delay, as a client far away does.
type slow struct{ n int }

func (w *slow) Write(p []byte) (int, error) {
	<-time.After(time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

func TestASlowReaderLosesNothingOrIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	const size = 20 << 20
	w := &slow{}
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}, Stdout: w})
	if err == nil && (w.n != size || res.ExitCode != 0) {
		t.Errorf("%d of %d bytes arrived, exit code %d, and no error", w.n, size, res.ExitCode)
	}
	if err != nil {
		t.Errorf("the output was not too slow for the two seconds of grace: %v", err)
	}
}

func TestNothingRunsOnAfterTheTimeLimit(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Log("without /proc only the tree below the command is ended, not what left it")
	}
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	mark := "mark-" + string(sandboxer.NewID())
	script := `sh -c 'trap "" TERM; sleep 300; : ` + mark + `' & setsid sh -c 'sleep 300; : ` + mark + `' & sleep 300; : ` + mark
	for what, run := range map[string]func() error{
		"Timeout": func() error {
			res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Timeout: 300 * time.Millisecond})
			if err != nil || !res.TimedOut || res.Signal != "SIGKILL" {
				return fmt.Errorf("got %+v, %w", res, err)
			}
			return nil
		},
		"context": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := as[sandboxer.Executor](t, r).Exec(ctx, target, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}})
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if runtime.GOOS == "linux" {
			if left := running(t, mark); len(left) > 0 {
				t.Errorf("%s: these run on: %q", what, left)
			}
		}
	}
}

// running returns the command lines that contain mark.
func running(t *testing.T, mark string) (out []string) {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		line, err := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if err == nil && bytes.Contains(line, []byte(mark)) {
			out = append(out, string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
		}
	}
	return out
}

func TestStdin(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	x := as[sandboxer.Executor](t, r)
	long := strings.Repeat("0123456789abcdef", 20000)
	var out bytes.Buffer
	res, err := x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: strings.NewReader(long), Stdout: &out})
	if err != nil || res.ExitCode != 0 || out.String() != long {
		t.Errorf("%d of %d bytes came back, exit code %d, %v", out.Len(), len(long), res.ExitCode, err)
	}
	pr, pw := io.Pipe()
	defer pw.Close()
	if res, err := x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"true"}, Stdin: pr}); err != nil || res.ExitCode != 0 {
		t.Errorf("with an input that blocks: %+v, %v", res, err)
	}
	broken := errors.New("the disk broke")
	_, err = x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: io.MultiReader(strings.NewReader("x"), &failing{broken})})
	if !errors.Is(err, broken) {
		t.Errorf("with an input that fails: %v", err)
	}
	_, err = x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", "while :; do echo y; done"}, Stdout: &failing{broken}})
	if !errors.Is(err, broken) {
		t.Errorf("with an output that fails: %v", err)
	}
	s.Fail(e2btest.Fault{Match: "POST /process.Process/SendInput", Times: 1, Lose: true})
	_, err = x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: strings.NewReader(long)})
	if sandboxer.CodeOf(err) != sandboxer.Unavailable {
		t.Errorf("where a part of the input may be lost: %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error)  { return 0, f.err }
func (f *failing) Write([]byte) (int, error) { return 0, f.err }

// lines collects output and says when a line was seen.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	want string
	seen chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.want != "" && strings.Contains(l.text.String(), l.want) {
		l.want = ""
		close(l.seen)
	}
	return len(p), nil
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	out := &lines{want: "40 120", seen: make(chan struct{})}
	resize := make(chan sandboxer.WindowSize, 1)
	pr, pw := io.Pipe()
	go func() {
		<-out.seen
		resize <- sandboxer.WindowSize{Cols: 90, Rows: 33}
		for { // until the command has seen the new size, and ends
			if _, err := io.WriteString(pw, "\n"); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", `test -t 0 && test -t 1 && echo $TERM; stty size; while read l; do [ "$(stty size)" = "33 90" ] && exit 7; done`},
		Stdin:   pr, Stdout: out, Timeout: 20 * time.Second,
		TTY: &sandboxer.TTY{Term: "vt100", Cols: 120, Rows: 40, Resize: resize},
	})
	_ = pr.Close()
	if err != nil || res.ExitCode != 7 || !strings.HasPrefix(out.text.String(), "vt100\r\n40 120\r\n") {
		t.Errorf("%+v, %v, %q", res, err, out.text.String())
	}
}

func TestExecArguments(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	x := as[sandboxer.Executor](t, r)
	for name, req := range map[string]sandboxer.ExecRequest{
		"empty":   {},
		"service": {Command: []string{"true"}, Service: "db"},
		"NUL":     {Command: []string{"echo", "a\x00b"}},
		"env":     {Command: []string{"true"}, Env: map[string]string{"A=B": "c"}},
	} {
		_, err := x.Exec(t.Context(), target, req)
		wantCode(t, name, err, sandboxer.InvalidArgument, true)
	}
	_, err := x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"true"}, Dir: "no/such/dir"})
	wantCode(t, "missing directory", err, sandboxer.InvalidArgument, true)

	for _, args := range [][]string{{"exit", "3"}, {"cd", "/"}, {"a=b"}, {"export", "x"}} {
		res, err := x.Exec(t.Context(), target, sandboxer.ExecRequest{Command: args})
		if err != nil || res.ExitCode != 127 {
			t.Errorf("%q was taken for a word of the shell: %+v, %v", args, res, err)
		}
	}
	nasty := []string{"", " ", "'", `"`, `\`, "$(exit 1)", "`x`", "*", "a\nb\n", "\x1b[0m", "ü☃", "\xff\xfe\x80", "%s%b\\0101", "-n", "\n\n"}
	var out bytes.Buffer
	res, err := x.Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: append([]string{"sh", "-c", `printf '%s\0' "$@" "$V"`, "sh"}, nasty...), Env: map[string]string{"V": "v\xff\n"}, Stdout: &out,
	})
	want := strings.Join(append(nasty, "v\xff\n"), "\x00") + "\x00"
	if err != nil || res.ExitCode != 0 || out.String() != want {
		t.Errorf("%+v, %v: %s", res, err, cmp.Diff(want, out.String()))
	}
}
