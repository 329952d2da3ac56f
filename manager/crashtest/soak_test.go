package crashtest_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// soakTime is how long TestSoak runs: SANDBOXER_SOAK, a duration, or a few seconds.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SANDBOXER_SOAK")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SANDBOXER_SOAK: %v", err)
	}
	return d
}

// TestSoak uses a Manager from 16 callers at once in a process that is killed at random, over a backend that fails at
// random, and counts what is left. It was seen to fail with each of the changes named at TestCrashPoints.
func TestSoak(t *testing.T) {
	t.Parallel()
	child := build(t)
	w := newWorld(t, scenario{})
	var promised []string
	kills, faults, duplicates := 0, 0, 0
	for end := time.Now().Add(soakTime(t)); time.Now().Before(end); {
		ctx, cancel := context.WithCancel(t.Context())
		var weather sync.WaitGroup
		weather.Go(func() { faults += w.weather(ctx) })
		out := w.killAfter(child, 200*time.Millisecond+rand.N(2*time.Second))
		cancel()
		weather.Wait()
		w.backend.Heal()
		kills++
		promised = append(promised, promises(out)...)
		duplicates += twice(w.backend.Live())
	}
	creates := 0
	for _, line := range promised {
		if strings.HasPrefix(line, "have ") {
			creates++
		}
	}
	t.Logf("%d creates returned, %d kills, %d faults; %d duplicates; leaks and unaccounted seconds follow as errors, or there are none", creates, kills, faults, duplicates)
	if duplicates > 0 {
		t.Errorf("%d sandboxes existed twice at once", duplicates)
	}
	if creates == 0 {
		t.Error("nothing was created: the soak proves nothing")
	}
	w.check(promised)
	if !t.Failed() {
		t.Logf("soak: %d creates, %d kills, %d faults, 0 leaks, 0 duplicates, 0 unaccounted seconds", creates, kills, faults)
	}
}

// killAfter runs the soak for a while and ends it with SIGKILL.
func (w *world) killAfter(child string, after time.Duration) string {
	w.t.Helper()
	cmd := exec.Command(child, w.store, w.url, "soak") //nolint:noctx // it is killed below
	cmd.Env = []string{"TMPDIR=" + w.dir, "PATH=" + os.Getenv("PATH")}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	select {
	case err := <-died:
		w.t.Fatalf("the process ended by itself: %v\n%s", err, errs.String())
	case <-time.After(after):
		_ = cmd.Process.Kill()
		<-died
	}
	text := out.String() // the last line may be cut
	return text[:strings.LastIndexByte(text, '\n')+1]
}

// weather makes the backend fail at random until ctx ends, and counts the faults.
func (w *world) weather(ctx context.Context) int {
	ops := []sandboxer.Op{
		sandboxer.OpProvision, sandboxer.OpProvision, sandboxer.OpWaitReady, sandboxer.OpTeardown, sandboxer.OpFind, sandboxer.OpList,
		sandboxer.OpInspect, sandboxer.OpSnapshot, sandboxer.OpRestore, sandboxer.OpDeleteSnapshot, sandboxer.OpExtend, sandboxer.OpPause,
		sandboxer.OpResume, sandboxer.OpMeterActual, sandboxer.OpExec,
	}
	n := 0
	for ctx.Err() == nil {
		op := ops[rand.IntN(len(ops))]
		f := fake.Fault{Op: op, Times: 1, Delay: rand.N(30 * time.Millisecond)}
		switch rand.IntN(4) {
		case 0:
			f.Err = sandboxer.Refused(sandboxer.Unavailable, errors.New("busy"))
		case 1:
			f.Err = sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset"))
		case 2:
			f.Err, f.Effect = sandboxer.Mark(sandboxer.Unavailable, errors.New("connection reset")), fake.After
		}
		if f.Err != nil && f.Effect == fake.After && op == sandboxer.OpProvision && rand.IntN(4) == 0 {
			f.Extension, f.Late = "ext.full", rand.N(300*time.Millisecond)
		}
		if op == sandboxer.OpTeardown && rand.IntN(4) == 0 {
			f.Err, f.Effect, f.Extension, f.Linger = nil, fake.Before, "ext.full", rand.N(300*time.Millisecond)
		}
		w.backend.Fail(f)
		n++
		select {
		case <-ctx.Done():
		case <-time.After(25 * time.Millisecond):
		}
	}
	return n
}

// twice counts sandboxes of which more than one attempt exists.
func twice(live []string) int {
	seen := map[string]int{}
	n := 0
	for _, name := range live {
		if strings.HasPrefix(name, "snapshot/") {
			continue
		}
		parts := strings.SplitN(name, "-", 3) // "sbx-<id>" or "sbx-<id>-<n>"
		id := strings.Join(parts[:2], "-")
		if seen[id]++; seen[id] == 2 {
			n++
		}
	}
	return n
}
