package sshx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// ways are those on which a command's output comes.
var ways = []struct {
	name    string
	delay   time.Duration
	prepare func(*testing.T, *sshtest.Server)
	run     func(*sshx.Conn, context.Context, sandboxer.ExecRequest) (sandboxer.ExecResult, error)
}{
	{"in a session", 0, withoutPerl, (*sshx.Conn).Exec},
	{"on a runner", 0, nil, (*sshx.Conn).Exec},
	{"on lanes", 10 * time.Millisecond, nil, (*sshx.Conn).Receive},
}

func onEveryWay(t *testing.T, test func(*testing.T, *sshtest.Server, func(context.Context, sandboxer.ExecRequest) (sandboxer.ExecResult, error))) {
	t.Helper()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t)
			if way.prepare != nil {
				way.prepare(t, s)
			}
			p := sshtest.NewProxy(t, s.Address)
			p.Delay(way.delay)
			host := s.Host()
			host.Address = p.Address
			c := connectTo(t, s, config(), host)
			usable(t, c)
			test(t, s, func(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
				return way.run(c, ctx, req)
			})
		})
	}
}

// slowWriter is nearly always in a Write. It takes no lock: the race detector sees one that goes on after the call.
type slowWriter struct {
	begun chan struct{}
	n     int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.n == 0 {
		close(w.begun)
	}
	<-time.After(50 * time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

func TestNoWriteAfterTheCall(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, s *sshtest.Server, run func(context.Context, sandboxer.ExecRequest) (sandboxer.ExecResult, error)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := &slowWriter{begun: make(chan struct{})}
		go func() { <-w.begun; cancel() }()
		_, err := run(ctx, sandboxer.ExecRequest{Command: []string{"cat", "/dev/zero"}, Stdout: w})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		had := w.n
		s.WaitNoProcess("cat /dev/zero", 10*time.Second)
		<-time.After(150 * time.Millisecond)
		if w.n != had {
			t.Errorf("%d bytes were written after the call", w.n-had)
		}
	})
}

// blockedWriter takes nothing until it is released.
type blockedWriter struct{ begun, release chan struct{} }

func (w blockedWriter) Write(p []byte) (int, error) {
	close(w.begun)
	<-w.release
	return len(p), nil
}

func TestWriterThatBlocksDoesNotHoldTheCall(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, s *sshtest.Server, run func(context.Context, sandboxer.ExecRequest) (sandboxer.ExecResult, error)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := blockedWriter{make(chan struct{}), make(chan struct{})}
		defer close(w.release)
		go func() { <-w.begun; cancel() }()
		done := make(chan error, 1)
		go func() {
			_, err := run(ctx, sandboxer.ExecRequest{Command: []string{"cat", "/dev/zero"}, Stdout: w})
			done <- err
		}()
		if err := within(t, 20*time.Second, done); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		s.WaitNoProcess("cat /dev/zero", 10*time.Second)
	})
}

// TestWriterThatBlocksDoesNotHoldClose: closing a pool waits for the Write of a caller that is gone no longer than for what ends
// on hosts.
func TestWriterThatBlocksDoesNotHoldClose(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	cfg := config()
	cfg.KillGrace = 500 * time.Millisecond
	for _, tty := range []*sandboxer.TTY{nil, {Rows: 24, Cols: 80}} { // on a runner, and in a session
		p := sshx.NewPool(cfg)
		c, err := p.Host(t.Context(), s.Host(), s.Secret)
		if err != nil {
			t.Fatal(err)
		}
		usable(t, c)
		w := blockedWriter{make(chan struct{}), make(chan struct{})}
		ran, closed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"cat", "/dev/zero"}, Stdout: w, TTY: tty})
			ran <- err
		}()
		<-w.begun
		go func() { closed <- p.Close() }()
		if err := within(t, 15*time.Second, closed); err != nil {
			t.Error(err)
		}
		if err := within(t, 15*time.Second, ran); err == nil {
			t.Error("a command on a closed pool has no error")
		}
		close(w.release)
	}
	s.WaitNoProcess("", 10*time.Second)
}
