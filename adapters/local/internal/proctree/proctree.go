//go:build linux || darwin

// Package proctree finds and ends the processes of a sandbox, or of one command in it, without their help: by a variable
// that each carries in its environment, and from there by parents, process groups and sessions. The local adapter calls it.
//
// A process that clears its environment, leaves its session and loses its parent at the same time is not found. Nothing
// short of a kernel boundary finds that one, and the local adapter says that it has none.
package proctree

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
)

// Proc identifies a process: a number is used again, but not together with its time of birth.
type Proc struct {
	PID   int
	start uint64
}

// process is a line of the process table.
type process struct {
	Proc
	ppid, pgid, sid int
	dead            bool // ended, and not yet noticed by its parent
	headless        bool // its main thread has ended, and others go on
}

// Selector says which processes are meant.
type Selector struct {
	Marker string // "KEY=value" in the environment
	Root   Proc   // a process that belongs as well, with all below it; the zero Proc is none
}

// Of identifies the running process pid. A process that is gone is the zero Proc.
func Of(pid int) Proc {
	p, err := lookup(pid)
	if err != nil {
		return Proc{}
	}
	return p.Proc
}

// Find returns the numbers of the processes that sel selects, and of all that they started as far as that can be seen.
func Find(sel Selector) ([]int, error) {
	h := newHunt(sel)
	if _, err := h.look(); err != nil {
		return nil, err
	}
	return h.pids(), nil
}

// patience is how long processes may take to die of SIGKILL; one that waits for a device can take for ever.
const patience = 20 * time.Second

// Kill ends the processes that sel selects, and all that they started, and returns how many there were when none is left.
// Every process is first stopped, until a look at the process table finds no other: what is stopped starts no more.
// It ends with ctx, or when processes outlive SIGKILL for 20 s, with an error that names the survivors.
func Kill(ctx context.Context, sel Selector) (int, error) {
	h := newHunt(sel)
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		found, err := h.look()
		if err != nil {
			return len(h.members), fmt.Errorf("reading the process table: %w", err)
		}
		if len(h.alive) == 0 {
			return len(h.members), nil
		}
		if found {
			h.signal(syscall.SIGSTOP)
			wait = time.Millisecond
			if ctx.Err() == nil {
				continue // at once: it may have started others before it stopped
			}
		}
		denied := h.signal(syscall.SIGKILL)
		if denied == len(h.alive) {
			return len(h.members), fmt.Errorf("processes %v belong to another user: %w", h.pids(), os.ErrPermission)
		}
		if err := pause(ctx, wait); err != nil || time.Now().After(deadline) {
			return len(h.members), errors.Join(err, fmt.Errorf("processes %v are still there after SIGKILL", h.pids()))
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hunt is what is known of a tree of processes while it is being ended.
type hunt struct {
	sel      Selector
	members  map[Proc]bool // ever seen
	sessions map[int]bool
	groups   map[int]bool
	alive    map[Proc]bool // seen by the last look

	self, ownSession, ownGroup int
}

func newHunt(sel Selector) *hunt {
	h := &hunt{sel: sel, members: map[Proc]bool{}, sessions: map[int]bool{}, groups: map[int]bool{}, self: os.Getpid()}
	if me, err := lookup(h.self); err == nil {
		h.ownSession, h.ownGroup = me.sid, me.pgid
	}
	return h
}

// look reads the process table and reports whether it held members that were not known.
func (h *hunt) look() (bool, error) {
	table, err := list()
	if err != nil {
		return false, err
	}
	found := false
	h.alive = map[Proc]bool{}
	for _, p := range table {
		if !h.members[p.Proc] && p.PID != h.self && (p.Proc == h.sel.Root || !p.dead && hasMarker(p, h.sel.Marker)) {
			h.add(p)
			found = true
		}
	}
	for again := true; again; {
		again = false
		parents := map[int]bool{}
		for _, p := range table {
			if h.members[p.Proc] {
				parents[p.PID] = true
			}
		}
		for _, p := range table {
			if !h.members[p.Proc] && p.PID != h.self && (parents[p.ppid] || h.sessions[p.sid] || h.groups[p.pgid]) {
				h.add(p)
				found, again = true, true
			}
		}
	}
	for _, p := range table {
		if h.members[p.Proc] && !p.dead {
			h.alive[p.Proc] = true
		}
	}
	return found, nil
}

// add makes p a member, and with it its session and group: they began in the sandbox, unless they are our own.
func (h *hunt) add(p process) {
	h.members[p.Proc] = true
	if p.sid > 1 && p.sid != h.ownSession {
		h.sessions[p.sid] = true
	}
	if p.pgid > 1 && p.pgid != h.ownGroup {
		h.groups[p.pgid] = true
	}
}

// signal sends sig to all that are alive and returns how many may not be sent one.
func (h *hunt) signal(sig syscall.Signal) (denied int) {
	for p := range h.alive {
		if err := send(p, sig); errors.Is(err, os.ErrPermission) {
			denied++
		}
	}
	return denied
}

func (h *hunt) pids() []int {
	var out []int
	for p := range maps.Keys(h.alive) {
		out = append(out, p.PID)
	}
	slices.Sort(out)
	return out
}
