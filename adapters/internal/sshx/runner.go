package sshx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

const (
	// quickRunners is how many runners of a host stay for short commands: with the keeper and the residents they fit into
	// one connection to a server with defaults. Those whose command takes long do not count, up to maxRunners in all.
	quickRunners = 5
	maxRunners   = 16
	// After longCommand, or ten times what commands took lately, a command is no short one, whose end is worth waiting for.
	longCommand, longestShort = 50 * time.Millisecond, time.Second
	// runnerPause is for how long no runner is started after one failed, or had to give its session to others.
	runnerPause = time.Second
)

// The system call setsid, by what kernels call their processors: Perl has no name for it that costs no time.
var setsid = map[string]int{
	"x86_64": 112, "i386": 66, "i486": 66, "i586": 66, "i686": 66, "aarch64": 157, "armv6l": 66, "armv7l": 66, "armv8l": 66,
	"riscv64": 157, "ppc64": 66, "ppc64le": 66, "s390x": 66, "loongarch64": 157,
}

// runners are those of a host. Guarded by host.mu.
type runners struct {
	all      map[*runner]struct{}
	idle     []*runner
	starting int
	took     time.Duration // by short commands lately
	none     bool          // the host cannot have any
	noLanes  bool          // or can have no lanes
	pause    time.Time     // none is started before
	queue    []chan *runner
}

// runner returns one that is idle, or becomes so soon, or nil: then a session is as good. It starts one for those who come
// later.
func (h *host) runner(ctx context.Context) *runner {
	h.mu.Lock()
	if r := h.idleRunner(); r != nil {
		h.mu.Unlock()
		return r
	}
	h.moreRunners()
	if !h.runnerSoon() {
		h.mu.Unlock()
		return nil
	}
	w := make(chan *runner, 1)
	h.runners.queue = append(h.runners.queue, w)
	h.mu.Unlock()
	tick := time.NewTicker(longCommand / 2)
	defer tick.Stop()
	for {
		select {
		case r := <-w:
			return r
		case <-tick.C:
			h.mu.Lock()
			if h.runnerSoon() {
				h.moreRunners()
				h.mu.Unlock()
				continue
			}
			h.mu.Unlock()
		case <-ctx.Done():
		}
		h.mu.Lock()
		if i := slices.Index(h.runners.queue, w); i >= 0 {
			h.runners.queue = slices.Delete(h.runners.queue, i, i+1)
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		return <-w // given in the same moment
	}
}

// idleRunner takes an idle one. Where nothing was heard of the connection for long it may be dead: a session finds that
// out before the command is sent.
func (h *host) idleRunner() *runner {
	for i := len(h.runners.idle) - 1; i >= 0; i-- {
		r := h.runners.idle[i]
		if !r.usable() {
			h.runners.idle = slices.Delete(h.runners.idle, i, i+1)
			continue
		}
		if r.s.t.c.nc.silence() < h.p.cfg.KeepAlive/2 {
			h.runners.idle = slices.Delete(h.runners.idle, i, i+1)
			r.since = time.Now()
			return r
		}
	}
	return nil
}

func (rs *runners) long() time.Duration { return min(max(longCommand, 10*rs.took), longestShort) }

// runnerSoon reports whether one is likely to become idle before a session of its own could have run a command.
func (h *host) runnerSoon() bool {
	if h.runners.starting > 0 && h.free() == nil {
		return true
	}
	long := h.runners.long()
	for r := range h.runners.all {
		if time.Since(r.since) < long && !slices.Contains(h.runners.idle, r) {
			return true
		}
	}
	return false
}

// moreRunners starts one, where a session is free that nobody waits for.
func (h *host) moreRunners() {
	rs := &h.runners
	if rs.none || len(h.waiters) > 0 || len(rs.all)+rs.starting >= maxRunners || time.Now().Before(rs.pause) {
		return
	}
	quick, long := rs.starting, rs.long()
	for r := range rs.all {
		if time.Since(r.since) < long || slices.Contains(rs.idle, r) {
			quick++
		}
	}
	if quick >= quickRunners || h.keeper == nil || !h.keeper.up() {
		return
	}
	number := setsid[h.keeper.arch]
	t := h.free()
	if t == nil || number == 0 {
		return
	}
	t.open++
	rs.starting++
	if !h.p.spawn(func() { h.startRunner(t, number) }) {
		t.open--
		rs.starting--
	}
}

// anyRunner returns an idle one or a new one, for as long as is needed, or nil where there can be none with lanes.
func (h *host) anyRunner(ctx context.Context) *runner {
	h.mu.Lock()
	number := 0
	if h.keeper != nil && h.keeper.up() && !h.runners.none && !h.runners.noLanes {
		number = setsid[h.keeper.arch]
	}
	if number != 0 {
		if r := h.idleRunner(); r != nil {
			h.mu.Unlock()
			return r
		}
	}
	h.mu.Unlock()
	if number == 0 {
		return nil
	}
	for {
		t, err := h.acquire(ctx)
		if err != nil {
			return nil
		}
		r, err := h.newRunner(ctx, t, number)
		if errors.As(err, new(*ssh.OpenChannelError)) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil
		}
		h.mu.Lock()
		h.runners.all[r] = struct{}{}
		r.since = time.Now()
		h.mu.Unlock()
		return r
	}
}

