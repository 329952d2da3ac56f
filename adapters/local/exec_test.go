//go:build linux || darwin

package local_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

func TestExecRefusesWhatNeverRan(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	ws := workspace(t, ext, box)
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "garbage": 0o755, "orphan": 0o755} {
		body := "\x00\x01\x02"
		if name == "orphan" {
			body = "#!/no/such/interpreter\n"
		}
		if err := os.WriteFile(filepath.Join(ws, name), []byte(body), mode); err != nil {
			t.Fatal(err)
		}
	}
	sh := []string{"sh", "-c", "true"}
	for name, tc := range map[string]struct {
		req  sandboxer.ExecRequest
		code sandboxer.Code
		says string
	}{
		"no command":          {sandboxer.ExecRequest{}, sandboxer.InvalidArgument, "empty"},
		"empty program":       {sandboxer.ExecRequest{Command: []string{""}}, sandboxer.InvalidArgument, "empty"},
		"NUL in an argument":  {sandboxer.ExecRequest{Command: []string{"echo", "a\x00b"}}, sandboxer.InvalidArgument, "argument 1"},
		"NUL in a value":      {sandboxer.ExecRequest{Command: sh, Env: map[string]string{"A": "secret\x00"}}, sandboxer.InvalidArgument, `"A"`},
		"= in a name":         {sandboxer.ExecRequest{Command: sh, Env: map[string]string{"A=B": "c"}}, sandboxer.InvalidArgument, `"A=B"`},
		"our own variable":    {sandboxer.ExecRequest{Command: sh, Env: map[string]string{"SANDBOXER_EXEC": "x"}}, sandboxer.InvalidArgument, "SANDBOXER_EXEC"},
		"a service":           {sandboxer.ExecRequest{Command: sh, Service: "db"}, sandboxer.InvalidArgument, `"db"`},
		"negative timeout":    {sandboxer.ExecRequest{Command: sh, Timeout: -1}, sandboxer.InvalidArgument, "negative"},
		"directory that left": {sandboxer.ExecRequest{Command: sh, Dir: "a/../.."}, sandboxer.InvalidArgument, "leaves"},
		"absolute elsewhere":  {sandboxer.ExecRequest{Command: sh, Dir: "/etc"}, sandboxer.InvalidArgument, "outside"},
		"no directory":        {sandboxer.ExecRequest{Command: sh, Dir: "missing"}, sandboxer.NotFound, "missing"},
		"file as directory":   {sandboxer.ExecRequest{Command: sh, Dir: "plain"}, sandboxer.InvalidArgument, "plain"},
		"no such program":     {sandboxer.ExecRequest{Command: []string{"no-such-program"}}, sandboxer.NotFound, "no-such-program"},
		"no such path":        {sandboxer.ExecRequest{Command: []string{"./missing"}}, sandboxer.NotFound, "missing"},
		"not executable":      {sandboxer.ExecRequest{Command: []string{"./plain"}}, sandboxer.PermissionDenied, "plain"},
		"a directory":         {sandboxer.ExecRequest{Command: []string{"./"}}, sandboxer.PermissionDenied, "directory"},
		"no program at all":   {sandboxer.ExecRequest{Command: []string{"./garbage"}}, sandboxer.InvalidArgument, "garbage"},
		"no interpreter":      {sandboxer.ExecRequest{Command: []string{"./orphan"}}, sandboxer.NotFound, "interpreter"},
		"other PATH":          {sandboxer.ExecRequest{Command: []string{"sh"}, Env: map[string]string{"PATH": "/nowhere"}}, sandboxer.NotFound, "/nowhere"},
		"too much":            {sandboxer.ExecRequest{Command: []string{"true", strings.Repeat("x", 8<<20)}}, sandboxer.InvalidArgument, "larger"},
		"impossible terminal": {sandboxer.ExecRequest{Command: sh, TTY: &sandboxer.TTY{Cols: 1 << 20, Rows: 1}}, sandboxer.InvalidArgument, "columns"},
	} {
		res, err := ext.Exec(t.Context(), box, tc.req)
		if !errors.Is(err, tc.code) || !sandboxer.IsRefused(err) || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: %+v, %v (refused: %v); want %s saying %q", name, res, err, sandboxer.IsRefused(err), tc.code, tc.says)
		}
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: the value of a variable is in the error: %v", name, err)
		}
	}
}

