package proctree

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB of sys/proc.h.
const zombie = 5

// list reads the process table.
func list() ([]process, error) {
	table, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, err
	}
	out := make([]process, 0, len(table))
	for i := range table {
		out = append(out, fromKinfo(&table[i]))
	}
	return out, nil
}

func lookup(pid int) (process, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return process{}, err
	}
	return fromKinfo(k), nil
}

func fromKinfo(k *unix.KinfoProc) process {
	pid := int(k.Proc.P_pid)
	start := uint64(k.Proc.P_starttime.Sec)*1e6 + uint64(k.Proc.P_starttime.Usec)
	sid, err := unix.Getsid(pid)
	if err != nil {
		sid = 0 // gone meanwhile
	}
	return process{Proc: Proc{pid, start}, ppid: int(k.Eproc.Ppid), pgid: int(k.Eproc.Pgid), sid: sid, dead: k.Proc.P_stat == zombie}
}

// hasMarker reads arguments and environment of p, which the system gives only to its own user.
func hasMarker(p process, marker string) bool {
	if marker == "" {
		return false
	}
	b, err := unix.SysctlRaw("kern.procargs2", p.PID)
	return err == nil && hasEntry(b, marker)
}

// send signals p. Between the look and the signal its number could in theory be used again.
func send(p Proc, sig syscall.Signal) error {
	if Of(p.PID) != p {
		return os.ErrProcessDone
	}
	return unix.Kill(p.PID, sig)
}