// startRunner starts one on a claimed slot.
func (h *host) startRunner(t *transport, number int) {
	ctx, cancel := context.WithTimeout(h.p.ctx, h.p.cfg.DialTimeout)
	defer cancel()
	r, err := h.newRunner(ctx, t, number)
	// A slot that was just given back may not be free for the server yet.
	for try := 1; errors.As(err, new(*ssh.OpenChannelError)) && try < 8 && pause(ctx, jitter(20*time.Millisecond)*time.Duration(try)); try++ {
		h.mu.Lock()
		if t = h.free(); t == nil || len(h.waiters) > 0 {
			h.mu.Unlock()
			continue
		}
		t.open++
		h.mu.Unlock()
		r, err = h.newRunner(ctx, t, number)
	}
	h.mu.Lock()
	h.runners.starting--
	if err != nil {
		h.runners.none = h.runners.none || errors.Is(err, errNoRunner)
		h.runners.pause = time.Now().Add(runnerPause)
		h.mu.Unlock()
		return
	}
	h.runners.all[r] = struct{}{}
	h.mu.Unlock()
	h.putBackRunner(r)
}

var errNoRunner = errors.New("the host has no Perl")

func (h *host) newRunner(ctx context.Context, t *transport, number int) (*runner, error) {
	ch, requests, err := t.openSession()
	if err != nil {
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			return nil, errors.Join(err, h.refused(t, err))
		}
		t.fail(fmt.Errorf("connection to %s ended: %w", h, err))
		h.lost(t)
		return nil, err
	}
	token := "y" + newToken()[1:] + "-0-"
	s, err := h.launch(ctx, t, ch, requests, nil, token, h.direct.Load(), func(k *keeper) string {
		return runnerLine(token, k.path, number, h.p.cfg.Lease)
	})
	if err != nil {
		return nil, err
	}
	r := &runner{s: s, out: make(chan outgoing, 1), gone: make(chan struct{})}
	up := make(chan struct{})
	h.p.spawn(func() { r.read(up) })
	h.p.spawn(r.write)
	h.p.spawn(func() { drain(s.ch.Stderr()) })
	select {
	case <-up:
		s.begun.Store(true)
		return r, nil
	case e, ok := <-s.exit:
		r.fail(errNoSession)
		s.k.remove(ctx, token)
		s.close(false)
		if ok && e.signal == "" {
			return nil, errNoRunner
		}
		return nil, errNoSession
	case <-r.gone:
	case <-ctx.Done():
	}
	r.fail(errNoSession)
	s.kill()
	return nil, errNoSession
}

// putBackRunner gives one to the next command.
func (h *host) putBackRunner(r *runner) {
	if !r.usable() {
		h.dropRunner(r)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.s.t.used = time.Now()
	if took := r.s.t.used.Sub(r.since); took < longestShort {
		h.runners.took += (took - h.runners.took) / 8
	}
	if q := h.runners.queue; len(q) > 0 {
		h.runners.queue = q[1:]
		r.since = r.s.t.used
		q[0] <- r
		return
	}
	h.runners.idle = append(h.runners.idle, r)
	h.reclaim()
}

// dropRunner forgets one and lets it go; what its commands left in the background stays.
func (h *host) dropRunner(r *runner) {
	h.mu.Lock()
	_, ours := h.runners.all[r]
	delete(h.runners.all, r)
	h.runners.idle = slices.DeleteFunc(h.runners.idle, func(o *runner) bool { return o == r })
	h.mu.Unlock()
	if ours {
		h.p.spawn(r.retire)
	}
}

// reclaimRunner gives the session of an idle one to whoever waits. Called with mu held.
func (h *host) reclaimRunner() bool {
	if len(h.runners.idle) == 0 {
		return false
	}
	r := h.runners.idle[0]
	h.runners.idle = slices.Delete(h.runners.idle, 0, 1)
	delete(h.runners.all, r)
	h.runners.pause = time.Now().Add(runnerPause)
	h.p.spawn(r.retire)
	return true
}

// onRunner runs a command on a runner; false when none is there, and nothing was begun.
func (h *host) onRunner(ctx context.Context, req *sandboxer.ExecRequest) (sandboxer.ExecResult, bool, error) {
	if req.TTY != nil {
		return sandboxer.ExecResult{}, false, nil
	}
	if err := check(req); err != nil {
		return sandboxer.ExecResult{}, false, err
	}
	r := h.runner(ctx)
	if r == nil {
		return sandboxer.ExecResult{}, false, nil
	}
	result, begun, err := r.do(ctx, req, nil)
	h.putBackRunner(r)
	return result, begun, err
}
