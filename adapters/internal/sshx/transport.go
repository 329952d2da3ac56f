package sshx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// transport is one live connection.
type transport struct {
	h    *host
	c    *connected
	done chan struct{} // closed when it ended
	once sync.Once
	err  error // why it ended; set before done is closed

	// Guarded by h.mu.
	open     int       // sessions that were claimed and not given back
	pinned   int       // other uses: forwards and listeners
	limit    int       // sessions that sshd gives, as learned
	refusals int       // in a row
	held     time.Time // no session is asked for before
	released time.Time
	used     time.Time
	rtt      time.Duration // the shortest that a channel took to open
}

// watch ends the connection when its peer is dead or nobody uses it, and forgets it when it ended.
func (t *transport) watch() {
	t.h.p.spawn(func() {
		err := t.c.client.Wait()
		t.fail(fmt.Errorf("connection to %s ended: %w", t.h, orClosed(err)))
		t.h.lost(t)
	})
	t.h.p.spawn(t.keepAlive)
}

func orClosed(err error) error {
	if err == nil {
		return errors.New("closed by the server")
	}
	return err
}

// fail ends the connection; the first reason counts.
func (t *transport) fail(err error) {
	t.once.Do(func() {
		t.err = err
		t.c.close()
		close(t.done)
	})
}

func (t *transport) keepAlive() {
	every := t.h.p.cfg.KeepAlive
	tick := time.NewTicker(max(every/4, time.Millisecond))
	defer tick.Stop()
	asking := make(chan struct{}, 1)
	var asked time.Time // since when an answer is awaited; this process may get no time for long, which says nothing of the peer
	for {
		select {
		case <-t.done:
			return
		case <-tick.C:
		}
		silence := t.c.nc.silence()
		switch {
		case silence < every:
			asked = time.Time{}
		case asked.IsZero():
			asked = time.Now()
			select {
			case asking <- struct{}{}:
				// Its reply is not waited for: that something is read is what counts. It ends with the connection.
				t.h.p.spawn(func() {
					_, _, _ = t.c.client.SendRequest("keepalive@openssh.com", true, nil)
					<-asking
				})
			default:
			}
		case time.Since(asked) >= every:
			t.fail(fmt.Errorf("connection to %s ended: nothing was heard for %v", t.h, silence.Round(time.Millisecond)))
			return
		}
		if t.idle() {
			t.fail(fmt.Errorf("connection to %s ended: unused for %v", t.h, t.h.p.cfg.IdleTimeout))
			return
		}
	}
}

// idle reports whether nothing used the connection for IdleTimeout, and takes it out of use then.
func (t *transport) idle() bool {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	own := 0
	if k := t.h.keeper; k != nil && k.on(t) {
		if k.runs() > len(t.h.idlers)+len(t.h.runners.idle) {
			return false
		}
		own = 1
	}
	for _, r := range t.h.idlers {
		if r.s.t == t {
			own++
		}
	}
	for _, r := range t.h.runners.idle {
		if r.s.t == t {
			own++
		}
	}
	if t.open > own || t.pinned > 0 || time.Since(t.used) < t.h.p.cfg.IdleTimeout {
		return false
	}
	t.limit = 0
	return true
}

// openSession opens a session channel; it ends at the latest when the connection does.
func (t *transport) openSession() (ssh.Channel, <-chan *ssh.Request, error) {
	begin := time.Now()
	ch, requests, err := t.c.client.OpenChannel("session", nil)
	if err != nil {
		return nil, nil, err
	}
	took := time.Since(begin)
	t.h.mu.Lock()
	if t.rtt == 0 || took < t.rtt {
		t.rtt = took
	}
	t.h.mu.Unlock()
	t.h.granted(t)
	return ch, requests, nil
}

// session claims a slot and opens a session, on whatever connection gives one. Nothing has run when it fails.
func (h *host) session(ctx context.Context, claimed *transport) (*transport, ssh.Channel, <-chan *ssh.Request, error) {
	t := claimed
	for lost := 0; ; {
		if t == nil {
			var err error
			if t, err = h.acquire(ctx); err != nil {
				return nil, nil, nil, err
			}
		}
		ch, requests, err := t.openSession()
		if err == nil {
			return t, ch, requests, nil
		}
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			if err := h.refused(t, err); err != nil {
				return nil, nil, nil, err
			}
		} else {
			t.fail(fmt.Errorf("connection to %s ended: %w", h, err))
			h.lost(t)
			if lost++; lost > 3 {
				return nil, nil, nil, dialError(ctx, h.String(), err)
			}
		}
		t = nil
	}
}
