//go:build unix

package archive

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// setModTime sets the time of base in dir to the nanosecond, without following a link. os.Root has no such call.
func setModTime(_ *os.Root, d *os.File, base string, mtime time.Time) error {
	conn, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = conn.Control(func(fd uintptr) { set = utimes(int(fd), base, mtime) })
	return errors.Join(err, set)
}

func utimes(dirfd int, base string, mtime time.Time) error {
	at, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return &os.PathError{Op: "set time of", Path: base, Err: err}
	}
	// Both are set: leaving the access time out is spelled differently on each system, and nobody relies on it.
	err = unix.UtimesNanoAt(dirfd, base, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "set time of", Path: base, Err: err}
	}
	return nil
}
