//go:build unix

package boltstore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const mapAhead = true

// lockFile locks f for this open file alone, and reports whether another has it.
func lockFile(f *os.File) (held bool, err error) {
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// lockData locks the store's file. bbolt's lock is the same, and it is the open file that has it, however often it asks.
func lockData(f *os.File) (held bool, err error) { return lockFile(f) }

// shareData lets bbolt lock f, which it can.
func shareData(*os.File) {}

// renamesOpen: a file can be put in the place of one that is open.
const renamesOpen = true

func removeLocked(f *os.File, path string) {
	_ = os.Remove(path) // what stays is no obstacle
	_ = f.Close()
}

func isDiskFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// syncDir makes a new name in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
