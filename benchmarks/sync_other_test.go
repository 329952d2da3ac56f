//go:build !linux

package benchmarks

import "os"

func dataSync(f *os.File) error { return f.Sync() }
