//go:build !linux && !darwin

package boltstore

import "os"

// bootID: it is not known here, so that every commit is synced in two steps.
func bootID() uint64 { return 0 }

// readAhead: the system does it well enough by itself.
func readAhead(*os.File, int64) {}

// holderOf: the system does not say who has locked f.
func holderOf(*os.File) holder { return holder{} }
