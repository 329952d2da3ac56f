package workspace_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// peers are rsync and tar over OpenSSH's client, on a connection that is kept by a ControlMaster.
type peers struct {
	s    *sshtest.Server
	args []string
}

func newPeers(b *testing.B, s *sshtest.Server) *peers {
	b.Helper()
	for _, p := range []string{"ssh", "rsync", "tar"} {
		if _, err := exec.LookPath(p); err != nil {
			b.Skipf("there is no %s to compare with", p)
		}
	}
	p := &peers{s, []string{"-F", "none", "-i", s.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-c", "aes128-gcm@openssh.com",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.Dir, "known_hosts"), "-o", "StrictHostKeyChecking=accept-new",
		"-p", s.Port(), "-S", filepath.Join(s.Dir, "master")}}
	cmd := exec.Command("ssh", append(slices.Clone(p.args), "-M", "-N", s.User+"@127.0.0.1")...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(b, waitLong, "the ControlMaster is up", func() bool {
		return exec.Command("ssh", append(slices.Clone(p.args), "-O", "check", "x")...).Run() == nil
	})
	return p
}

func (p *peers) rsync(src, dst string) *exec.Cmd {
	return exec.Command("rsync", "-a", "--delete", "-e", "ssh "+strings.Join(p.args, " "), src+"/", p.s.User+"@127.0.0.1:"+dst+"/")
}

// tar is what people type: with kept false, on a connection of its own.
func (p *peers) tar(src, dst string, kept bool) *exec.Cmd {
	args := []string{"-c", `src=$1 dst=$2;shift 2;tar -C "$src" -cf - . | ssh "$@" "mkdir -p $dst && tar -C $dst -xpf -"`, "sh", src, dst}
	to := p.args
	if !kept {
		to = to[:len(to)-2]
	}
	return exec.Command("sh", append(append(args, to...), p.s.User+"@127.0.0.1")...)
}

// tree is a copy of Go's source with times of its own, and a place for copies of it.
func tree(b *testing.B) (src, place string) {
	b.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("there is no go to ask for its source")
	}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && runtime.GOOS == "linux" {
		place = "/dev/shm" // where no disk blurs the result
	}
	if place, err = os.MkdirTemp(place, "peers"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(place) })
	src = filepath.Join(place, "src")
	if out, err := exec.Command("cp", "-r", filepath.Join(strings.TrimSpace(string(goroot)), "src"), src).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return src, place
}

// touch changes every hundredth file.
func touch(b *testing.B, src string, round int) {
	b.Helper()
	n := 0
	err := filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n++; n%100 != round%100 {
			return nil
		}
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "// %d\n", round)
		_ = f.Close()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// BenchmarkPeers compares with rsync and tar in one run, alternating, so that what else the machine does hits all of them.
func BenchmarkPeers(b *testing.B) {
	type sample struct{ ours, rsync, tar, kept []time.Duration }
	run := func(b *testing.B, cmd *exec.Cmd) time.Duration {
		b.Helper()
		begin := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v: %s", cmd.Args[0], err, out)
		}
		return time.Since(begin)
	}
	report := func(b *testing.B, s *sample) {
		b.Helper()
		ours, rsync := median(s.ours), median(s.rsync)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(ours.Microseconds())/1000, "ms-ours")
		b.ReportMetric(float64(rsync.Microseconds())/1000, "ms-rsync")
		b.ReportMetric(float64(ours)/float64(rsync), "x-rsync")
		if len(s.tar) > 0 {
			b.ReportMetric(float64(median(s.tar).Microseconds())/1000, "ms-tar")
			b.ReportMetric(float64(ours)/float64(median(s.tar)), "x-tar")
			b.ReportMetric(float64(median(s.kept).Microseconds())/1000, "ms-tar-kept")
			b.ReportMetric(float64(ours)/float64(median(s.kept)), "x-tar-kept")
		}
	}
	b.Run("fresh", func(b *testing.B) {
		s := sshtest.Start(b)
		c, p := connect(b, s), newPeers(b, s)
		src, place := tree(b)
		root := openRoot(b, src)
		push := func(dst string) time.Duration {
			begin := time.Now()
			if _, err := workspace.Push(b.Context(), c, dst, root, workspace.PushOptions{}); err != nil {
				b.Fatal(err)
			}
			return time.Since(begin)
		}
		clean := func() {
			for _, d := range []string{"ours", "rsync", "tar", "kept"} {
				remove(b, filepath.Join(place, d))
			}
		}
		push(filepath.Join(place, "ours"))
		run(b, p.tar(src, filepath.Join(place, "tar"), true))
		var got sample
		for b.Loop() {
			clean()
			got.ours = append(got.ours, push(filepath.Join(place, "ours")))
			got.tar = append(got.tar, run(b, p.tar(src, filepath.Join(place, "tar"), false)))
			got.kept = append(got.kept, run(b, p.tar(src, filepath.Join(place, "kept"), true)))
			got.rsync = append(got.rsync, run(b, p.rsync(src, filepath.Join(place, "rsync"))))
		}
		report(b, &got)
	})
	for _, changed := range []bool{false, true} {
		name := map[bool]string{false: "unchanged", true: "one-percent"}[changed]
		b.Run(name, func(b *testing.B) {
			s := sshtest.Start(b)
			c, p := connect(b, s), newPeers(b, s)
			src, place := tree(b)
			root := openRoot(b, src)
			push := func() time.Duration {
				begin := time.Now()
				if _, err := workspace.Push(b.Context(), c, filepath.Join(place, "ours"), root, workspace.PushOptions{}); err != nil {
					b.Fatal(err)
				}
				return time.Since(begin)
			}
			push()
			run(b, p.rsync(src, filepath.Join(place, "rsync")))
			var got sample
			for round := 0; b.Loop(); round++ {
				if changed {
					touch(b, src, round)
				}
				got.ours = append(got.ours, push())
				got.rsync = append(got.rsync, run(b, p.rsync(src, filepath.Join(place, "rsync"))))
			}
			report(b, &got)
		})
	}
}
