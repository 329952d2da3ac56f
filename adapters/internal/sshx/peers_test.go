package sshx_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/beside"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// peer is OpenSSH's client for the same server.
type peer struct {
	s    *sshtest.Server
	args []string
}

func newPeer(b *testing.B, s *sshtest.Server, port string, options ...string) *peer {
	b.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		b.Skip("there is no ssh to compare with")
	}
	p := &peer{s, append([]string{"-F", "none", "-i", s.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.Dir, "known_hosts"), "-o", "StrictHostKeyChecking=accept-new", "-p", port}, options...)}
	p.run(b, "true") // knows the host now
	return p
}

// master starts a ControlMaster that lives as long as the benchmark.
func (p *peer) master(b *testing.B) *peer {
	b.Helper()
	m := &peer{p.s, append(slices.Clone(p.args), "-S", filepath.Join(b.TempDir(), "m"))}
	cmd := exec.Command("ssh", append(slices.Clone(m.args), "-M", "-N", p.s.User+"@127.0.0.1")...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for begun := time.Now(); ; {
		if exec.Command("ssh", append(slices.Clone(m.args), "-O", "check", "x")...).Run() == nil {
			return m
		}
		if time.Since(begun) > 20*time.Second {
			b.Fatal("the ControlMaster does not come up")
		}
	}
}

func (p *peer) command(remote string) *exec.Cmd {
	return exec.Command("ssh", append(slices.Clone(p.args), p.s.User+"@127.0.0.1", remote)...)
}

func (p *peer) run(b *testing.B, remote string) {
	b.Helper()
	if out, err := p.command(remote).CombinedOutput(); err != nil {
		b.Fatalf("ssh: %v: %s", err, out)
	}
}

func plain() sshx.Config { return sshx.Config{SSHConfig: "none", Agent: "none"} }

// rate is how often f ends in a second when callers call it at the same time.
func rate(b *testing.B, callers int, f func() error) func() float64 {
	return func() float64 {
		var n atomic.Int64
		var wg sync.WaitGroup
		begin := time.Now()
		for range callers {
			wg.Go(func() {
				for time.Since(begin) < 2*time.Second {
					if err := f(); err != nil {
						b.Error(err)
						return
					}
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(n.Load()) / time.Since(begin).Seconds()
	}
}

// BenchmarkPeersExec is about commands that do nothing. Ours runs /bin/true; to the shell that sshd starts for OpenSSH's
// client, true is a builtin, which favours it.
func BenchmarkPeersExec(b *testing.B) {
	s := sshtest.Start(b)
	c, cold := connect(b, s, plain()), newPeer(b, s, s.Port())
	master := cold.master(b)
	execOne := func() error {
		got, err := c.Exec(b.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
		if err == nil {
			err = got.Err()
		}
		return err
	}
	small := func() error { _, err := c.Output(b.Context(), "true"); return err }
	theirs := func(p *peer) func() error {
		return func() error {
			if out, err := p.command("true").CombinedOutput(); err != nil {
				return fmt.Errorf("ssh: %w: %s", err, out)
			}
			return nil
		}
	}
	if err := execOne(); err != nil {
		b.Fatal(err)
	}
	b.Run("Exec, p50: ssh, ControlMaster", func(b *testing.B) {
		beside.Compare(b, 300, "ms", 0.4, beside.Timed(b, execOne), beside.Timed(b, theirs(master)))
	})
	b.Run("Small, p50: ssh, ControlMaster", func(b *testing.B) {
		beside.Compare(b, 300, "ms", 0.4, beside.Timed(b, small), beside.Timed(b, theirs(master)))
	})
	// More than MaxSessions at a time is refused to OpenSSH's client, so it gets eight callers, which is its best.
	b.Run("Exec, 64 callers: ssh, ControlMaster, 8 at a time", func(b *testing.B) {
		beside.Compare(b, 5, "1/s", -3.5, rate(b, 64, execOne), rate(b, 8, theirs(master)))
	})
	b.Run("Small, 64 callers: ssh, ControlMaster, 8 at a time", func(b *testing.B) {
		beside.Compare(b, 5, "1/s", -3.5, rate(b, 64, small), rate(b, 8, theirs(master)))
	})
	b.Run("connect and Exec: ssh", func(b *testing.B) {
		var p *sshx.Pool
		beside.Compare(b, 15, "ms", 0.4, func() float64 {
			p = sshx.NewPool(plain())
			defer func() { _ = p.Close() }()
			return beside.Timed(b, func() error {
				c, err := p.Host(b.Context(), s.Host(), s.Secret)
				if err == nil {
					_, err = c.Exec(b.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
				}
				return err
			})()
		}, beside.Timed(b, theirs(cold)))
	})
}
