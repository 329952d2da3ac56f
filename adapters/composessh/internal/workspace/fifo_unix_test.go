//go:build unix

package workspace_test

import (
	"syscall"
	"testing"
)

func mkfifo(tb testing.TB, name string) {
	tb.Helper()
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		tb.Fatal(err)
	}
}
