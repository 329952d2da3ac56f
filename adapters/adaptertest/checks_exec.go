package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func needsExec() []sandboxer.Capability { return []sandboxer.Capability{sandboxer.CapExec} }

func execChecks() []check {
	return []check{{
		name: "exec/exit-codes", needs: needsExec(),
		rule: "any exit code is a nil error",
		why:  "an error means that the command may not have run: a test that failed would be run again, or not be seen to fail",
		run: func(t *trial) {
			for _, want := range []int{0, 1, 2, 42, 126, 127, 200, 255} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script(fmt.Sprintf("exit %d", want))})
				t.ok(fmt.Sprintf("Exec of exit %d", want), err)
				if got.ExitCode != want || got.Signal != "" || got.TimedOut {
					t.broken("exit %d ended with %v", want, got)
				}
			}
		},
	}, {
		name: "exec/not-found", needs: needsExec(),
		rule: "a command that does not exist is an error, because it never ran, or exits with 127 as in a shell",
		why:  "any other exit code is one that the command might have had itself",
		run: func(t *trial) {
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: []string{"adaptertest-no-such-command"}})
			if err == nil && got.ExitCode != 127 && got.ExitCode != 126 {
				t.broken("a command that does not exist ended with %v", got)
			}
		},
	}, {
		name: "exec/signal", needs: needsExec(),
		rule: "a command that a signal ended says which: Signal is its name, and the exit code is not 0",
		why:  "killed for using too much memory is not the same as a test that failed",
		run: func(t *trial) {
			for _, name := range []string{"KILL", "TERM"} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("kill -" + name + " $$; sleep 5")})
				t.ok("Exec of a command that is killed", err)
				if got.Signal != "SIG"+name || got.ExitCode == 0 || got.TimedOut {
					t.broken("a command that SIG%s ended is reported as %v", name, got)
				}
			}
		},
	}, {
		name: "exec/environment", needs: needsExec(),
		rule: "ExecRequest.Env is added to the sandbox's own environment, byte for byte",
		why:  "tokens, paths and flags travel in it",
		run: func(t *trial) {
			for _, want := range []string{"plain", "", "two words", "quotes ' and \"", "$(exit 1) `exit 1` $HOME \\n", "two\nlines\n", " spaces around ", "ünï☃"} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{
					Command: t.script(`printf '%s|%s' "$ADAPTERTEST_A" "${PATH:+path}"`), Env: map[string]string{"ADAPTERTEST_A": want, "ADAPTERTEST_B": "other"},
				})
				t.ok("Exec", err)
				if string(got.out) != want+"|path" {
					t.broken("the variable %q arrived as %s (and then whether PATH is set)", want, short(got.out))
				}
			}
			if got := t.sh(t.shared(), `printf '%s' "$ADAPTERTEST_A"`); len(got) > 0 {
				t.broken("a variable of an earlier Exec is still set: %s", short(got))
			}
		},
	}, {
		name: "exec/directory", needs: needsExec(),
		rule: "an empty Dir means the workspace, a relative one is in it, an absolute one is itself; one that does not exist is no success",
		why:  "a build that runs in another place deletes or ships the wrong files",
		run: func(t *trial) {
			b, dir := t.shared(), t.s.unique("directory")
			t.sh(b, `mkdir -p "$1/below it" && printf here > "$1/below it/mark"`, dir)
			where := strings.TrimSuffix(string(t.sh(b, `cd "$1" && pwd`, dir)), "\n")
			for _, in := range []string{dir + "/below it", where + "/below it"} {
				got, err := t.exec(b, sandboxer.ExecRequest{Command: t.script("cat mark"), Dir: in})
				t.ok("Exec", err)
				if string(got.out) != "here" {
					t.broken("in the directory %q the file that is there was read as %v", in, got)
				}
			}
			mark := t.s.unique("mark")
			got, err := t.exec(b, sandboxer.ExecRequest{Command: t.script(`printf x > "$1"`, where+"/"+mark), Dir: dir + "/none"})
			if err == nil && got.Err() == nil {
				t.broken("a command in a directory that does not exist succeeded")
			}
			if left := t.sh(b, `[ ! -e "$1" ] || printf there`, dir+"/"+mark); len(left) > 0 {
				t.broken("a command whose directory does not exist was run somewhere else")
			}
			if b.reach.RemoteDir != "" {
				file := t.s.unique("file")
				t.sh(b, `printf same > "$1"`, file)
				if got := t.sh(b, `cat "$1"`, b.reach.RemoteDir+"/"+file); string(got) != "same" {
					t.broken("RemoteDir is %q, and commands do not run there", b.reach.RemoteDir)
				}
			}
		},
	}, {
		name: "exec/service", needs: needsExec(),
		rule: "a Service that does not exist is an InvalidArgument",
		why:  "run in another container the command would read, or change, the wrong thing",
		run: func(t *trial) {
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{Command: t.script("exit 0"), Service: "adaptertest-no-such-service"})
			if err == nil {
				t.broken("Exec in a service that does not exist ended with %v", got)
			}
			t.code("Exec in a service that does not exist", err, sandboxer.InvalidArgument)
		},
	}, {
		name: "exec/concurrent", needs: needsExec(),
		rule: "all methods are safe for concurrent use",
		why:  "an agent runs a server, a test and a look at the files at once",
		run: func(t *trial) {
			b := t.shared()
			const many = 12
			outs, errs := make([]output, many), make([]error, many)
			var group sync.WaitGroup
			for i := range many {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), t.s.cfg.Within)
					defer cancel()
					outs[i], errs[i] = execIn(ctx, b, sandboxer.ExecRequest{
						Command: t.script(`cat; printf %s "$1"; exit "$1"`, fmt.Sprint(i)), Stdin: strings.NewReader(fmt.Sprintf("in %d ", i)),
					})
				})
			}
			group.Wait()
			for i := range many {
				t.ok("Exec beside others", errs[i])
				if want := fmt.Sprintf("in %d %d", i, i); string(outs[i].out) != want || outs[i].ExitCode != i {
					t.broken("of %d concurrent commands, number %d ended with %v", many, i, outs[i])
				}
			}
		},
	}, {
		name: "exec/gone", needs: needsExec(),
		rule: "errors are classified where the adapter returns them, and a call about a sandbox that is gone is one",
		why:  "callers act on codes: an error without one is neither retried, nor shown with what to do about it",
		run: func(t *trial) {
			b := t.newBox()
			t.teardown(b)
			x, _ := sandboxer.As[sandboxer.Executor](b.ext)
			_, err := do(t, "Exec", func(ctx context.Context) (sandboxer.ExecResult, error) {
				return x.Exec(ctx, b.target, sandboxer.ExecRequest{Command: t.script("exit 0")})
			})
			if err == nil {
				t.broken("Exec in a sandbox that was torn down succeeded")
			}
			if c := sandboxer.CodeOf(err); c == sandboxer.Unknown || c == sandboxer.Internal {
				t.broken("Exec in a sandbox that was torn down failed with code %q; sandboxer.NotFound says it: %v", c, err)
			}
		},
	}, {
		name: "exec/terminal", needs: needsExec(),
		rule: "with a TTY the command has a terminal, of the size that was asked for, and everything arrives on Stdout; the end of Stdin ends its input, also within a line; or it is Unsupported",
		why:  "programs that ask for a password, or draw, read from a terminal and nothing else",
		run: func(t *trial) {
			var out bytes.Buffer
			got, err := t.exec(t.shared(), sandboxer.ExecRequest{
				Command: t.script(`[ -t 1 ] && printf 'is a terminal'; printf ' with errors' >&2`), Stdout: &out, TTY: &sandboxer.TTY{Cols: 101, Rows: 37},
			})
			if errors.Is(err, sandboxer.Unsupported) {
				t.Logf("no terminals here: %v", err)
				return
			}
			t.ok("Exec with a terminal", err)
			if size := t.terminalSize(); size != "" && size != "37 101" {
				t.broken("a terminal of 37 lines and 101 columns was asked for, and its size is %q", size)
			}
			if out.String() != "is a terminal with errors" || len(got.err) > 0 {
				t.broken("Exec with a terminal wrote %q, and %s on Stderr", out.String(), short(got.err))
			}
			for _, in := range []string{"a line\n", "no line", ""} {
				got, err := t.exec(t.shared(), sandboxer.ExecRequest{
					Command: t.script(`cat >/dev/null; exit 7`), Stdin: strings.NewReader(in), TTY: &sandboxer.TTY{}, Timeout: 20 * time.Second,
				})
				t.ok("Exec with input from a terminal", err)
				if got.TimedOut || got.ExitCode != 7 {
					t.broken("a command that reads the terminal to its end did not get there when Stdin was %q (^D counts at the beginning of a line only): %v", in, got)
				}
			}
		},
	}}
}

// terminalSize is what stty says of a terminal of 37 lines and 101 columns; "" where there is no stty.
func (t *trial) terminalSize() string {
	t.Helper()
	got, err := t.exec(t.shared(), sandboxer.ExecRequest{
		Command: t.script(`command -v stty >/dev/null 2>&1 && stty size || :`), TTY: &sandboxer.TTY{Cols: 101, Rows: 37},
	})
	t.ok("Exec with a terminal", err)
	return strings.TrimSpace(string(got.out))
}
