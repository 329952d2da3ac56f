package boltstore

import (
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"
)

// bootID names this run of the operating system, or is 0 where that is not known.
func bootID() uint64 {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil || id == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return max(h.Sum64(), 1)
}

// readAhead: the system does it well enough by itself.
func readAhead(*os.File, int64) {}

// holderOf: the system does not say who has locked f.
func holderOf(*os.File) holder { return holder{} }
