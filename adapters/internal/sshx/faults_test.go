package sshx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// behind connects to the server through a proxy.
func behind(t *testing.T, s *sshtest.Server, cfg sshx.Config) (*sshtest.Proxy, *sshx.Conn) {
	t.Helper()
	p := sshtest.NewProxy(t, s.Address)
	host := s.Host()
	host.Address = p.Address
	return p, connectTo(t, s, cfg, host)
}

const tree = "trap '' TERM HUP INT; sleep %[1]d1 & setsid sh -c 'sleep %[1]d2 & setsid -f sleep %[1]d3; wait' & wait"

// running starts a tree of processes, waits until it is up, and returns what becomes of the call.
func running(ctx context.Context, s *sshtest.Server, c *sshx.Conn, n int) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, sandboxer.ExecRequest{Command: shell(fmt.Sprintf(tree, n))})
		done <- err
	}()
	for i := 1; i <= 3; i++ {
		s.WaitProcess(fmt.Sprintf("sleep %d%d", n, i), 20*time.Second)
	}
	return done
}

// within fails the test unless the call returns in time, and returns its error.
func within(t *testing.T, limit time.Duration, done <-chan error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		t.Fatalf("it hangs for more than %v", limit)
		return nil
	}
}

func usable(t *testing.T, c *sshx.Conn) {
	t.Helper()
	alive(t, func() error {
		_, err := c.Output(t.Context(), "true")
		return err
	})
	alive(t, func() error {
		got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
		return errors.Join(err, got.Err())
	})
}

// alive calls f until it succeeds, or fails otherwise than by a connection of which it is found out only now that it is dead,
// or that a busy machine did not serve for the short time of a test's lease.
func alive(t *testing.T, f func() error) {
	t.Helper()
	for tries := 1; ; tries++ {
		err := f()
		if err == nil {
			return
		}
		if tries == 4 || !strings.Contains(err.Error(), "nothing was heard for") {
			t.Errorf("not usable afterwards: %v", err)
			return
		}
		t.Logf("not usable yet: %v", err)
	}
}

// connectionFaults end all connections, in ways of which the peers learn or do not.
var connectionFaults = []struct {
	name   string
	make   func(*sshtest.Server, *sshtest.Proxy)
	repair func(*sshtest.Proxy)
}{
	{"black hole", func(_ *sshtest.Server, p *sshtest.Proxy) { p.BlackHole(true) }, func(p *sshtest.Proxy) { p.BlackHole(false) }},
	{"half open", func(_ *sshtest.Server, p *sshtest.Proxy) { p.HalfOpen() }, func(p *sshtest.Proxy) { p.BlackHole(false) }},
	{"reset", func(_ *sshtest.Server, p *sshtest.Proxy) { p.Reset() }, func(*sshtest.Proxy) {}},
	{"server restart", func(s *sshtest.Server, _ *sshtest.Proxy) { s.Restart() }, func(*sshtest.Proxy) {}},
}

func TestDeadConnections(t *testing.T) {
	t.Parallel()
	for i, fault := range connectionFaults {
		for j, runner := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, runner %v", fault.name, runner), func(t *testing.T) {
				t.Parallel()
				s := sshtest.Start(t)
				p, c := behind(t, s, shortLease())
				if runner {
					onRunner(t, c)
				}
				done := running(t.Context(), s, c, 7200+i*10+j)
				fault.make(s, p)
				if err := within(t, 20*time.Second, done); sandboxer.CodeOf(err) != sandboxer.Unavailable || sandboxer.IsRefused(err) {
					t.Errorf("error is %v, refused %v; want Unavailable and an unknown fate", err, sandboxer.IsRefused(err))
				}
				s.WaitNoProcess("sleep 7", 20*time.Second) // by itself: two leases at most
				fault.repair(p)
				usable(t, c)
			})
		}
	}
}

// Of several commands that run at once, the one that is cancelled is the one that ends.
func TestCancelEndsNothingElse(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	var ends [4]context.CancelFunc
	var done [4]<-chan error
	for i := range ends {
		var ctx context.Context
		ctx, ends[i] = context.WithCancel(t.Context())
		done[i] = running(ctx, s, c, 7350+i)
	}
	for _, i := range []int{1, 0, 3, 2} {
		ends[i]()
		if err := within(t, 10*time.Second, done[i]); sandboxer.CodeOf(err) != sandboxer.Canceled || strings.Contains(err.Error(), "not confirmed") {
			t.Errorf("command %d: error is %v, want Canceled, and its end confirmed", i, err)
		}
		s.WaitNoProcess(fmt.Sprintf("sleep %d", 7350+i), 0)
		for j := range done {
			select {
			case err := <-done[j]:
				t.Errorf("command %d ended when %d was cancelled: %v", j, i, err)
			default:
			}
		}
	}
}

