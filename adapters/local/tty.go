//go:build linux || darwin

package local

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer"
)

// The size of a terminal that is given none.
const (
	defaultCols = 80
	defaultRows = 24
)

// openTTY makes a terminal. Everything that the command writes arrives on Stdout.
func (s *streams) openTTY(cmd *exec.Cmd, t sandboxer.TTY) error {
	control, theirs, err := pty.Open()
	if err != nil {
		return fmt.Errorf("a terminal cannot be had: %w", err)
	}
	s.theirs = append(s.theirs, theirs)
	ours, err := pollable(control)
	if err != nil {
		s.abort()
		return fmt.Errorf("a terminal cannot be had: %w", err)
	}
	s.tty, s.in, s.out = true, ours, ours
	if t.Cols <= 0 {
		t.Cols = defaultCols
	}
	if t.Rows <= 0 {
		t.Rows = defaultRows
	}
	if err := setSize(ours, sandboxer.WindowSize{Cols: t.Cols, Rows: t.Rows}); err != nil {
		s.abort()
		return fmt.Errorf("size of the terminal: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr.Setctty = true // its number is that of the command's stdin, 0
	return nil
}

// pollable makes a file whose reads end when it is closed. pty.Open leaves one that does not.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	_ = f.Close() // nothing was written
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // nothing was written
		return nil, err
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

func setSize(f *os.File, size sandboxer.WindowSize) error {
	const most = 1<<16 - 1
	if size.Cols <= 0 || size.Rows <= 0 || size.Cols > most || size.Rows > most {
		return sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("a terminal has 1 to %d columns and rows, not %d and %d", most, size.Cols, size.Rows))
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Control(func(fd uintptr) {
		serr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Rows), Col: uint16(size.Cols)})
	})
	if err != nil {
		return err
	}
	return serr
}

// resize follows the caller's window. A size that no terminal can have is left out.
func (s *streams) resize(sizes <-chan sandboxer.WindowSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			_ = setSize(s.out, size) // the terminal may just have ended
		case <-s.end:
			return
		}
	}
}
