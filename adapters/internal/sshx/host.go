package sshx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	defaultSessions = 10 // MaxSessions of sshd, until a server shows that its own is lower
	// growAfter is how long a call waits for a session of an open connection before another is opened: a handshake costs
	// what 20 short commands cost.
	growAfter = 50 * time.Millisecond
)

// host is the connections to one host, and who waits for a session on one of them.
type host struct {
	p   *Pool
	way []*hop
	// direct is whether the login shell runs our line itself; found out by the keeper.
	direct atomic.Bool

	mu         sync.Mutex
	closed     bool
	transports []*transport
	waiters    []*waiter
	dials      int
	stopDials  context.CancelFunc // of the dials that are under way
	noGrowth   time.Time          // a further connection was refused: none is opened before
	limit      int                // sessions per connection, as learned
	keeper     *keeper
	idlers     []*resident   // residents that wait for a command
	residents  int           // all of them
	freed      chan struct{} // gets a token when a resident has become idle
	runners    runners
}

type waiter struct{ ready chan grant }

type grant struct {
	t   *transport
	err error
}

func (h *host) String() string { return h.way[len(h.way)-1].String() }

// acquire claims a session slot of a live connection, waiting and connecting as needed.
func (h *host) acquire(ctx context.Context) (*transport, error) {
	if ctx.Err() != nil {
		return nil, ctxError(ctx, fmt.Errorf("connect to %s", h))
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, errClosed
	}
	if len(h.waiters) == 0 {
		if t := h.free(); t != nil {
			t.open++
			h.mu.Unlock()
			return t, nil
		}
	}
	w := &waiter{ready: make(chan grant, 1)}
	h.waiters = append(h.waiters, w)
	if len(h.transports) == 0 {
		h.grow()
	}
	h.reclaim()
	h.mu.Unlock()

	tick := time.NewTicker(growAfter)
	defer tick.Stop()
	for {
		select {
		case g := <-w.ready:
			return g.t, g.err
		case <-tick.C:
			h.mu.Lock()
			h.serve() // what was held back may be free again
			h.reclaim()
			h.grow()
			h.mu.Unlock()
		case <-ctx.Done():
			h.leave(w)
			return nil, ctxError(ctx, fmt.Errorf("waiting for a session on %s", h))
		}
	}
}

// leave takes back a waiter that gave up. Nobody else waiting, a dial has no purpose.
func (h *host) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.waiters, w); i >= 0 {
		h.waiters = slices.Delete(h.waiters, i, i+1)
		if len(h.waiters) == 0 && h.stopDials != nil {
			h.stopDials()
		}
		return
	}
	if g := <-w.ready; g.t != nil { // granted in the same moment
		g.t.open--
		h.serve()
	}
}

// free returns a connection with a free session slot, or nil. Called with mu held, as all below whose comment says nothing.
func (h *host) free() *transport {
	now := time.Now()
	for _, t := range h.transports {
		if t.open < min(t.limit, h.limit) && !now.Before(t.held) {
			return t
		}
	}
	return nil
}

// serve hands free slots to those who wait longest.
func (h *host) serve() {
	for len(h.waiters) > 0 {
		t := h.free()
		if t == nil {
			return
		}
		t.open++
		h.waiters[0].ready <- grant{t: t}
		h.waiters = slices.Delete(h.waiters, 0, 1)
	}
}

// grow opens connections for those who wait.
func (h *host) grow() {
	want := min((len(h.waiters)+h.limit-1)/h.limit, maxHandshakes)
	for h.dials < want && len(h.transports)+h.dials < h.p.cfg.MaxConns && !h.closed &&
		(len(h.transports) == 0 || !time.Now().Before(h.noGrowth)) {
		if h.dials == 0 {
			ctx, cancel := context.WithCancel(h.p.ctx)
			h.stopDials = cancel
			h.dialWith(ctx)
		} else {
			return // one more with each tick
		}
	}
}

func (h *host) dialWith(ctx context.Context) {
	h.dials++
	ok := h.p.spawn(func() {
		c, err := h.p.dial(ctx, h.way)
		h.mu.Lock()
		defer h.mu.Unlock()
		stopped := ctx.Err() != nil && h.p.ctx.Err() == nil
		h.dials--
		if h.dials == 0 {
			h.stopDials()
			h.stopDials = nil
		}
		if err == nil && h.closed {
			c.close()
			err = errClosed
		}
		switch {
		case err == nil:
			h.adopt(c)
		case stopped: // nobody waited any more; whoever has come since is not to hear of it
			h.grow()
		default:
			h.noGrowth = time.Now().Add(time.Second)
			if len(h.transports) == 0 {
				h.failWaiters(err)
			}
		}
	})
	if !ok {
		h.dials--
		h.failWaiters(errClosed)
	}
}

func (h *host) failWaiters(err error) {
	for _, w := range h.waiters {
		w.ready <- grant{err: err}
	}
	h.waiters = nil
}

// adopt makes a new connection usable. The keeper's session is the first on it when there is no keeper yet.
func (h *host) adopt(c *connected) {
	t := &transport{h: h, c: c, limit: defaultSessions, done: make(chan struct{}), used: time.Now()}
	h.transports = append(h.transports, t)
	t.watch()
	if h.keeper == nil || h.keeper.ended() {
		t.open++
		h.keeper = newKeeper(h, t)
	}
	h.serve()
}

// release gives a slot back, when sshd has closed the session. Called without mu.
func (h *host) release(t *transport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.open--
	t.used = time.Now()
	t.released = t.used
	h.serve()
}

// refused notes that sshd refused a session that a slot was claimed for, and gives the slot back. sshd frees its slots a
// little after the client sees a session end, so not every refusal tells the limit. Called without mu. It returns an error
// when the server gives no session at all.
func (h *host) refused(t *transport, cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.open--
	t.refusals++
	now := time.Now()
	t.held = now.Add(jitter(min(20*time.Millisecond*time.Duration(t.refusals), time.Second)))
	if t.open > 0 && (now.Sub(t.released) > 200*time.Millisecond || t.refusals >= 3) {
		t.limit = min(t.limit, t.open)
		h.limit = min(h.limit, t.limit)
	}
	if t.open <= 0 && t.refusals >= 10 {
		return sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%s accepts the login but gives no session: %w", h, cause))
	}
	h.grow()
	return nil
}

// granted notes that sshd gave the session. Called without mu.
func (h *host) granted(t *transport) {
	h.mu.Lock()
	t.refusals = 0
	t.used = time.Now()
	h.mu.Unlock()
}

// lost forgets a connection that ended. Called without mu.
func (h *host) lost(t *transport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.transports = slices.DeleteFunc(h.transports, func(o *transport) bool { return o == t })
	if len(h.waiters) > 0 {
		h.grow()
	}
}

func (h *host) close() {
	h.mu.Lock()
	h.closed = true
	h.failWaiters(errClosed)
	transports := slices.Clone(h.transports)
	h.mu.Unlock()
	for _, t := range transports {
		t.fail(errors.New("the SSH pool was closed"))
	}
}