// TestExecOfWhatIsStillOpen: a program that is open for writing for a moment longer is waited for. One that had just been
// copied in failed in 112 of 2543 commands with "text file busy", while others started beside it: a child has the descriptor
// that it was written through until it executes its own program.
func TestExecOfWhatIsStillOpen(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	program, err := os.OpenFile(filepath.Join(workspace(t, ext, box), "program"), os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := program.WriteString("#!/bin/sh\ncat; echo out; echo err >&2\n"); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = program.Close() })
	var out, errs strings.Builder
	res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{
		Command: []string{"./program"}, Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs,
	})
	if err != nil || res.Err() != nil || out.String() != "in\nout\n" || errs.String() != "err\n" {
		t.Errorf("Exec = %+v, %v; wrote %q and %q", res, err, out.String(), errs.String())
	}
}

func TestExecEnvironmentIsBuiltAnew(t *testing.T) {
	t.Setenv("KEPT_BY_TEST", "kept")
	t.Setenv("DROPPED_BY_TEST", "dropped")
	ext := newExtension(t, tempRoot(t), sandboxer.Inputs{"keep_env": []any{"KEPT_BY_TEST", "UNSET_BY_TEST"}, "path": "/usr/bin:/bin"})
	box := sandbox(t, ext, func(r *sandboxer.ProvisionRequest) {
		r.Inputs = sandboxer.Inputs{"env": map[string]any{"FROM_INPUT": "1", "OVERRIDDEN": "input"}}
	})
	ws := workspace(t, ext, box)
	if err := os.Mkdir(filepath.Join(ws, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"/usr/bin/env"}, Dir: "sub", Env: map[string]string{"OVERRIDDEN": "request"}, Stdout: &out})
	if err != nil || res.Err() != nil {
		t.Fatal(err, res.Err())
	}
	got := map[string]string{}
	for line := range strings.Lines(out.String()) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.HasPrefix(k, "SANDBOXER_") || strings.HasPrefix(k, "__CF") {
			continue
		}
		got[k] = v
	}
	top := filepath.Dir(ws)
	want := map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": top + "/home", "TMPDIR": top + "/tmp", "LANG": "C.UTF-8", "PWD": ws + "/sub",
		"KEPT_BY_TEST": "kept", "FROM_INPUT": "1", "OVERRIDDEN": "request",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if out := shell(t, ext, box, `cd; pwd; cd "$TMPDIR"; pwd; umask`); !strings.HasPrefix(out, top+"/home\n"+top+"/tmp\n") {
		t.Errorf("home and tmp are %q", out)
	}
	for _, dir := range []string{ws, ws + "/sub", top + "/home"} {
		if _, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"true"}, Dir: dir}); err != nil {
			t.Errorf("in %s: %v", dir, err)
		}
	}
}

func TestExecLosesNothingOfAFlood(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	const size = 100 << 20
	sum := sha256.New()
	var n counter
	res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", `head -c 104857600 /dev/zero; echo end >&2`}, Stdout: io.MultiWriter(sum, &n), Stderr: &bytes.Buffer{},
	})
	if err != nil || res.Err() != nil {
		t.Fatal(err, res.Err())
	}
	if int64(n) != size {
		t.Errorf("%d bytes of %d arrived", n, size)
	}
	want := sha256.New()
	if _, err := io.CopyN(want, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Error("the bytes that arrived are not those that were written")
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestExecDeliversWhatWasWrittenLast repeats an exit right after a write that fills the pipe, with a background child that
// holds it open: the moment in which output gets lost.
func TestExecDeliversWhatWasWrittenLast(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	for _, script := range []string{
		`(sleep 60 &) ; head -c 65536 /dev/zero | tr '\0' x; echo last`,
		`head -c 200000 /dev/zero | tr '\0' x; echo last`,
		`(while :; do echo noise >&2; sleep 0.001; done &) ; head -c 4096 /dev/zero | tr '\0' x; echo last`,
	} {
		for range 10 {
			var out bytes.Buffer
			res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Stdout: &out, Stderr: io.Discard})
			if err != nil || res.Err() != nil {
				t.Fatal(err, res.Err())
			}
			if !strings.HasSuffix(out.String(), "xlast\n") || strings.Trim(out.String(), "x") != "last\n" {
				t.Fatalf("%s: %d bytes arrived, ending in %q", script, out.Len(), out.String()[max(0, out.Len()-10):])
			}
		}
	}
}

func TestExecOneWriterForBothStreams(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	w := &exclusive{}
	res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", `for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo $i >&2; done`}, Stdout: w, Stderr: w})
	if err != nil || res.Err() != nil {
		t.Fatal(err, res.Err())
	}
	if got := strings.Fields(w.String()); strings.Join(got, "") != "112233445566778899" {
		t.Errorf("in the order of writing: %q", got)
	}
	if w.clashes.Load() > 0 {
		t.Error("the writer was called by two goroutines at once")
	}
}

