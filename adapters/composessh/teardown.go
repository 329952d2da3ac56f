package composessh

import (
	"context"
	_ "embed" // for the script
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

//go:embed scripts/remove.sh
var removeScript string

const (
	// fenceTime is how long a name that was torn down unseen cannot be claimed: longer than a request to claim it is good for.
	fenceTime = claimWindow + 5*time.Second
	// lockWait is how long a removal waits for a process that builds the sandbox; where its connection has ended, so will it.
	lockWait = 30
)

// Teardown removes the containers, networks, volumes and images of a sandbox, looks that they are gone, and removes its
// directory last, so that a next call goes on where this one stopped.
func (e *extension) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	h, st, err := e.at(ctx, t.Host, t.Secret, t.Handle)
	if err != nil {
		return sandboxer.CleanupReport{}, err
	}
	name := t.Handle.Ref().Name()
	e.remember(st.Token, nil)
	fence := int64(0)
	if st.Token == "" { // who made it may still be at it
		fence = int64(fenceTime / time.Second)
	}
	out := &lines{ctx: ctx, stage: "teardown"}
	errs := &lines{ctx: context.WithoutCancel(ctx)}
	req := h.script(removeLib+watchStart+removeScript, name, t.Labels[sandboxer.LabelOwner], e.cfg.grace(), strconv.Itoa(lockWait), strconv.FormatInt(fence, 10), watchText())
	req.Stdout, req.Stderr = out, errs
	res, err := h.conn.Exec(ctx, req)
	report := parseReport(out.text())
	if err == nil && res.ExitCode != 0 {
		err = h.failed("removing "+name, []byte(errs.text()))
		if len(report.Left) > 0 {
			err = sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("host %s: of %s this is left: %s", h.conn, name, strings.Join(report.Left, ", ")))
		}
	}
	if err != nil && len(report.Left) == 0 {
		report.Left = append(report.Left, "sandbox "+name+" on host "+h.conn.String())
	}
	return report, err
}

// parseReport reads what remove_lib.sh prints. What was tried several times is named once.
func parseReport(text string) sandboxer.CleanupReport {
	var report sandboxer.CleanupReport
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if seen[line] {
			continue
		}
		seen[line] = true
		if what, ok := strings.CutPrefix(line, "removed "); ok {
			report.Removed = append(report.Removed, what)
		}
		if what, ok := strings.CutPrefix(line, "left "); ok {
			report.Left = append(report.Left, what)
		}
	}
	return report
}
