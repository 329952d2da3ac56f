//go:build unix

package sshtest

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the terminal's signals from the server.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
