//go:build !unix

package archive

import (
	"errors"
	"syscall"
)

// Windows' codes, https://learn.microsoft.com/windows/win32/debug/system-error-codes (read 2026-11).
const (
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
)

// isFull reports that a disk was full.
func isFull(err error) bool {
	return errors.Is(err, errorHandleDiskFull) || errors.Is(err, errorDiskFull)
}
