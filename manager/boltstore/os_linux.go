package boltstore

import (
	"bytes"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"
)

// bootID names this run of the operating system, or is 0 where that is not known.
func bootID() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if b = bytes.TrimSpace(b); err != nil || len(b) == 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return max(h.Sum64(), 1)
}

// readAhead has the system begin to read all of f, in its order; the pages are then asked for in that of the trees.
func readAhead(f *os.File, size int64) {
	_ = unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_WILLNEED)
}
