package local_test

import "golang.org/x/sys/unix"

func mountSmall(at string) error {
	return unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4m,mode=0700")
}

func unmount(at string) error { return unix.Unmount(at, 0) }
