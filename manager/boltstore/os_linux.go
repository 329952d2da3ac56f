package boltstore

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID names this run of the operating system, or is 0 where that is not known.
func bootID() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if b = bytes.TrimSpace(b); err != nil || len(b) == 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return max(h.Sum64(), 1)
}

// readAhead has the system begin to read all of f, in its order; the pages are then asked for in that of the trees.
func readAhead(f *os.File, size int64) {
	_ = unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_WILLNEED)
}

// holderOf reads who has locked f from the kernel's list of locks: its process, where that can be seen from here. A line of it
// is "1: FLOCK  ADVISORY  WRITE 4711 08:01:123456 0 EOF", with the device and the file's number behind the process.
func holderOf(f *os.File) (h holder) {
	info, err := f.Stat()
	if err != nil {
		return h
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return h
	}
	list, err := os.ReadFile("/proc/locks")
	if err != nil {
		return h
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino) //nolint:unconvert // 32 bits on some systems
	for line := range strings.Lines(string(list)) {
		if l := strings.Fields(line); len(l) >= 6 && l[1] == "FLOCK" && l[5] == file {
			h.PID, _ = strconv.Atoi(l[4])
		}
	}
	if h.PID <= 0 { // of another namespace
		return holder{}
	}
	h.Host, _ = os.Hostname()
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", h.PID)); err == nil {
		h.Program = filepath.Base(exe)
	} else if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.PID)); err == nil {
		h.Program = strings.TrimSpace(string(name))
	}
	return h
}
