package local

import "os"

// capacity is more than a pipe or a terminal of macOS can hold (64 KiB at most, xnu's sys_pipe.c, read 2026-11).
func capacity(*os.File) int { return 1 << 20 }
