//go:build !linux && !darwin

package boltstore

// bootID: it is not known here, so that every commit is synced in two steps.
func bootID() uint64 { return 0 }
