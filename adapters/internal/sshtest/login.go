package sshtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Login is a user whom one server knows, and the machine does not: the server runs in a mount namespace in which the user
// stands in /etc/passwd and /etc/group. However a test ends, no account is left.
type Login struct {
	Name  string
	ID    int // of the user and of its own group: one that no account of the machine has
	Group int // a further group that it is in; 0: none
}

// admit makes the files in which the server finds the user, and gives it its directories.
func (s *Server) admit(tb testing.TB, l *Login) {
	tb.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			tb.Fatal("only root can log in another user than its own; run the tests as root")
		}
		tb.Skip("only root can log in another user than its own")
	}
	for dir := s.Dir; dir != "/"; dir = filepath.Dir(dir) {
		if dir == s.Dir {
			if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // the user passes through it to its own directories
				tb.Fatal(err)
			}
		}
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			tb.Fatalf("a user who is not root cannot pass through %s (%v); set TMPDIR to a directory whose parents let everybody through", dir, err)
		}
	}
	s.User = l.Name
	own := fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", l.Name, l.ID, l.ID, s.Home)
	groups := fmt.Sprintf("%s:x:%d:\n", l.Name, l.ID)
	if l.Group != 0 {
		groups += fmt.Sprintf("%s-also:x:%d:%s\n", l.Name, l.Group, l.Name) // beside a line of the same number, both count
	}
	s.extend("/etc/passwd", own)
	s.extend("/etc/group", groups)
	s.Give(s.Home)
	s.Give(s.Temp)
}

// extend writes what a file of the machine is to be for the server.
func (s *Server) extend(file, more string) {
	s.tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.tb.Fatal(err)
	}
	name := filepath.Base(file)
	s.write(name, append(text, more...))
	if err := os.Chmod(filepath.Join(s.Dir, name), 0o644); err != nil { //nolint:gosec // everybody reads it
		s.tb.Fatal(err)
	}
	s.over = append(s.over, filepath.Join(s.Dir, name), file)
}

// hide makes directories of the machine look empty to the server; those that are not there need not be.
func (s *Server) hide(dirs []string) {
	s.tb.Helper()
	empty := filepath.Join(s.Dir, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		s.tb.Fatal(err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			s.over = append(s.over, empty, dir)
		}
	}
}

// Give makes a tree belong to the user who logs in; nothing where that is the one who runs the test.
func (s *Server) Give(tree string) {
	s.tb.Helper()
	if s.place.Login == nil {
		return
	}
	err := filepath.WalkDir(tree, func(at string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(at, s.place.Login.ID, s.place.Login.ID)
	})
	if err != nil {
		s.tb.Fatal(err)
	}
}

// enter is what the server is started with, each part of which becomes the next one.
func (s *Server) enter() []string {
	if len(s.over) == 0 {
		return s.place.Enter
	}
	// What is unmounted on the machine has to go here as well, or a container's files could not be removed.
	argv := append(append([]string(nil), s.place.Enter...), "unshare", "--mount", "--propagation", "slave", "sh", "-c",
		`while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"`, "sh")
	return append(append(argv, s.over...), "--")
}
