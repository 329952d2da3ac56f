package sshx

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer"
)

// session is one command on its channel.
type session struct {
	h      *host
	t      *transport
	k      *keeper
	token  string
	ch     ssh.Channel
	exit   chan exitStatus // gets the end of the command; closed with the channel
	over   chan struct{}   // closed with the channel
	broken atomic.Bool     // the channel ended with its connection
	begun  atomic.Bool     // its mark was seen
}

type exitStatus struct {
	code   int
	signal string
}

// start opens a session and sends the command. When it fails with a refusal nothing has run.
func (h *host) start(ctx context.Context, req *sandboxer.ExecRequest) (*session, error) {
	token := newToken()
	line, err := commandLine(req, token)
	if err != nil {
		return nil, err
	}
	return h.startLine(ctx, req.TTY, token, line, h.direct.Load())
}

// startLine opens a session and sends what its shell evaluates.
func (h *host) startLine(ctx context.Context, tty *sandboxer.TTY, token, line string, direct bool) (*session, error) {
	type result struct {
		s   *session
		err error
	}
	done := make(chan result, 1)
	// Opening takes no context: it goes on behind a caller that has gone, and what it opened is closed again.
	if !h.p.spawn(func() {
		s, err := h.begin(ctx, tty, token, line, direct)
		if err == nil && ctx.Err() != nil {
			s.kill()
			s, err = nil, ctxError(ctx, fmt.Errorf("command on %s", h))
		}
		done <- result{s, err}
	}) {
		return nil, errClosed
	}
	select {
	case r := <-done:
		return r.s, r.err
	case <-ctx.Done():
		h.p.spawn(func() {
			if r := <-done; r.s != nil {
				r.s.kill()
			}
		})
		return nil, sandboxer.Mark(codeOf(ctx), fmt.Errorf("command on %s: %w", h, context.Cause(ctx)))
	}
}

func (h *host) begin(ctx context.Context, tty *sandboxer.TTY, token, line string, direct bool) (*session, error) {
	t, ch, requests, err := h.session(ctx, nil)
	if err != nil {
		return nil, err
	}
	return h.launch(ctx, t, ch, requests, tty, token, direct, func(*keeper) string { return line })
}

// launch gives a new channel the line to evaluate.
func (h *host) launch(ctx context.Context, t *transport, ch ssh.Channel, requests <-chan *ssh.Request, tty *sandboxer.TTY, token string, direct bool, line func(*keeper) string) (*session, error) {
	s := &session{h: h, t: t, token: token, ch: ch, exit: make(chan exitStatus, 1), over: make(chan struct{})}
	if !h.p.spawn(func() { s.requests(requests) }) {
		_ = ch.Close()
		return nil, errClosed
	}
	fail := func(err error) (*session, error) {
		if s.k != nil {
			s.kill()
		} else {
			_ = ch.Close()
		}
		return nil, err
	}
	lost := func(err error) error {
		return fmt.Errorf("connection to %s ended: %w", h, err)
	}
	if tty != nil {
		if err := requestTTY(ch, tty); err != nil {
			return fail(sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("%s gives no terminal: %w", h, err)))
		}
	}
	// No reply is waited for: a command that does not start shows by what it does not print.
	if _, err := ch.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{bootstrap(token, direct)})); err != nil {
		return fail(sandboxer.Refused(sandboxer.Unavailable, lost(err)))
	}
	k, err := h.keeperFor(ctx)
	if err != nil {
		return fail(err)
	}
	s.k = k
	k.expect(token)
	if _, err := ch.Write([]byte(announce(k.path, token) + line(k))); err != nil {
		return fail(sandboxer.Mark(sandboxer.Unavailable, lost(err)))
	}
	return s, nil
}

// requests takes what sshd tells about the command, and gives the slot back when the channel has ended on both sides.
func (s *session) requests(in <-chan *ssh.Request) {
	for r := range in {
		switch r.Type {
		case "exit-status":
			var msg struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &msg) == nil {
				s.ended(exitStatus{code: int(msg.Status)})
			}
		case "exit-signal":
			var msg struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}
			if ssh.Unmarshal(r.Payload, &msg) == nil {
				s.ended(exitStatus{code: -1, signal: "SIG" + msg.Signal})
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	s.broken.Store(s.t.c.nc.ended.Load())
	close(s.exit)
	close(s.over)
	s.h.release(s.t)
}

// cut reports whether the channel ended because the connection did. sshd tells a command's end before it sends what is left
// of its output, and to readers both ends look alike.
func (s *session) cut() bool {
	if !s.t.c.nc.ended.Load() {
		return false
	}
	<-s.over
	return s.broken.Load()
}

func (s *session) ended(e exitStatus) {
	select {
	case s.exit <- e:
	default: // a second one is not to be believed
	}
}

// kill ends everything the command started and then the channel, and reports whether the host has confirmed it. It waits
// KillGrace at most; the host goes on without us.
func (s *session) kill() bool {
	limit := time.NewTimer(s.h.p.cfg.KillGrace)
	defer limit.Stop()
	confirmed := false
	select {
	case <-s.k.kill(s.token, s.begun.Load()):
		confirmed = true
	case <-s.k.done:
	case <-limit.C:
	}
	s.close(!confirmed)
	return confirmed
}

// close ends the channel without waiting for the peer.
func (s *session) close(signal bool) {
	s.h.p.spawn(func() {
		if signal { // sshd signals the process group, where there is no keeper any more
			_, _ = s.ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"KILL"}))
		}
		_ = s.ch.Close()
	})
}
