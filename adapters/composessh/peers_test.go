package composessh_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// healthy is a stack of one service with a health check, as the peer of the benchmark waits for it.
const healthy = `
services:
  app:
    image: ` + hosttest.Image + `
    command: [sh, -c, "sleep 0.3; touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 0.2; done"]
    healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 1s, retries: 50}
    volumes: [".:/src"]
`

// BenchmarkPeersCreate measures a create until it is ready beside `ssh host docker compose up -d --wait` over a connection
// that is kept, one after the other in one run. It reports our median time as a multiple of theirs.
func BenchmarkPeersCreate(b *testing.B) {
	h := hosttest.Start(b, 1)
	repo := repository(b, healthy)
	ext := build(b, adapter(""))
	where := filepath.Join(h.Server.Dir, "master")
	known := filepath.Join(h.Server.Dir, "known")
	host, port, _ := strings.Cut(h.Host().Address, ":")
	ssh := func(args ...string) *exec.Cmd {
		return exec.Command("ssh", append([]string{"-F", "none", "-i", h.Server.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=accept-new", "-p", port, "-S", where}, args...)...)
	}
	if out, err := ssh(h.Host().User+"@"+host, "true").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	master := ssh("-M", "-N", h.Host().User+"@"+host)
	if err := master.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = master.Process.Kill(); _ = master.Wait() })
	for begun := time.Now(); ssh("-O", "check", "x").Run() != nil; pause(b, 20*time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			b.Fatal("the ControlMaster does not come up")
		}
	}
	ours := func() time.Duration {
		req := provisionRequest(h, repo)
		begun := time.Now()
		handle, err := ext.Provision(context.Background(), req)
		if err == nil {
			_, err = ext.WaitReady(context.Background(), target(req, handle))
		}
		took := time.Since(begun)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ext.Teardown(context.Background(), target(req, handle)); err != nil {
			b.Fatal(err)
		}
		return took
	}
	n := 0
	theirs := func() time.Duration {
		n++
		name := "peer" + string(rune('a'+n%26))
		begun := time.Now()
		out, err := ssh(h.Host().User+"@"+host, "docker compose -p "+name+" -f "+filepath.Join(repo, "compose.yaml")+" up -d --wait").CombinedOutput()
		took := time.Since(begun)
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		if out, err := ssh(h.Host().User+"@"+host, "docker compose -p "+name+" down -t 1").CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		return took
	}
	ours() // what is asked once for each host
	var a, c []time.Duration
	for b.Loop() {
		a, c = append(a, ours()), append(c, theirs())
	}
	slices.Sort(a)
	slices.Sort(c)
	b.ReportMetric(float64(a[len(a)/2])/float64(c[len(c)/2]), "x-compose")
	b.ReportMetric(float64(a[len(a)/2].Milliseconds()), "ms-ours")
	b.ReportMetric(float64(c[len(c)/2].Milliseconds()), "ms-theirs")
}