func TestCancelIntoABlackHole(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	cfg := shortLease()
	cfg.KeepAlive, cfg.KillGrace = time.Minute, 300*time.Millisecond
	p, c := behind(t, s, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := running(ctx, s, c, 7300)
	p.BlackHole(true)
	cancel()
	err := within(t, 5*time.Second, done)
	if sandboxer.CodeOf(err) != sandboxer.Canceled || !strings.Contains(err.Error(), "not confirmed") {
		t.Errorf("error is %v, want one that tells what is not known", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	one := make(chan error, 1)
	go func() { _, err := c.Output(ctx, "true"); one <- err }()
	if err := within(t, 5*time.Second, one); !errors.Is(err, sandboxer.DeadlineExceeded) {
		t.Errorf("error is %v, want DeadlineExceeded", err)
	}
	s.WaitNoProcess("sleep 73", 15*time.Second)
}

func TestDialIntoABlackHole(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	cfg := config()
	cfg.DialTimeout = 2 * time.Second
	p, c := behind(t, s, cfg)
	p.BlackHole(true)
	begin := time.Now()
	_, err := c.Output(t.Context(), "true")
	if !sandboxer.IsRefused(err) || time.Since(begin) > 10*time.Second {
		t.Errorf("after %v: %v; want a refusal", time.Since(begin), err)
	}
	p.BlackHole(false)
	usable(t, c)
}

func TestSlowDrip(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	p, c := behind(t, s, config())
	usable(t, c)
	p.Drip(100, 2*time.Millisecond)
	out, err := c.Output(t.Context(), "head", "-c", "10000", "/dev/zero")
	if err != nil || len(out) != 10000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	data, back := noise(20_000), bytes.Buffer{}
	got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &back})
	if err != nil || got.ExitCode != 0 || !bytes.Equal(back.Bytes(), data) {
		t.Errorf("%+v, %v, %d bytes", got, err, back.Len())
	}
	p.Drip(3000, 2*time.Millisecond)
	dir := filepath.Join(s.Dir, "dripped")
	if err := c.Upload(t.Context(), dir, bytes.NewReader(tarOf(t, "file", data))); err != nil {
		t.Error(err)
	}
	back.Reset()
	if err := c.Download(t.Context(), dir, &back); err != nil || !bytes.Contains(back.Bytes(), data) {
		t.Errorf("%v, %d bytes", err, back.Len())
	}
	p.Drip(0, 0)
}

func TestServerDown(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	c := connect(t, s, config())
	usable(t, c)
	s.Kill()
	// What is sent over a connection that is not known to have ended has an unknown fate; then nothing is sent any more.
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
		if sandboxer.CodeOf(err) != sandboxer.Unavailable || time.Now().After(deadline) {
			t.Fatalf("error is %v, want Unavailable, and refused in the end", err)
		}
		if sandboxer.IsRefused(err) {
			break
		}
	}
	s.Run()
	usable(t, c)
}

// many runs n commands at once, each for a while, and fails the test if one of them sees an error.
func many(t *testing.T, c *sshx.Conn, n, rounds int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for j := range rounds {
				var out strings.Builder
				want := fmt.Sprintf("%d-%d", i, j)
				got, err := c.Exec(t.Context(), sandboxer.ExecRequest{Command: shell("sleep 0.05; printf %s " + want), Stdout: &out})
				if err != nil || got.ExitCode != 0 || out.String() != want {
					t.Errorf("%s: %+v, %v, %q", want, got, err, out.String())
				}
			}
		})
	}
	wg.Wait()
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		config    []string
		n, rounds int
	}{
		{"default server", nil, 64, 2},
		{"MaxSessions 1", []string{"MaxSessions 1"}, 6, 2},
		{"MaxSessions 3", []string{"MaxSessions 3"}, 12, 2},
		{"MaxStartups throttles", []string{"MaxStartups 1", "MaxSessions 2"}, 8, 2},
		{"MaxStartups drops at random", []string{"MaxStartups 2:50:5"}, 64, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := sshtest.Start(t, test.config...)
			c := connect(t, s, config())
			many(t, c, test.n, test.rounds)
			usable(t, c)
		})
	}
}
