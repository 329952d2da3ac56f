package canary

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const keptDir = "kept"

// Keep keeps what is at path, a file or a tree, as it is when the test ends, for the search after the suite. Call it behind
// t.TempDir and before what writes there is opened: what was registered later is closed before. Without a suite it does
// nothing.
func Keep(t testing.TB, path string) {
	t.Helper()
	if os.Getenv(dirVariable) == "" {
		return
	}
	t.Cleanup(func() {
		if err := keep(os.Getenv(dirVariable), t.Name(), path); err != nil {
			t.Errorf("what the search for keys is to look at was not kept: %v", err)
		}
	})
}

// Log returns a writer whose text is looked at after the suite, for logs, errors, events, and all else that is shown to
// people. Without a suite it discards. Its errors, as of a full disk, fail the test.
func Log(t testing.TB) io.Writer {
	t.Helper()
	dir := os.Getenv(dirVariable)
	if dir == "" {
		return io.Discard
	}
	into, err := place(dir, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(into, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// place makes a new directory for what a test keeps.
func place(dir, test string) (string, error) {
	kept := filepath.Join(dir, keptDir)
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return "", err
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\*:"<>|? `, r) {
			return '_'
		}
		return r
	}, filepath.Base(os.Args[0])+"-"+test)
	return os.MkdirTemp(kept, name[:min(len(name), 100)]+"-*")
}

// keep links, or else copies, the files below path: links are enough, since what they lead to stays when it is removed.
func keep(dir, test, path string) error {
	into, err := place(dir, test)
	if err != nil {
		return err
	}
	return filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, at)
		if err != nil {
			return err
		}
		to := filepath.Join(into, "of", rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if os.Link(at, to) == nil {
			return nil
		}
		return clone(to, at)
	})
}

func clone(to, from string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // read only
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}
