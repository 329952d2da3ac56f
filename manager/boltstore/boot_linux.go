package boltstore

import (
	"bytes"
	"hash/fnv"
	"os"
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
