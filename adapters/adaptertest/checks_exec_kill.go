package adaptertest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// beats are what a process that runs leaves in a file: its growth is how life is seen.
const (
	beatScript = `while :; do printf x >> "$1"; sleep 0.05; done`
	beatGap    = 400 * time.Millisecond
	beatTries  = 6
	beatStill  = 2 // gaps without a beat are death; in one the machine may only have been busy
)

func killChecks() []check {
	return []check{{
		name: "exec-kill/timeout", needs: needsExec(),
		rule: "ExecRequest.Timeout kills the whole process tree in the sandbox, and TimedOut says so",
		why:  "a time-out that leaves the process running is what fills machines: the next run competes with it",
		run: func(t *trial) {
			b, beat := t.shared(), t.s.unique("beat")
			got := t.timesOut(b, beat, t.script(`(`+beatScript+`) & `+beatScript, beat))
			if got.Err() == nil || got.ExitCode == 0 {
				t.broken("a command that timed out is reported as a success: %v", got)
			}
			t.still(b, beat, "its Timeout")
		},
	}, {
		name: "exec-kill/stubborn", needs: needsExec(),
		rule: "ExecRequest.Timeout ends a command that ignores the polite signals too",
		why:  "programs that hang are the ones that do not listen",
		run: func(t *trial) {
			b, beat := t.shared(), t.s.unique("beat")
			t.timesOut(b, beat, t.script(`trap '' TERM INT HUP; `+beatScript, beat))
			t.still(b, beat, "its Timeout")
		},
	}, {
		name: "exec-kill/detached", needs: needsExec(),
		rule: "the whole process tree is killed, also what made itself a session of its own",
		why:  "builds start daemons: each time-out would leave one more",
		run: func(t *trial) {
			b, beat := t.shared(), t.s.unique("beat")
			if have := t.sh(b, `command -v setsid >/dev/null 2>&1 && printf yes || :`); len(have) == 0 {
				t.Log("there is no setsid in the sandbox, and so nothing that could detach itself")
				return
			}
			t.timesOut(b, beat, t.script(`setsid `+t.s.cfg.Shell[0]+` -c '`+beatScript+`' sh "$1" & sleep 30`, beat))
			t.still(b, beat, "the Timeout of the command that started it")
		},
	}, {
		name: "exec-kill/cancel", needs: needsExec(),
		rule: "a context that ends kills the whole process tree in the sandbox, and Exec fails with it",
		why:  "invariant: a cancelled call leaves nothing behind, and closing a connection alone ends nothing at the other side",
		run: func(t *trial) {
			b, beat := t.shared(), t.s.unique("beat")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			begun := make(chan struct{})
			go func() {
				select {
				case <-begun:
				case <-time.After(t.s.cfg.Within):
				}
				cancel()
			}()
			_, err := doCtx(ctx, t, "Exec", func(ctx context.Context) (sandboxer.ExecResult, error) {
				return b.sb.Exec(ctx, sandboxer.ExecRequest{
					// The first beat comes before the word: a kill that is quick must still find that there was life.
					Command: t.script(`printf x >> "$1"; (`+beatScript+`) & printf begun; `+beatScript, beat), Stdout: &signalWriter{want: "begun", seen: begun},
				})
			})
			if err == nil || !errors.Is(err, context.Canceled) {
				t.broken("Exec under a context that was cancelled returned %v", err)
			}
			t.still(b, beat, "the end of its context")
		},
	}, {
		name: "exec-kill/background", needs: needsExec(),
		rule: "background children outlive a normal exit, and Exec does not wait for pipes that they hold open",
		why:  "servers are started in one command and used by the next",
		run: func(t *trial) {
			b, beat, stop := t.newBox(), t.s.unique("beat"), t.s.unique("stop")
			begun := time.Now()
			got, err := t.exec(b, sandboxer.ExecRequest{
				Command: t.script(`while [ ! -e "$2" ]; do printf x >> "$1"; sleep 0.05; done & exit 8`, beat, stop),
			})
			t.ok("Exec of a command that leaves a child in the background", err)
			if got.ExitCode != 8 {
				t.broken("a command that leaves a child in the background ended with %v after %v", got, time.Since(begun))
			}
			before := len(t.beats(b, beat))
			if !t.poll(func() bool { return len(t.beats(b, beat)) > before }) {
				t.broken("the child in the background died with the command that started it")
			}
			t.sh(b, `printf x > "$1"`, stop)
		},
	}, {
		name: "exec-kill/teardown", needs: needsExec(),
		rule: "Teardown ends a command that runs, and its Exec returns",
		why:  "invariant: nothing hangs, whatever the peer does",
		run: func(t *trial) {
			b := t.newBox()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			begun := make(chan struct{})
			ended := make(chan error, 1)
			go func() {
				res, err := b.sb.Exec(ctx, sandboxer.ExecRequest{
					Command: t.script(`printf begun; while :; do sleep 0.05; done`), Stdout: io.Writer(&signalWriter{want: "begun", seen: begun}),
				})
				ended <- errors.Join(err, res.Err())
			}()
			select {
			case <-begun:
			case err := <-ended:
				t.broken("a command without an end ended: %v", err)
			case <-time.After(t.s.cfg.Within):
				t.broken("what a command wrote did not arrive while it ran")
			}
			_, err := do(t, "Sandbox.Teardown", b.sb.Teardown)
			t.ok("Sandbox.Teardown of a sandbox in which a command runs", err)
			select {
			case err := <-ended:
				if err == nil {
					t.broken("a command whose sandbox was torn down is reported as a success")
				}
			case <-time.After(t.grace()):
				t.broken("Exec had not returned %v after the sandbox was torn down", t.grace())
			}
		},
	}}
}

// timesOut runs a command until its Timeout, which is a longer one where it had not begun before.
func (t *trial) timesOut(b *box, beat string, command []string) output {
	t.Helper()
	for limit := 300 * time.Millisecond; ; limit *= 3 {
		begun := time.Now()
		got, err := t.exec(b, sandboxer.ExecRequest{Command: command, Timeout: limit})
		t.ok("Exec of a command that timed out", err)
		if !got.TimedOut {
			t.broken("a command that ran longer than its Timeout of %v ended with %v after %v", limit, got, time.Since(begun))
		}
		if len(t.beats(b, beat)) > 0 || limit > t.s.cfg.Within/4 {
			return got
		}
	}
}

// beats reads what processes have left in a file so far.
func (t *trial) beats(b *box, file string) []byte {
	t.Helper()
	return t.sh(b, `[ ! -e "$1" ] || cat "$1"`, file)
}

// still breaks the rule where a process goes on that should be dead.
func (t *trial) still(b *box, beat, after string) {
	t.Helper()
	before := len(t.beats(b, beat))
	if before == 0 {
		t.broken("the command never ran: it left no sign of life before %s", after)
	}
	quiet := 0
	for range beatTries {
		time.Sleep(beatGap)
		now := len(t.beats(b, beat))
		if now != before {
			quiet = 0
		} else if quiet++; quiet == beatStill {
			return
		}
		before = now
	}
	t.broken("the processes of a command run on after %s", after)
}
