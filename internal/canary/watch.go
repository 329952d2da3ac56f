package canary

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Processes looks at the command lines and environments of all processes that this one may look at, once. It needs /proc:
// fs.ErrNotExist without.
func (f *Finder) Processes() (hits []Hit, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	seen := 0
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		for _, part := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", d.Name(), part))
			if err != nil {
				continue // it ended, or it is somebody else's
			}
			seen++
			f.Files++
			f.Bytes += int64(len(text))
			if form, at := f.name(text); at >= 0 {
				line, _ := os.ReadFile(filepath.Join("/proc", d.Name(), "cmdline")) // only to say which it was
				line = bytes.ReplaceAll(line, []byte{0}, []byte{' '})
				hits = append(hits, Hit{Where: "process " + d.Name() + " (" + f.hide(string(line[:min(len(line), 300)])) + ") " + part, At: int64(at), Form: form, Text: f.around(text, at)})
			}
		}
	}
	if seen == 0 {
		return nil, errors.Join(errors.New("/proc shows no process"), fs.ErrNotExist)
	}
	return hits, nil
}
