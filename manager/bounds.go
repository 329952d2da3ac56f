package manager

import (
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// A record must fit its store at every step of its life: one that has grown too long to be stored could never end. So what
// backends say is bounded here, and an intent is only stored where all that may follow has room behind it.
const (
	maxReason   = 8 << 10  // bytes of why something is as it is
	maxWhy      = 1 << 10  // bytes of why one attempt ended
	maxAttempts = 100      // attempts of one sandbox that are remembered
	maxCleanup  = 100      // lines of a cleanup report, in each list
	maxLine     = 256      // bytes of one
	maxLines    = 16 << 10 // bytes of the lines of what it cost; the bill has them all
	maxState    = 32 << 10 // bytes of a handle
	maxReach    = 16 << 10 // bytes of a reachability
	maxIntent   = store.MaxBody - 192<<10
)

// bound shortens what would let r grow without limit.
func (r *record) bound() {
	r.Reason, r.Cause = clip(r.Reason, maxReason), clip(r.Cause, maxReason)
	last := r.current()
	for i := range r.Attempts {
		a := &r.Attempts[i]
		a.Reason = clip(a.Reason, maxWhy)
		a.Billed = clipReading(a.Billed, a == last)
	}
	if r.Cleanup != nil {
		r.Cleanup = &sandboxer.CleanupReport{Removed: clipLines(r.Cleanup.Removed), Left: clipLines(r.Cleanup.Left)}
	}
	r.Cost = clipReading(r.Cost, true)
}

// clipReading leaves out lines that are too many to keep, and all where only the total is wanted.
func clipReading(r *sandboxer.MeterReading, lines bool) *sandboxer.MeterReading {
	if r == nil || len(r.Lines) == 0 {
		return r
	}
	size := 0
	for _, l := range r.Lines {
		size += len(l.Item) + len(l.Unit) + 128
	}
	if lines && size <= maxLines {
		return r
	}
	short := *r
	short.Lines = nil
	return &short
}

// remember appends an attempt, and forgets the oldest ones behind maxAttempts; never the last that was begun.
func (r *record) remember(a attempt) *attempt {
	kept := make([]attempt, 0, min(len(r.Attempts)+1, maxAttempts))
	last := r.current()
	for i := range r.Attempts {
		if over := len(r.Attempts) + 1 - maxAttempts; i > over || over <= 0 || &r.Attempts[i] == last {
			kept = append(kept, r.Attempts[i])
		}
	}
	r.Attempts = append(kept, a)
	return &r.Attempts[len(r.Attempts)-1]
}

// had reports whether attempt n of r was begun, or may have been: old ones are forgotten.
func (r *record) had(n int) bool {
	oldest := 0
	for i := range r.Attempts {
		switch k := r.Attempts[i].N; {
		case k == n:
			return true
		case k > 0 && oldest == 0:
			oldest = k
		}
	}
	return len(r.Attempts) >= maxAttempts-1 && n < oldest
}

// fits refuses an intent whose record could not take what is yet to come.
func fits(body []byte) error {
	if len(body) <= maxIntent {
		return nil
	}
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("its record has %d bytes, and at most %d can be kept: pass less in Inputs and Labels, a file by its path or address", len(body), maxIntent))
}

// checkReach refuses what no record can keep.
func checkReach(extension string, r *sandboxer.Reachability) error {
	size := len(r.SSH) + len(r.RemoteDir) + len(r.Host) + len(r.ComposeProject)
	for _, e := range r.Endpoints {
		size += len(e.Name) + len(e.URL) + 64
	}
	if size > maxReach {
		return sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s returned a Reachability of %d bytes; at most %d are kept", extension, size, maxReach))
	}
	return nil
}

// checkState refuses a handle that no record can keep.
func checkState(h sandboxer.Handle) error {
	text, err := h.MarshalJSON()
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("a handle of %d bytes; at most %d are kept: leave what is long at the backend, and say in the handle where it is", len(text), maxState)
	}
	return err
}

// clip cuts the middle out of what is longer than most bytes: it begins with what was done, and ends with why that failed.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const gap = " […] "
	head := (most - len(gap)) * 3 / 4
	tail := most - len(gap) - head
	return strings.ToValidUTF8(s[:head], "") + gap + strings.ToValidUTF8(s[len(s)-tail:], "")
}

func clipLines(lines []string) []string {
	var out []string
	for i, l := range lines {
		if i == maxCleanup {
			return append(out, fmt.Sprintf("and %d more", len(lines)-i))
		}
		out = append(out, clip(l, maxLine))
	}
	return out
}
