package composessh

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// An engine makes the first health check of a container when a whole interval has passed, 30 s unless the file says otherwise,
// and Compose's --wait waits for that. A service is as healthy when the same check passes earlier, so it is made from here too.

// healthcheck is what an engine says of a container's.
type healthcheck struct {
	Test     []string
	Interval time.Duration // 0: the engine's own
}

const (
	checkFirst   = 100 * time.Millisecond // after a check that did not pass; then twice as long each time
	checkLast    = 10 * time.Second       // and never longer than the check's own interval
	checkTimeout = "2"                    // s; one that takes longer is left to the engine, and not made from here again
)

// command is the check as a command, or nil where there is none that can be made from here.
func (c *container) command() []string {
	if c.Check == nil || len(c.Check.Test) < 2 {
		return nil
	}
	switch c.Check.Test[0] {
	case "CMD":
		return c.Check.Test[1:]
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(shell[:len(shell):len(shell)], strings.Join(c.Check.Test[1:], " "))
	}
	return nil
}

// checks makes health checks while a stack is waited for.
type checks struct {
	b    *box
	t    sandboxer.Target
	next map[string]time.Time     // by container
	wait map[string]time.Duration // after the next one
}

// a zero time is at once, and never is behind all others.
var never = time.Unix(1<<40, 0)

const checkScript = `id=$1
shift
timeout -k 1 ` + checkTimeout + ` $ENGINE exec "$id" "$@" >/dev/null 2>&1
echo $?
`

// make makes the checks that are due, and notes in all which have passed.
func (k *checks) make(ctx context.Context, all []container) error {
	for i := range all {
		c := &all[i]
		command := c.command()
		if c.State.Status != "running" || c.health() != "starting" || command == nil || time.Now().Before(k.next[c.ID]) {
			continue
		}
		if shown, err := json.Marshal(command); err != nil || k.b.e.redacted(ctx, k.t, string(shown)) != string(shown) {
			k.next[c.ID] = never // a secret is in it, and would be in a list of processes
			continue
		}
		out, err := k.b.run(ctx, "checking the health of "+c.Service, checkScript, append([]string{c.ID}, command...)...)
		if err != nil {
			return err
		}
		switch strings.TrimSpace(out) {
		case "0":
			c.State.Health.Status = "healthy"
		case "124", "137":
			k.next[c.ID] = never
		default:
			most := checkLast
			if c.Check.Interval > 0 {
				most = min(most, c.Check.Interval)
			}
			wait := min(max(k.wait[c.ID], checkFirst), most)
			k.next[c.ID], k.wait[c.ID] = time.Now().Add(wait), 2*wait
		}
	}
	return nil
}
