//go:build unix

package workspace

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// diskFolder is an open directory of this machine. Its names are single elements and are never followed when they are links,
// so that it leads nowhere else whatever changes meanwhile. The system is asked directly: an [os.File] for each of ten
// thousand small files costs more than reading them.
type diskFolder struct {
	f  *os.File
	fd int // of f
}

func openFolder(root *os.Root) (folder, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	return &diskFolder{f, int(f.Fd())}, nil
}

func (d *diskFolder) Close() error { return d.f.Close() }

func (d *diskFolder) names() ([]string, error) {
	names, err := d.f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (d *diskFolder) stat(name string) (entry, bool, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return entry{}, false, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	e, ok := statEntry(name, &st)
	if e.kind == kindLink {
		e.link, err = d.readlink(name)
	}
	return e, ok, err
}

func (d *diskFolder) readlink(name string) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n := 0
		err := retry(func() (err error) {
			n, err = unix.Readlinkat(d.fd, name, b)
			return err
		})
		if err != nil {
			return "", &os.PathError{Op: "readlink", Path: name, Err: err}
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

func (d *diskFolder) open(name string) (file, entry, error) {
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		return err
	})
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a link, or a socket
		return nil, entry{}, errReplaced
	}
	if err != nil {
		return nil, entry{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstat(fd, &st) })
	e, ok := statEntry(name, &st)
	if err == nil && (!ok || e.kind != kindFile) {
		err = errReplaced
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, entry{}, err
	}
	return diskFile{fd}, e, nil
}

// diskFile is an open file.
type diskFile struct{ fd int }

func (f diskFile) Read(p []byte) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Read(f.fd, p)
		return err
	})
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (f diskFile) Close() error { return unix.Close(f.fd) }

// retry calls again when a signal interrupts.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func statEntry(name string, st *unix.Stat_t) (entry, bool) {
	sec, nsec := st.Mtim.Unix()
	e := entry{name: name, perm: uint16(st.Mode) & (permBits | sticky), sec: sec, nsec: int32(nsec)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.kind, e.size = kindFile, st.Size
	case unix.S_IFDIR:
		e.kind = kindDir
	case unix.S_IFLNK:
		e.kind = kindLink
	default:
		return e, false
	}
	return e, true
}