type exclusive struct {
	bytes.Buffer
	busy, clashes atomic.Int32
}

func (e *exclusive) Write(p []byte) (int, error) {
	if e.busy.Add(1) > 1 {
		e.clashes.Add(1)
	}
	runtime.Gosched()
	defer e.busy.Add(-1)
	return e.Buffer.Write(p)
}

func TestExecTimeoutKillsTheTree(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	for name, script := range map[string]string{
		"ignores SIGTERM and forks": `trap '' TERM HUP INT; (trap '' TERM; sleep 100) & (setsid sh -c "trap '' TERM; sleep 100" &) ; echo up; while :; do sleep 100; done`,
		"forks without end":         `echo up; while :; do (sleep 100 &); sleep 0.01; done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := sandbox(t, ext)
			other := shell(t, ext, box, `sleep 90 >/dev/null 2>&1 & echo $!`) // of another command: is to stay
			var out bytes.Buffer
			res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Timeout: time.Second, Stdout: &out})
			if err != nil {
				t.Fatal(err)
			}
			if !res.TimedOut || res.Signal != "SIGKILL" || res.ExitCode != -1 || res.Duration < time.Second || out.String() != "up\n" {
				t.Errorf("result %+v, output %q", res, out.String())
			}
			if left := processesOf(t, box); runtime.GOOS == "linux" && (len(left) != 1 || !strings.HasPrefix(left[0], strings.TrimSpace(other)+" ")) {
				t.Errorf("running afterwards: %q; only %s should be", left, other)
			}
		})
	}
}

func TestExecCancelledAtAnyMomentLeavesNothing(t *testing.T) {
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	files := openFiles(t)
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*50*time.Microsecond)
		req := sandboxer.ExecRequest{Command: []string{"sh", "-c", `(setsid sleep 100 &); sleep 100 & while :; do echo x; done`}, Stdin: strings.NewReader("input"), Stdout: io.Discard, Stderr: &bytes.Buffer{}}
		if i%3 == 0 {
			req.TTY = &sandboxer.TTY{Resize: make(chan sandboxer.WindowSize)}
		}
		_, err := ext.Exec(ctx, box, req)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("try %d: %v", i, err)
		}
	}
	if left := processesOf(t, box); len(left) > 0 {
		t.Errorf("running afterwards: %q", left)
	}
	eventually(t, "the closing of all files", func() bool { return openFiles(t) <= files })
}

// stuck blocks in Write until it is released.
type stuck struct{ free chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.free; return len(p), nil }
func (s stuck) Read([]byte) (int, error)    { <-s.free; return 0, io.EOF }

// endless is a Stdin without an end that notes whether it was read after its Exec had returned.
type endless struct{ returned, late atomic.Bool }

func (e *endless) Read(p []byte) (int, error) {
	if e.returned.Load() {
		e.late.Store(true)
	}
	p[0] = 'x'
	return 1, nil
}

// TestExecReadsNoStdinAfterwards: when Exec has returned, the reader is the caller's again. Of 2837 commands that took none of
// their input, 86 had a Read begin afterwards.
func TestExecReadsNoStdinAfterwards(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	var readers []*endless
	for range 300 {
		r := &endless{}
		readers = append(readers, r)
		if _, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"true"}, Stdin: r}); err != nil {
			t.Fatal(err)
		}
		r.returned.Store(true)
	}
	late := 0
	for _, r := range readers {
		if r.late.Load() {
			late++
		}
	}
	if late > 0 {
		t.Errorf("%d of %d commands had their Stdin read after Exec had returned", late, len(readers))
	}
}

func TestExecWithCallersThatBlock(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	s := stuck{make(chan struct{})}
	defer close(s.free)
	if res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"true"}, Stdin: s}); err != nil || res.Err() != nil {
		t.Errorf("with a Stdin that blocks: %+v, %v", res, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ext.Exec(ctx, box, sandboxer.ExecRequest{Command: []string{"echo", "x"}, Stdout: s}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a Stdout that blocks: %v", err)
	}
	if _, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", "yes"}, Stdout: s, Timeout: 200 * time.Millisecond}); err != nil {
		t.Errorf("with a Stdout that blocks and a timeout: %v", err)
	}
	if left := processesOf(t, box); len(left) > 0 {
		t.Errorf("running afterwards: %q", left)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }
func (b broken) Read([]byte) (int, error)  { return 0, b.err }

func TestExecEndsWhenTheCallerFails(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	boom := errors.New("boom")
	forever := []string{"sh", "-c", `sleep 100 & echo x; echo x >&2; trap '' PIPE; while :; do sleep 1; done`}
	for name, req := range map[string]sandboxer.ExecRequest{
		"stdout":   {Command: forever, Stdout: broken{boom}},
		"stderr":   {Command: forever, Stderr: broken{boom}},
		"stdin":    {Command: forever, Stdin: broken{boom}},
		"terminal": {Command: forever, Stdout: broken{boom}, TTY: &sandboxer.TTY{}},
		"at exit":  {Command: []string{"echo", "x"}, Stdout: broken{boom}},
	} {
		if _, err := ext.Exec(t.Context(), box, req); !errors.Is(err, boom) || sandboxer.IsRefused(err) {
			t.Errorf("%s: %v, want %v", name, err, boom)
		}
	}
	if left := processesOf(t, box); len(left) > 0 {
		t.Errorf("running afterwards: %q", left)
	}
}

func TestBackgroundProcessesOutliveTheirCommand(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	at := filepath.Join(workspace(t, ext, box), "count")
	shell(t, ext, box, `(i=0; while :; do i=$((i+1)); echo $i; echo $i >count.new; mv count.new count; sleep 0.01; done) & echo started`)
	first, second := "", ""
	eventually(t, "output of the background process", func() bool {
		b, _ := os.ReadFile(at)
		first = string(b)
		return first != ""
	})
	// It writes to the pipe of the command that started it, which must not end it.
	eventually(t, "more of it", func() bool {
		b, _ := os.ReadFile(at)
		second = string(b)
		return second != "" && second != first
	})
	teardown(t, ext, box)
	if left := processesOf(t, box); len(left) > 0 {
		t.Errorf("running after Teardown: %q", left)
	}
}

func TestExecSignals(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	for script, want := range map[string]sandboxer.ExecResult{
		"kill -TERM $$":  {ExitCode: -1, Signal: "SIGTERM"},
		"kill -KILL $$":  {ExitCode: -1, Signal: "SIGKILL"},
		"kill -ABRT $$":  {ExitCode: -1, Signal: "SIGABRT"},
		"exit 255":       {ExitCode: 255},
		"sh -c 'exit 3'": {ExitCode: 3},
	} {
		res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}})
		res.Duration = 0
		if diff := cmp.Diff(want, res); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", script, err, diff)
		}
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	run := func(tty *sandboxer.TTY, stdin io.Reader, script string) string {
		t.Helper()
		var out bytes.Buffer
		res, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, TTY: tty, Stdin: stdin, Stdout: &out, Timeout: 20 * time.Second})
		if err != nil || res.Err() != nil {
			t.Errorf("%s: %v, %v, output %q", script, err, res.Err(), out.String())
		}
		return strings.ReplaceAll(out.String(), "\r\n", "\n")
	}
	if got := run(&sandboxer.TTY{}, nil, `tty >/dev/null && stty size && echo $TERM`); got != "24 80\nxterm-256color\n" {
		t.Errorf("a terminal by default: %q", got)
	}
	if got := run(&sandboxer.TTY{Cols: 132, Rows: 50, Term: "vt100"}, nil, `stty size; echo $TERM`); got != "50 132\nvt100\n" {
		t.Errorf("a terminal of its own size: %q", got)
	}
	if got := run(&sandboxer.TTY{}, strings.NewReader("one\ntwo"), `stty -echo; cat; echo; echo end`); !strings.HasSuffix(got, "end\n") || !strings.Contains(got, "two") {
		t.Errorf("the end of the input: %q", got)
	}
	sizes := make(chan sandboxer.WindowSize, 1)
	sizes <- sandboxer.WindowSize{Cols: 101, Rows: 31}
	if got := run(&sandboxer.TTY{Resize: sizes}, nil, `until [ "$(stty size)" = "31 101" ]; do sleep 0.01; done; echo resized`); got != "resized\n" {
		t.Errorf("another size: %q", got)
	}
	for range 5 {
		if got := run(&sandboxer.TTY{}, nil, `stty -onlcr; head -c 100000 /dev/zero | tr '\0' x; echo; echo last`); len(got) != 100006 || !strings.HasSuffix(got, "x\nlast\n") {
			t.Fatalf("%d bytes arrived, ending in %q", len(got), got[max(0, len(got)-20):])
		}
	}
}
