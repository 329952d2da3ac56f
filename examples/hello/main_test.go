//go:build linux || darwin

package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestProgram runs the README's program as it stands there.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	main()
	os.Stdout = stdout
	_ = w.Close()
	said, err := io.ReadAll(r)
	if err != nil || string(said) != "hello\n" {
		t.Errorf("it printed %q, %v", said, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "state", "sandboxer", "local", "sbx-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
