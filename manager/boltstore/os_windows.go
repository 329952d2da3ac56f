package boltstore

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const mapAhead = false

// lockFile locks a byte far behind what is written in f, which others must be able to read.
func lockFile(f *os.File) (held bool, err error) {
	at := windows.Overlapped{OffsetHigh: 1}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

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
