package boltstore_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path string
		code sandboxer.Code
		says string
	}{
		"a directory":          {dir, sandboxer.FailedPrecondition, "directory"},
		"no parent directory":  {filepath.Join(dir, "no", "db"), sandboxer.NotFound, "; make the directory first"},
		"no name":              {"", sandboxer.InvalidArgument, "the path is empty; name a file"},
		"a file as directory":  {filepath.Join(write("file", "x"), "db"), sandboxer.Unavailable, "not a directory"},
		"an empty file":        {write("empty", ""), sandboxer.FailedPrecondition, "empty"},
		"a short file":         {write("short", "hello"), sandboxer.FailedPrecondition, "no store"},
		"a text file":          {write("text", strings.Repeat("hello\n", 10_000)), sandboxer.FailedPrecondition, "no store"},
		"zeros":                {write("zeros", strings.Repeat("\x00", 100_000)), sandboxer.FailedPrecondition, "no store"},
		"another bbolt file":   {foreign, sandboxer.FailedPrecondition, "another program"},
		"a device":             {os.DevNull, sandboxer.FailedPrecondition, "no regular file"},
		"a name with a NUL":    {dir + "/a\x00b", sandboxer.Unavailable, "invalid argument"},
		"a name that is ended": {dir + "/empty/", sandboxer.FailedPrecondition, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := boltstore.Open(t.Context(), test.path)
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			if sandboxer.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("code %s, %v; want %s and %q", sandboxer.CodeOf(err), err, test.code, test.says)
			}
			if _, err := os.Stat(test.path + ".lock"); err == nil {
				t.Error("the lock file was left behind")
			}
		})
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		// Root may write everywhere but where the system itself refuses.
		_, err := boltstore.Open(t.Context(), "/proc/sandboxer-store")
		if err == nil || !strings.Contains(err.Error(), "/proc/sandboxer-store") {
			t.Errorf("in /proc: %v", err)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := boltstore.Open(t.Context(), filepath.Join(dir, "db"))
	if !errors.Is(err, sandboxer.PermissionDenied) || !errors.Is(err, fs.ErrPermission) ||
		!strings.HasSuffix(err.Error(), "; give the user of this process write access to the directory") {
		t.Errorf("in a directory that cannot be written: %v", err)
	}
	file := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(file, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(t.Context(), file); !errors.Is(err, sandboxer.PermissionDenied) ||
		!strings.HasSuffix(err.Error(), "; give the user of this process read and write access to the file") {
		t.Errorf("a file that cannot be written: %v", err)
	}
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	s, err := boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, p := range []string{path, path + ".lock"} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s, err := boltstore.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	// Commits that were begun before Close are carried out; later ones are refused. None hangs.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				_, err := s.Commit(t.Context(), store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: "n"}, Delta: 1})
				if err != nil {
					if !errors.Is(err, sandboxer.FailedPrecondition) || !sandboxer.IsRefused(err) {
						t.Errorf("Commit: %v", err)
					}
					return
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := s.Get(t.Context(), store.Key{Kind: "counter", ID: "n"}); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("Get: %v", err)
	}
	for _, err := range s.Scan(t.Context(), store.Query{Kind: "counter"}) {
		if !errors.Is(err, sandboxer.FailedPrecondition) {
			t.Errorf("Scan: %v", err)
		}
	}
}

// What a try to create a store left when it was killed is no obstacle.
func TestHalfMadeFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path+".new", []byte(strings.Repeat("half", 3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := boltstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	ctx, quiet := t.Context(), slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "db")
	s, err := boltstore.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	k := store.Key{Kind: "sandbox", ID: "k"}
	rev, err := s.Commit(ctx, store.Mutation{Do: store.Put, Key: k, Tags: []string{"live"}, Body: []byte("one")})
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	suffix := func(add string) func(*bolt.Tx) error {
		return boltstore.RewriteBodies(func(b []byte) []byte { return append(b, add...) })
	}
	broken := errors.New("broken migration")
	steps := map[uint32]func(*bolt.Tx) error{1: suffix(" two"), 2: func(*bolt.Tx) error { return broken }}
	if _, err := boltstore.OpenAs(ctx, path, 3, steps, quiet); !errors.Is(err, broken) {
		t.Errorf("a migration that fails: %v", err)
	}
	steps[2] = suffix(" three") // nothing of the failed one must have stayed
	if s, err = boltstore.OpenAs(ctx, path, 3, steps, quiet); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Get(ctx, k)
	if err != nil || string(rs[0].Body) != "one two three" || rs[0].Rev != rev {
		t.Errorf("after two migrations: %+v, %v", rs, err)
	}
	if again, err := s.Info(ctx); err != nil || again != id {
		t.Errorf("after two migrations: %+v, %v; want %+v", again, err, id)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = boltstore.Open(ctx, path)
	if !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("a file of a newer version: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a file of a newer version was written to (%v)", err)
	}
}

var update = flag.Bool("update", false, "write the file of the present format into testdata")

// The files in testdata were written by the version of the format that their names say. They must open for ever.
func TestFilesOfEveryFormat(t *testing.T) {
	t.Parallel()
	if *update {
		db, txt := sample(t, 30)
		name := filepath.Join("testdata", fmt.Sprintf("format-%d", boltstore.Format))
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(name+".db", db, 0o644), os.WriteFile(name+".txt", []byte(txt), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/format-*.db")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := boltstore.Open(t.Context(), path)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		got, err := contents(t, s)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(file, ".db") + ".txt")
		if err != nil || string(want) != got {
			t.Errorf("%s: it holds\n%s\nwant\n%s (%v)", file, got, want, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
