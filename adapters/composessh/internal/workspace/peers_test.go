package workspace_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/beside"
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

// BenchmarkPeersPush compares with rsync over a ControlMaster and with tar, as a push and as what refreshes it.
func BenchmarkPeersPush(b *testing.B) {
	s := sshtest.Start(b)
	c, p := connect(b, s), newPeers(b, s)
	src, place := tree(b)
	root := openRoot(b, src)
	into := func(dir string, f func(dst string) error) func() float64 {
		dst := filepath.Join(place, dir)
		return func() float64 {
			remove(b, dst)
			return beside.Timed(b, func() error { return f(dst) })()
		}
	}
	push := func(dst string) error {
		_, err := workspace.Push(b.Context(), c, dst, root, workspace.PushOptions{})
		return err
	}
	run := func(cmd *exec.Cmd) error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", cmd.Args[0], err, out)
		}
		return nil
	}
	fresh := into("ours", push)
	fresh()
	for name, peer := range map[string]struct {
		target float64
		run    func(dst string) error
	}{
		"rsync, ControlMaster":         {1 / 2.0, func(dst string) error { return run(p.rsync(src, dst)) }},
		"tar, ssh, tar":                {1 / 1.4, func(dst string) error { return run(p.tar(src, dst, false)) }},
		"tar, ssh, tar, ControlMaster": {1 / 1.4, func(dst string) error { return run(p.tar(src, dst, true)) }},
	} {
		b.Run("fresh push of many files: "+name, func(b *testing.B) { beside.Compare(b, 7, "ms", peer.target, fresh, into("theirs", peer.run)) })
	}
	ours, theirs := filepath.Join(place, "ours"), filepath.Join(place, "theirs")
	if err := errors.Join(push(ours), run(p.rsync(src, theirs))); err != nil {
		b.Fatal(err)
	}
	again, rsync := beside.Timed(b, func() error { return push(ours) }), beside.Timed(b, func() error { return run(p.rsync(src, theirs)) })
	b.Run("refresh of what did not change: rsync, ControlMaster", func(b *testing.B) { beside.Compare(b, 9, "ms", 0.6, again, rsync) })
	b.Run("refresh of 1 percent of the files: rsync, ControlMaster", func(b *testing.B) {
		round := 0
		beside.Compare(b, 9, "ms", 0.6, func() float64 {
			touch(b, src, round)
			round++
			return again()
		}, rsync)
	})
}
