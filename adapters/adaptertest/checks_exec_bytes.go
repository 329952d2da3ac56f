package adaptertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// flood is how much output is more than any buffer on the way.
const flood = 10 << 20

// noise returns bytes that compress badly and repeat never.
func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("adaptertest"))).Read(out) // never fails
	return out
}

// everyByte has all values, in an order that no text has, and ends without a line end.
func everyByte() []byte {
	out := make([]byte, 0, 1024)
	for i := range 1024 {
		out = append(out, byte(i*7+i>>8))
	}
	return append(out, "\r\n\r\x00\xff\xfe\xc3("...)
}

func argumentChecks() []check {
	return []check{{
		name: "exec-args/text", needs: needsExec(),
		rule: "Command is an argument list: every argument arrives as it is",
		why:  "names of files and branches come from strangers: an argument that a shell reads is somebody else's command",
		run: func(t *trial) {
			t.echoes([]string{
				"plain", "two words", "  spaces  around  ", "", "'", `"`, "it's", `back\slash`, `\`, "$(exit 9)", "`exit 9`", "$HOME", "${x}", "a;b", "a|b", "a&b",
				"*", "~", "-n", "--", "!x", "{a,b}", "<", ">x", "#", "%s%d", "two\nlines", "\n", "tab\there", "cr\rhere", "ünï☃",
			})
		},
	}, {
		name: "exec-args/invalid-utf8", needs: needsExec(),
		rule: "arguments and environment arrive byte for byte, whatever the bytes; only NUL is impossible",
		why:  "file names are bytes: a file that cannot be named cannot be deleted",
		run: func(t *trial) {
			bad := "bytes \xff\xfe\xc3( \x80 end"
			t.echoes([]string{bad})
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script(`printf %s "$ADAPTERTEST_X"`), Env: map[string]string{"ADAPTERTEST_X": bad}})
			t.ok("Exec", err)
			if string(got.out) != bad {
				t.broken("the variable %q arrived as %s", bad, short(got.out))
			}
		},
	}, {
		name: "exec-args/nul", needs: needsExec(),
		rule: "an argument with a NUL, which no command can be given, is an error",
		why:  "what is cut off, or split, is another command than the one that was asked for",
		run: func(t *trial) {
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("exit 0", "a\x00b")})
			if err == nil {
				t.broken("Exec of an argument with a NUL ended with %v", got)
			}
		},
	}}
}

// echoes gives arguments to a script that writes them down.
func (t *trial) echoes(args []string) {
	t.Helper()
	var want strings.Builder
	for _, a := range args {
		fmt.Fprintf(&want, "[%s]", a)
	}
	got := t.sh(t.shared(), `printf '[%s]' "$@"`, args...)
	if string(got) == want.String() {
		return
	}
	for _, a := range args {
		if got := t.sh(t.shared(), `printf '[%s]' "$@"`, a); string(got) != "["+a+"]" {
			t.broken("the argument %q arrived as %s", a, short(got))
		}
	}
	t.broken("%d arguments arrived as %s", len(args), short(got))
}

func streamChecks() []check {
	return []check{{
		name: "exec-io/binary", needs: needsExec(),
		rule: "what is written to Stdin arrives, and what is written to the outputs comes back, byte for byte",
		why:  "archives and pictures are piped through commands",
		run: func(t *trial) {
			for _, in := range [][]byte{everyByte(), []byte("no line end"), []byte("\n"), {}, noise(300 << 10)} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("cat"), Stdin: bytes.NewReader(in)})
				t.ok("Exec of cat", err)
				if got.Err() != nil {
					t.broken("cat ended with %v", got)
				}
				t.same("what cat sent back", in, got.out)
			}
		},
	}, {
		name: "exec-io/empty", needs: needsExec(),
		rule: "a nil Stdin is empty, and nil outputs are discarded",
		why:  "a command that waits for input that nobody will give never ends",
		run: func(t *trial) {
			b := t.shared()
			res, err := do(t, "Exec of cat without any stream", func(ctx context.Context) (sandboxer.ExecResult, error) {
				return b.sb.Exec(ctx, sandboxer.ExecRequest{Command: t.script("cat; printf unseen; printf unseen >&2; exit 5")})
			})
			t.ok("Exec without any stream", err)
			if res.ExitCode != 5 {
				t.broken("a command without any stream ended with %+v", res)
			}
		},
	}, {
		name: "exec-io/separate", needs: needsExec(),
		rule: "Stdout and Stderr are kept apart; the same writer for both is never written to concurrently",
		why:  "programs read results from one and people read complaints from the other",
		run: func(t *trial) {
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("printf out; printf err >&2; printf put; printf or >&2")})
			t.ok("Exec", err)
			if string(got.out) != "output" || string(got.err) != "error" {
				t.broken("\"output\" and \"error\" arrived as %s on Stdout and %s on Stderr", short(got.out), short(got.err))
			}
			both := &busyWriter{}
			_, err = t.exec(t.shared(), sandboxer.ExecRequest{
				Command: t.script(`i=0; while [ $i -lt 50 ]; do printf o; printf e >&2; i=$((i+1)); done`), Stdout: both, Stderr: both,
			})
			t.ok("Exec with one writer for both outputs", err)
			if both.clashes() {
				t.broken("the writer that was given for both outputs was written to by two goroutines at once")
			}
			if n := both.len(); n != 100 {
				t.broken("of 100 bytes on both outputs %d arrived at the one writer", n)
			}
		},
	}, {
		name: "exec-io/flood", needs: needsExec(),
		rule: "output is complete and in order on each stream, however much it is",
		why:  "the last lines of a log are the ones that say what failed",
		run: func(t *trial) {
			b, name, want := t.shared(), t.s.unique("flood"), noise(flood)
			got, err := t.exec(b, sandboxer.ExecRequest{Command: t.script(`cat > "$1"`, name), Stdin: bytes.NewReader(want)})
			t.ok("Exec of cat into a file", err)
			if got.Err() != nil {
				t.broken("cat into a file ended with %v", got)
			}
			got, err = t.exec(b, sandboxer.ExecRequest{Command: t.script(`cat "$1" >&2 & cat "$1"; wait; rm "$1"; printf end; printf end >&2`, name)})
			t.ok("Exec of a command that writes 10 MiB to each output", err)
			end := append(want[:len(want):len(want)], "end"...)
			t.same("10 MiB on Stdout", end, got.out)
			t.same("10 MiB on Stderr", end, got.err)
		},
	}, {
		name: "exec-io/live", needs: needsExec(),
		rule: "output arrives while the command runs",
		why:  "people watch builds, and programs wait for the line that says that a server is ready",
		run: func(t *trial) {
			b := t.shared()
			ready := make(chan struct{})
			out := &signalWriter{want: "ready", seen: ready}
			in, done := io.Pipe()
			type reply struct {
				res sandboxer.ExecResult
				err error
			}
			ctx, cancel := context.WithTimeout(context.Background(), t.s.cfg.Within)
			defer cancel()
			ended := make(chan reply, 1)
			go func() {
				res, err := b.sb.Exec(ctx, sandboxer.ExecRequest{Command: t.script("printf ready; cat > /dev/null; exit 7"), Stdin: in, Stdout: out})
				ended <- reply{res, err}
			}()
			select {
			case <-ready:
			case r := <-ended:
				_ = done.Close()
				t.broken("a command that waits for input ended with %+v, %v", r.res, r.err)
			case <-ctx.Done():
				_ = done.Close()
				<-ended
				t.broken("what a command wrote had not arrived %v later, while it waited for input", t.s.cfg.Within)
			}
			_ = done.Close()
			r := <-ended
			t.ok("Exec", r.err)
			if r.res.ExitCode != 7 {
				t.broken("after its input ended the command ended with %+v", r.res)
			}
		},
	}, {
		name: "exec-io/stdin-blocks", needs: needsExec(),
		rule: "a Stdin that blocks does not keep Exec from returning",
		why:  "a terminal that nobody types at, or a connection that is idle, is a Stdin too",
		run: func(t *trial) {
			in, release := io.Pipe()
			defer release.Close() //nolint:errcheck // it never fails
			for script, stdin := range map[string]io.Reader{
				"exit 4": in, "read line; exit 4": io.MultiReader(strings.NewReader("one line\n"), in),
			} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script(script), Stdin: stdin})
				t.ok("Exec with a Stdin that blocks", err)
				if got.ExitCode != 4 {
					t.broken("%q with a Stdin that blocks ended with %v", script, got)
				}
			}
		},
	}, {
		name: "exec-io/stdin-unread", needs: needsExec(),
		rule: "a command that does not read its Stdin ends as any other",
		why:  "head and grep -q end before their input does",
		run: func(t *trial) {
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("exit 6"), Stdin: bytes.NewReader(noise(1 << 20))})
			t.ok("Exec of a command that does not read its input", err)
			if got.ExitCode != 6 {
				t.broken("a command that does not read its input ended with %v", got)
			}
		},
	}, {
		name: "exec-io/write-error", needs: needsExec(),
		rule: "an error of the writer ends Exec, and the command",
		why:  "nobody reads the output any more: a command that runs on, or waits for a reader, holds the sandbox for ever",
		run: func(t *trial) {
			b, beat := t.shared(), t.s.unique("beat")
			broken := errors.New("the writer is broken")
			begun := time.Now()
			_, err := t.exec(b, sandboxer.ExecRequest{
				Command: t.script(`while :; do printf x >> "$1"; printf x; sleep 0.05; done`, beat), Stdout: &failingWriter{err: broken},
			})
			if err == nil || time.Since(begun) >= t.s.cfg.Within {
				t.broken("a writer that fails did not end Exec with an error for %v (%v)", time.Since(begun).Round(time.Millisecond), err)
			}
			t.still(b, beat, "its Exec ended with an error of the writer")
		},
	}, {
		name: "exec-io/late-write", needs: needsExec(),
		rule: "once Exec has returned, nothing is written to Stdout or Stderr any more",
		why:  "the caller reads or closes what it was written to: a Write beside that is a data race, or lands in what comes next",
		run: func(t *trial) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			w := &lastingWriter{begun: make(chan struct{})}
			go func() {
				select {
				case <-w.begun:
				case <-time.After(t.s.cfg.Within):
				}
				cancel()
			}()
			_, err := doCtx(ctx, t, "Exec", func(ctx context.Context) (sandboxer.ExecResult, error) {
				return t.shared().sb.Exec(ctx, sandboxer.ExecRequest{Command: t.script(`while :; do printf 0123456789; done`), Stdout: w})
			})
			before, busy := w.state()
			if err == nil || before == 0 {
				t.broken("Exec of an endless command was cancelled after %d writes and returned %v", before, err)
			}
			time.Sleep(3 * lastingWrite)
			if after, _ := w.state(); busy || after != before {
				t.broken("a Write was under way when Exec returned, or began after it: %t, %d after %d", busy, after, before)
			}
		},
	}}
}

const lastingWrite = 100 * time.Millisecond

// lastingWriter is in a Write nearly all the time.
type lastingWriter struct {
	begun chan struct{}

	mu     sync.Mutex
	writes int
	busy   bool
}

func (w *lastingWriter) set(busy bool) (first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = busy
	if busy {
		w.writes++
	}
	return busy && w.writes == 1
}

func (w *lastingWriter) state() (writes int, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes, w.busy
}

func (w *lastingWriter) Write(p []byte) (int, error) {
	if w.set(true) {
		close(w.begun)
	}
	defer w.set(false)
	time.Sleep(lastingWrite)
	return len(p), nil
}

// same breaks the rule where bytes differ, and says where.
func (t *trial) same(what string, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	t.broken("%s: %d bytes instead of %d, and they differ from byte %d on: %s instead of %s",
		what, len(got), len(want), at, short(got[at:]), short(want[at:]))
}

// busyWriter notices when two goroutines write at once.
type busyWriter struct {
	mu    sync.Mutex
	in    int
	clash bool
	n     int
}

func (w *busyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.in++
	w.clash = w.clash || w.in > 1
	w.mu.Unlock()
	time.Sleep(50 * time.Microsecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in--
	w.n += len(p)
	return len(p), nil
}

func (w *busyWriter) clashes() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.clash }
func (w *busyWriter) len() int      { w.mu.Lock(); defer w.mu.Unlock(); return w.n }

// signalWriter closes seen when want has been written.
type signalWriter struct {
	want string
	seen chan struct{}
	got  bytes.Buffer
	once sync.Once
}

func (w *signalWriter) Write(p []byte) (int, error) {
	n, err := w.got.Write(p)
	if strings.Contains(w.got.String(), w.want) {
		w.once.Do(func() { close(w.seen) })
	}
	return n, err
}

type failingWriter struct{ err error }

func (w *failingWriter) Write([]byte) (int, error) { return 0, w.err }
