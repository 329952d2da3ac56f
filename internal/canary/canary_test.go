package canary_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/internal/canary"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run makes the directory of a run with a mark of its own and returns it with a key of that run. These tests write keys on
// purpose: not those of the run that they may be part of.
func run(t *testing.T) (dir, key string) {
	t.Helper()
	dir = t.TempDir()
	if err := canary.Begin(dir); err != nil {
		t.Fatal(err)
	}
	key, err := canary.Planted(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, key + "0123abcd"
}

func TestKeys(t *testing.T) {
	t.Parallel()
	a, b := canary.Key("a"), canary.Key("b")
	if a == b || a != canary.Key("a") {
		t.Errorf("%d keys for two names", len(map[string]bool{a: true, b: true, canary.Key("a"): true}))
	}
	if !regexp.MustCompile(`^e2b_[0-9a-f]{40}$`).MatchString(a) {
		t.Error("a key does not look like one of E2B's")
	}
	if hit, err := canary.Mine().Read("x", strings.NewReader("key="+a)); hit == nil || err != nil {
		t.Errorf("a program does not find its own keys: %v", err)
	}
	if s := canary.Secret("ghp_", "a"); !strings.HasPrefix(s, "ghp_") || s[4:] != a[4:] {
		t.Error("a secret of another form has another mark")
	}
}

// TestEveryFormIsFound plants a key in every way in which one could be written by mistake.
func TestEveryFormIsFound(t *testing.T) {
	t.Parallel()
	dir, key := run(t)
	quoted, err := json.Marshal(map[string]any{"key": key, "bytes": []byte("Bearer " + key)})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"as it is":            key,
		"in a line":           "2026-11-01 error: the key " + key + " is not accepted",
		"cut off behind":      key[:24],
		"upper case":          strings.ToUpper(key),
		"%x":                  fmt.Sprintf("%x", key),
		"%X":                  fmt.Sprintf("%X", key),
		"%v of bytes":         fmt.Sprintf("%v", []byte(key)),
		"numbers in JSON":     strings.ReplaceAll(fmt.Sprintf("%d", []byte(key)), " ", ", "),
		"base64":              base64.StdEncoding.EncodeToString([]byte(key)),
		"base64, one before":  base64.StdEncoding.EncodeToString([]byte("u" + key)),
		"base64, two before":  base64.URLEncoding.EncodeToString([]byte("u:" + key)),
		"JSON":                string(quoted),
		"hexadecimal":         hex.EncodeToString([]byte("key=" + key)),
		"UTF-16":              strings.Join(strings.Split(key, ""), "\x00"),
		"behind a lot":        strings.Repeat("x", 3<<20) + key,
		"over a border":       strings.Repeat("x", 1<<20-10) + key,
		"over another border": strings.Repeat("x", 2<<20+30) + key,
	} {
		f := canary.NewFinder(dir)
		hit, err := f.Read(name, iotest.HalfReader(strings.NewReader(text)))
		if hit == nil || err != nil {
			t.Errorf("%s: not found, %v", name, err)
			continue
		}
		if strings.Contains(hit.String(), key) || hit.Where != name || hit.At < 0 || hit.At >= int64(len(text)) {
			t.Errorf("%s: found as %+v", name, hit)
		}
	}
	f := canary.NewFinder(dir)
	for name, text := range map[string]string{
		"nothing": "", "text": strings.Repeat("no key is here. ", 1<<17), "another key": "e2b_0123456789abcdef0123456789abcdef01234567", "key of another run": second(t),
	} {
		if hit, err := f.Read(name, strings.NewReader(text)); hit != nil || err != nil {
			t.Errorf("%s: %v, %v", name, hit, err)
		}
	}
	if f.Files != 4 || f.Bytes < 2<<20 {
		t.Errorf("looked at %d files and %d bytes", f.Files, f.Bytes)
	}
	if hit, err := f.Read("default", strings.NewReader(standalone(t))); hit == nil || err != nil {
		t.Errorf("a key of a program that ran without a run is not found: %v", err)
	}
	broken := errors.New("the disk broke")
	if _, err := f.Read("broken", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read counts as one without a key: %v", err)
	}
}

