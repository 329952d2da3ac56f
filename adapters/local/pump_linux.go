package local

import (
	"os"

	"golang.org/x/sys/unix"
)

// capacity is how much a pipe can hold; what is no pipe holds less than the 1 MiB that is said of it.
func capacity(f *os.File) int {
	size := 1 << 20
	conn, err := f.SyscallConn()
	if err != nil {
		return size
	}
	_ = conn.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil && n > 0 {
			size = n
		}
	})
	return size
}
