package hosttest

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inside runs f on a thread that is in a network namespace. A socket stays in the namespace that it was made in, so f may
// hand one out. The thread is never unlocked: it ends with its goroutine, and no other goroutine finds itself elsewhere.
// The main thread would not end, and is what /proc/self shows: it is kept busy while another one goes.
func inside(netns string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			result <- inside(netns, f)
			return
		}
		result <- enter(netns, f)
	}()
	return <-result
}

// group is the group that may use the engine's socket.
func (e *Engine) group() int {
	e.tb.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(e.Socket, &stat); err != nil {
		e.tb.Fatal(err)
	}
	if stat.Gid == 0 || stat.Mode&0o060 != 0o060 {
		e.tb.Fatalf("%s has mode %o and group %d; it needs a group of its own that may use it", e.Socket, stat.Mode, stat.Gid)
	}
	return int(stat.Gid)
}

func enter(netns string, f func() error) error {
	ns, err := os.Open(netns)
	if err != nil {
		return err
	}
	err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	_ = ns.Close()
	if err != nil {
		return fmt.Errorf("entering the network namespace %s: %w", netns, err)
	}
	return f()
}
