//go:build !unix

package e2btest

import "syscall"

// Processes cannot be stopped here, and run on while their sandbox is paused.
const (
	sigStop = syscall.Signal(0)
	sigCont = syscall.Signal(0)
)
