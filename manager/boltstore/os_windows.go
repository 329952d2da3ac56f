package boltstore

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

const mapAhead = false

// lockFile locks a byte far behind what is written in f, which others must be able to read.
func lockFile(f *os.File) (held bool, err error) {
	return lockByte(f, windows.Overlapped{OffsetHigh: 1})
}

func lockByte(f *os.File, at windows.Overlapped) (held bool, err error) {
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

// Where the store's file is locked: no file is so long. The second is bbolt's.
var (
	ourByte  = windows.Overlapped{OffsetHigh: 1 << 30}
	boltByte = windows.Overlapped{Offset: math.MaxUint32, OffsetHigh: math.MaxUint32}
)

// lockData locks the store's file, for as long as it is open, at a byte of our own, because what is locked here is locked
// against its holder as well; and at bbolt's, for others than this library, until bbolt is to have it.
func lockData(f *os.File) (held bool, err error) {
	if held, err := lockByte(f, ourByte); held || err != nil {
		return held, err
	}
	return lockByte(f, boltByte)
}

// shareData lets bbolt lock f. Whoever else locks as bbolt does may come before it, and then bbolt refuses.
func shareData(f *os.File) {
	at := boltByte
	_ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at)
}

// renamesOpen: no file can be put in the place of one that is open.
const renamesOpen = false

// removeLocked cannot remove an open file here, and does not try afterwards: another may have locked it by then.
func removeLocked(f *os.File, _ string) {
	_ = f.Truncate(0)
	_ = f.Close()
}

func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// syncDir: a rename is durable here without it.
func syncDir(string) error { return nil }
