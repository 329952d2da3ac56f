package policy_test

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// spent is the processor time of this goroutine so far, which the load of the machine does not change. It keeps the
// goroutine on its thread.
func spent() time.Duration {
	runtime.LockOSThread()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
