//go:build !unix

package archive

import (
	"os"
	"time"
)

// setModTime sets the time of base in dir. The time of a link itself cannot be set here.
func setModTime(dir *os.Root, _ *os.File, base string, mtime time.Time) error {
	if info, err := dir.Lstat(base); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return dir.Chtimes(base, time.Time{}, mtime)
}
