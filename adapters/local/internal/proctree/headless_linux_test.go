package proctree_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer/adapters/local/internal/proctree"
)

// envHeadless makes this program one whose main thread ends.
const envHeadless = "SANDBOXER_TEST_HEADLESS"

// headless ends the main thread, as pthread_exit in main does, says so, and runs on.
func headless() {
	go onMainThread()
	tick := time.NewTicker(time.Millisecond)
	for ; ; <-tick.C { // this goroutine must not be what keeps the main thread
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", os.Getpid()))
		if i := bytes.LastIndexByte(stat, ')'); err == nil && i > 0 && bytes.HasPrefix(stat[i:], []byte(") Z")) {
			break
		}
	}
	fmt.Println("ready")
	select {}
}

// onMainThread ends the thread that it is on if that is the main one; otherwise it keeps it, and another tries.
func onMainThread() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // of this thread alone
	}
	go onMainThread()
	select {}
}

// TestKillEndsWhatHasNoMainThread: a process whose main thread has ended and whose others go on is alive. It was taken for
// one that had ended: no time limit ended it, and a removed sandbox left it running.
func TestKillEndsWhatHasNoMainThread(t *testing.T) {
	if os.Getenv(envHeadless) != "" {
		headless()
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, by := range map[string]func(marker string, root proctree.Proc) proctree.Selector{
		"by its marker": func(m string, _ proctree.Proc) proctree.Selector { return proctree.Selector{Marker: m} },
		"as the root":   func(_ string, p proctree.Proc) proctree.Selector { return proctree.Selector{Root: p} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := marker(t)
			cmd := start(t, m, envHeadless+`=1 exec '`+exe+`' -test.run='^TestKillEndsWhatHasNoMainThread$'`)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = cmd.Wait()
			}()
			t.Cleanup(func() { // also where the test fails
				_ = cmd.Process.Kill()
				<-ended
			})
			sel := by(m, proctree.Of(cmd.Process.Pid))
			if got, err := proctree.Find(sel); err != nil || len(got) != 1 || got[0] != cmd.Process.Pid {
				t.Errorf("Find = %v, %v; want %d", got, err, cmd.Process.Pid)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if n, err := proctree.Kill(ctx, sel); n != 1 || err != nil {
				t.Errorf("Kill = %d, %v; want 1 process", n, err)
			}
			select {
			case <-ended:
			case <-ctx.Done():
				t.Error("it runs on")
			}
		})
	}
}
