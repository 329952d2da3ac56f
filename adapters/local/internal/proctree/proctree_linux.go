package proctree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// list reads the process table. Processes that end meanwhile are left out.
func list() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	var out []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := lookup(pid); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// lookup reads /proc/<pid>/stat, see proc_pid_stat(5).
func lookup(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, b)
}

func parseStat(pid int, b []byte) (process, error) {
	_, rest, ok := cutLast(b, ')') // the name before it may contain anything
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat has an unknown format", pid)
	}
	var n [4]int
	for i, at := range []int{1, 2, 3} {
		v, err := strconv.Atoi(string(fields[at]))
		if err != nil {
			return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		n[i] = v
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	threads, err := strconv.Atoi(string(fields[17]))
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	// The state is that of the main thread. A process that has others runs on without it.
	ended := fields[0][0] == 'Z' || fields[0][0] == 'X'
	return process{
		Proc: Proc{pid, start}, ppid: n[0], pgid: n[1], sid: n[2], dead: ended && threads <= 1, headless: ended && threads > 1,
	}, nil
}

func cutLast(b []byte, sep byte) (before, after []byte, ok bool) {
	i := bytes.LastIndexByte(b, sep)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// maxEnviron bounds what is read of a process; Linux allows no more by default (a quarter of an 8 MiB stack, execve(2)).
const maxEnviron = 2 << 20

// hasMarker reads the environment with which p was started. One of another user cannot be read and is not ours. The file of
// a main thread that has ended is empty; every other thread has the same.
func hasMarker(p process, marker string) bool {
	if marker == "" {
		return false
	}
	dir := "/proc/" + strconv.Itoa(p.PID)
	if !p.headless {
		return environHas(dir, marker)
	}
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(threads, func(t os.DirEntry) bool { return environHas(dir+"/task/"+t.Name(), marker) })
}

func environHas(dir, marker string) bool {
	f, err := os.Open(dir + "/environ")
	if err != nil {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	_ = f.Close() // only read
	if err != nil {
		return false
	}
	return hasEntry(b, marker)
}

// send signals exactly p, never another process with its number.
func send(p Proc, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if Of(p.PID) != p {
			return os.ErrProcessDone
		}
		return unix.Kill(p.PID, sig)
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // holds nothing
	if Of(p.PID) != p {
		return os.ErrProcessDone
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}
