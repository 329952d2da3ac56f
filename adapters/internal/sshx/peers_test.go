package sshx_test

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// peer is OpenSSH's client for the same server.
type peer struct {
	s    *sshtest.Server
	args []string
}

func newPeer(b *testing.B, s *sshtest.Server) *peer {
	b.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		b.Skip("there is no ssh to compare with")
	}
	return &peer{s, []string{"-F", "none", "-i", s.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.Dir, "known_hosts"), "-o", "StrictHostKeyChecking=accept-new", "-p", s.Port()}}
}

// master starts a ControlMaster that lives as long as the benchmark.
func (p *peer) master(b *testing.B) *peer {
	b.Helper()
	socket := filepath.Join(p.s.Dir, "master")
	m := &peer{p.s, append(slices.Clone(p.args), "-S", socket)}
	p.run(b, "true") // knows the host now
	cmd := exec.Command("ssh", append(m.args, "-M", "-N", p.s.User+"@127.0.0.1")...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for begun := time.Now(); ; {
		if exec.Command("ssh", append(m.args, "-O", "check", "x")...).Run() == nil {
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

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// report prints ours, theirs, and ours as a multiple of theirs.
func report(b *testing.B, ours, theirs time.Duration) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.Microseconds())/1000, "ms-ours")
	b.ReportMetric(float64(theirs.Microseconds())/1000, "ms-ssh")
	b.ReportMetric(float64(ours)/float64(theirs), "x-ssh")
}

func plain() sshx.Config { return sshx.Config{SSHConfig: "none", Agent: "none"} }

// BenchmarkPeers compares with OpenSSH in one run, alternating, so that what else the machine does hits both.
func BenchmarkPeers(b *testing.B) {
	b.Run("exec-p50", func(b *testing.B) {
		s := sshtest.Start(b)
		c, theirs := connect(b, s, plain()), newPeer(b, s).master(b)
		if _, err := c.Output(b.Context(), "true"); err != nil {
			b.Fatal(err)
		}
		var mine, other []time.Duration
		for b.Loop() {
			begin := time.Now()
			if _, err := c.Output(b.Context(), "true"); err != nil {
				b.Fatal(err)
			}
			half := time.Now()
			theirs.run(b, "true")
			mine, other = append(mine, half.Sub(begin)), append(other, time.Since(half))
		}
		report(b, median(mine), median(other))
	})
	b.Run("cold", func(b *testing.B) {
		s := sshtest.Start(b)
		theirs := newPeer(b, s)
		theirs.run(b, "true")
		var mine, other []time.Duration
		for b.Loop() {
			begin := time.Now()
			p := sshx.NewPool(plain())
			c, err := p.Host(b.Context(), s.Host(), s.Secret)
			if err == nil {
				_, err = c.Output(b.Context(), "true")
			}
			if err != nil {
				b.Fatal(err)
			}
			half := time.Now()
			_ = p.Close()
			again := time.Now()
			theirs.run(b, "true")
			mine, other = append(mine, half.Sub(begin)), append(other, time.Since(again))
		}
		report(b, median(mine), median(other))
	})
	b.Run("exec-64-callers", func(b *testing.B) {
		s := sshtest.Start(b)
		c, theirs := connect(b, s, plain()), newPeer(b, s).master(b)
		rate := func(f func() error) float64 {
			var n atomic.Int64
			var wg sync.WaitGroup
			begin := time.Now()
			for range 64 {
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
		for b.Loop() {
			ours := rate(func() error { _, err := c.Output(b.Context(), "true"); return err })
			// More than MaxSessions at a time is refused to OpenSSH's client, so it gets eight callers, which is its best.
			slots := make(chan struct{}, 8)
			ssh := rate(func() error {
				slots <- struct{}{}
				defer func() { <-slots }()
				if out, err := theirs.command("true").CombinedOutput(); err != nil {
					return fmt.Errorf("ssh: %w: %s", err, out)
				}
				return nil
			})
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours, "execs/s-ours")
			b.ReportMetric(ssh, "execs/s-ssh")
			b.ReportMetric(ours/ssh, "x-ssh")
		}
	})
}

// BenchmarkPeersTransfer uploads what cannot be compressed, near and far: the delay is that of a proxy in front of both.
func BenchmarkPeersTransfer(b *testing.B) {
	for _, delay := range []time.Duration{0, 40 * time.Millisecond} {
		b.Run(fmt.Sprintf("upload-64MiB-trip-%v", 2*delay), func(b *testing.B) {
			s := sshtest.Start(b)
			p := sshtest.NewProxy(b, s.Address)
			p.Delay(delay)
			host := s.Host()
			host.Address = p.Address
			c := connectTo(b, s, plain(), host)
			_, port, _ := net.SplitHostPort(p.Address)
			theirs := newPeer(b, s)
			theirs.args[len(theirs.args)-1] = port
			theirs.args = append(theirs.args, "-c", "aes128-gcm@openssh.com")
			theirs = theirs.master(b)
			data := noise(64 << 20)
			if _, err := c.Output(b.Context(), "true"); err != nil {
				b.Fatal(err)
			}
			var mine, other []time.Duration
			for b.Loop() {
				begin := time.Now()
				got, err := c.Send(b.Context(), sandboxer.ExecRequest{Command: shell("cat >/dev/null"), Stdin: bytes.NewReader(data)})
				if err != nil || got.ExitCode != 0 {
					b.Fatal(got, err)
				}
				half := time.Now()
				cmd := theirs.command("cat >/dev/null")
				cmd.Stdin = bytes.NewReader(data)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				mine, other = append(mine, half.Sub(begin)), append(other, time.Since(half))
			}
			report(b, median(mine), median(other))
		})
	}
}
