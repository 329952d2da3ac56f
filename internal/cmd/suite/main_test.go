package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/internal/canary"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// began makes a run of its own, with a key of it; what is planted here is none of the run that this test may be part of.
func began(t *testing.T) (dir, key string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	if err := run(t.Context(), []string{"begin", dir}); err != nil {
		t.Fatal(err)
	}
	key, err := canary.Planted(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, key
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSearch plants a key wherever a run may leave one.
func TestSearch(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(dir, checkout, key string){
		"nothing":          nil,
		"the output":       func(dir, _, key string) { write(t, filepath.Join(dir, "output.json"), `{"Output":"`+key+`"}`) },
		"what a test kept": func(dir, _, key string) { write(t, filepath.Join(dir, "kept", "x", "store.db"), key) },
		"a temporary file": func(dir, _, key string) { write(t, filepath.Join(dir, "tmp", "left"), key) },
		"a fixture":        func(_, checkout, key string) { write(t, filepath.Join(checkout, "testdata", "golden"), key) },
		"a process listing": func(dir, _, key string) {
			write(t, filepath.Join(dir, samplesFile), `{"Looks":3,"Hits":["process 7"]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, key := began(t)
			checkout := t.TempDir()
			write(t, filepath.Join(dir, "used-x.test-1"), "")
			write(t, filepath.Join(dir, samplesFile), `{"Looks":3,"Hits":null}`)
			write(t, filepath.Join(checkout, "main.go"), "package main")
			write(t, filepath.Join(checkout, ".git", "left out"), key)
			if plant != nil {
				plant(dir, checkout, key)
			}
			var out bytes.Buffer
			err := search(&out, dir, []string{checkout}, []string{".git"}, false)
			if found := errors.Is(err, errFound); found != (plant != nil) || (err != nil) != found {
				t.Errorf("%v\n%s", err, &out)
			}
			if err != nil && strings.Contains(err.Error()+out.String(), key) {
				t.Error("the key is shown")
			}
		})
	}
}

func TestSearchThatProvesNothing(t *testing.T) {
	t.Parallel()
	dir, _ := began(t)
	var out bytes.Buffer
	if err := search(&out, dir, nil, nil, false); err == nil || errors.Is(err, errFound) {
		t.Errorf("in a run without a test that had a key: %v", err)
	}
	if err := search(&out, dir, nil, nil, true); err != nil {
		t.Errorf("of a part of the tests: %v", err)
	}
	write(t, filepath.Join(dir, "used-x.test-1"), "")
	if _, err := os.Stat("/proc/self/environ"); err == nil && search(&out, dir, nil, nil, false) == nil {
		t.Error("a run in which nobody looked at processes was searched with success")
	}
	if err := search(&out, t.TempDir(), nil, nil, true); err == nil {
		t.Error("a directory that is no run's was searched with success")
	}
	if err := search(&out, dir, []string{filepath.Join(dir, "missing")}, nil, true); err != nil {
		t.Errorf("what is not there holds a key: %v", err)
	}
}

// TestWatch: a process that is there for a moment is seen.
func TestWatch(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("this system shows no processes in /proc")
	}
	dir, key := began(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watched := make(chan error, 1)
	go func() { watched <- run(ctx, []string{"watch", dir}) }()
	cmd := exec.CommandContext(ctx, "sleep", "60")
	cmd.Env = []string{"KEY=" + key, "PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var s seen
	for deadline := time.Now().Add(time.Minute); len(s.Hits) == 0 && time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if text, err := os.ReadFile(filepath.Join(dir, samplesFile)); err == nil {
			_ = json.Unmarshal(text, &s) // it may be half written
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	cancel()
	if err := <-watched; err != nil {
		t.Fatal(err)
	}
	if len(s.Hits) == 0 || !strings.Contains(s.Hits[0], "environ") {
		t.Errorf("found: %q", s.Hits)
	}
	if err := search(&bytes.Buffer{}, dir, nil, nil, true); !errors.Is(err, errFound) {
		t.Errorf("search: %v", err)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	lines := strings.Join([]string{
		`{"Action":"start","Package":"p"}`,
		`{"Action":"run","Package":"p","Test":"TestGood"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"    x_test.go:1: said by what passes\n"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"--- PASS: TestGood (0.00s)\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestGood"}`,
		`{"Action":"output","Package":"p","Test":"TestBad","Output":"=== RUN   TestBad\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad/sub","Output":"Terminated\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad/sub","Output":"        x_test.go:2: wrong:\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad/sub","Output":"            very\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}`,
		`{"Action":"output","Package":"p","Test":"TestBad/sub","Output":"    --- FAIL: TestBad/sub (0.00s)\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestBad/sub"}`,
		`{"Action":"fail","Package":"p","Test":"TestBad"}`,
		`{"Action":"output","Package":"p","Test":"TestDied","Output":"panic: died\n"}`,
		`{"Action":"output","Package":"p","Output":"PASS\n"}`,
		`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
		`{"Action":"fail","Package":"p"}`,
		`{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}`,
		`go: downloading something`,
		`{"Action":"output","Package":"r","Output":"ok  \tr\t0.1s\n"}`,
		`{"Action":"pass","Package":"r"}`,
	}, "\n") + "\n"
	want := `Terminated
        x_test.go:2: wrong:
            very
    --- FAIL: TestBad/sub (0.00s)
--- FAIL: TestBad (0.00s)
FAIL	p	0.1s
panic: died
q.go:1: undefined: x
go: downloading something
ok  	r	0.1s

2 tests complained, first of all:
p TestBad/sub: x_test.go:2: wrong: very
p TestDied: panic: died
`
	file := filepath.Join(t.TempDir(), "output.json")
	var out bytes.Buffer
	if err := show(strings.NewReader(lines), &out, file, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	kept, err := os.ReadFile(file)
	if err != nil || string(kept) != lines {
		t.Errorf("kept: %v, %s", err, cmp.Diff(lines, string(kept)))
	}
	out.Reset()
	if err := show(strings.NewReader(lines), &out, file, true); err != nil || !strings.Contains(out.String(), "said by what passes") {
		t.Errorf("with -v: %v, %s", err, &out)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"begin"}, {"dance", "x"}, {"search"}, {"show"}, {"watch", "a", "b"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q did something", args)
		}
	}
}