func second(t *testing.T) string {
	t.Helper()
	_, key := run(t)
	return key
}

// standalone is the mark of programs that ran without a run; a directory with an empty seed has the same.
func standalone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "seed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := canary.Planted(dir)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWalk(t *testing.T) {
	t.Parallel()
	dir, key := run(t)
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b/c/deep", "x"+key)
	write("clean", "nothing")
	write("named/"+key+"/inner", "nothing")
	write(".git/objects", key)
	if err := os.Symlink(root, filepath.Join(root, "round")); err != nil {
		t.Logf("no links here: %v", err)
	}
	hits, err := canary.NewFinder(dir).Walk(root, func(path string) bool { return filepath.Base(path) == ".git" })
	if err != nil || len(hits) != 2 {
		t.Fatalf("%v, %v", hits, err)
	}
	for i, want := range []string{filepath.Join("a", "b", "c", "deep"), "the name holds a key"} {
		if text := hits[i].String(); !strings.Contains(text, want) || strings.Contains(text, key) {
			t.Errorf("%d: %s; it should say %q, and no key", i, text, want)
		}
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	dir, key := run(t)
	f := canary.NewFinder(dir)
	if hits, err := f.Processes(); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system has no /proc, so that no process listing can be looked at")
	} else if err != nil || len(hits) != 0 || f.Files < 2 {
		t.Fatalf("%v, %v, %d parts", hits, err, f.Files)
	}
	for part, cmd := range map[string]*exec.Cmd{
		"environ": exec.CommandContext(t.Context(), "sleep", "60"),
		"cmdline": exec.CommandContext(t.Context(), "sh", "-c", "sleep 60; : "+key),
	} {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		if part == "environ" {
			cmd.Env = append(cmd.Env, "KEY="+key)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		hits, err := f.Processes()
		if err != nil || len(hits) == 0 {
			t.Errorf("a key in %s is not found: %v, %v", part, hits, err)
		}
		for _, h := range hits {
			if !strings.HasSuffix(h.Where, part) || strings.Contains(h.String(), key) || !strings.Contains(h.String(), "sleep") {
				t.Errorf("in %s: %s", part, h)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestKeptIsFound runs tests that keep what they write, as part of a run, and looks through it when they are over.
func TestKeptIsFound(t *testing.T) {
	dir, key := run(t)
	t.Setenv("SANDBOXER_CANARY", dir)
	t.Run("a test/with a name", func(t *testing.T) {
		out := t.TempDir()
		canary.Keep(t, out)
		canary.Keep(t, filepath.Join(out, "store.db"))
		canary.Keep(t, filepath.Join(out, "never made"))
		log := canary.Log(t)
		if err := os.MkdirAll(filepath.Join(out, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"store.db", "sub/file"} {
			if err := os.WriteFile(filepath.Join(out, name), []byte("holds "+key), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(log, "logged %s\n", key)
	})
	hits, err := canary.NewFinder(dir).Walk(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var where []string
	for _, h := range hits {
		where = append(where, filepath.Base(h.Where))
	}
	if got := strings.Join(where, " "); len(where) != 4 || strings.Count(got, "store.db")+strings.Count(got, "of") != 2 || !strings.Contains(got, "log") || !strings.Contains(got, "file") {
		t.Errorf("found in %q", hits)
	}
}

func FuzzReadFindsWhatIsThere(f *testing.F) {
	dir := f.TempDir()
	if err := canary.Begin(dir); err != nil {
		f.Fatal(err)
	}
	key, err := canary.Planted(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("before"), []byte("behind"), true)
	f.Add([]byte(key[:10]), []byte(key[4:12]), false)
	f.Fuzz(func(t *testing.T, before, behind []byte, there bool) {
		text := string(before) + string(behind)
		if there {
			text = string(before) + key + string(behind)
		}
		hit, err := canary.NewFinder(dir).Read("x", strings.NewReader(text))
		if err != nil || (hit == nil) == there && !strings.Contains(strings.ToLower(text), key[4:]) {
			t.Errorf("found: %v, planted: %v, %v", hit, there, err)
		}
	})
}
