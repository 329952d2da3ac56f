package file_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/metering"
	"github.com/sand-boxer/sandboxer/metering/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(key string) metering.Record {
	return metering.Record{Key: key, Sandbox: "a", Attempt: 1, Extension: "ext.x", From: time.Unix(0, 0).UTC(), To: time.Unix(60, 0).UTC()}
}

func open(t *testing.T, path string) *file.Exporter {
	t.Helper()
	e, err := file.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// keys reads the file back.
func keys(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var r metering.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, r.Key)
	}
	return out
}

func wantKeys(t *testing.T, path string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, keys(t, path)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// TestExport: each record stands in the file once, however often it is delivered, also by another process.
func TestExport(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "meter.jsonl")
	e := open(t, path)
	for _, batch := range [][]metering.Record{
		{record("a/1"), record("b/1")}, {record("a/1"), record("b/1")}, {}, {record("b/1"), record("c/1"), record("c/1")},
	} {
		if err := e.Export(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, path, "a/1", "b/1", "c/1")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := e.Export(t.Context(), []metering.Record{record("d/1")}); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("export after Close: %v", err)
	}
	e = open(t, path)
	if err := e.Export(t.Context(), []metering.Record{record("c/1"), record("d/1")}); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, path, "a/1", "b/1", "c/1", "d/1")
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v, %v; want it readable for its owner only", info.Mode(), err)
	}
}

// TestOneExporter: a file belongs to one exporter at a time, of this process or another. Two wrote over each other's records,
// which had been acknowledged.
func TestOneExporter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "meter.jsonl")
	first := open(t, path)
	if err := first.Export(t.Context(), []metering.Record{record("a/1"), record("a/2")}); err != nil {
		t.Fatal(err)
	}
	if second, err := file.Open(path); err == nil {
		if err := second.Export(t.Context(), []metering.Record{record("b/1")}); err != nil {
			t.Fatal(err)
		}
		if err := first.Export(t.Context(), []metering.Record{record("a/3")}); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, path, "a/1", "a/2", "b/1", "a/3")
		t.Fatal("two exporters have one file open")
	} else if !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(err.Error(), path) {
		t.Errorf("the second Open: %v, want FailedPrecondition with the path", err)
	}
	if err := first.Export(t.Context(), []metering.Record{record("a/3")}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Export(t.Context(), []metering.Record{record("b/1")}); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, path, "a/1", "a/2", "a/3", "b/1")
}

// TestTornLine: a last line that a crash cut short, with or without its end, was never acknowledged; it is written again.
func TestTornLine(t *testing.T) {
	t.Parallel()
	whole, err := json.Marshal(record("b/1"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := json.Marshal(record("a/1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, len(whole) / 2, len(whole)} {
		path := filepath.Join(t.TempDir(), "meter.jsonl")
		if err := os.WriteFile(path, append(append(first, '\n'), whole[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		e := open(t, path)
		if err := e.Export(t.Context(), []metering.Record{record("a/1"), record("b/1")}); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, path, "a/1", "b/1")
	}
}

// TestNotOurs: a file that holds something else is left as it is.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hello\n", "{}\n", `{"key":"a/1"}` + "\nhello\n" + `{"key":"b/1"}` + "\n", "\n"} {
		path := filepath.Join(t.TempDir(), "notes.txt")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := file.Open(path)
		if !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "at byte") {
			t.Errorf("%q: %v", text, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
	if _, err := file.Open(filepath.Join(t.TempDir(), "no", "such")); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("%v, want InvalidArgument", err)
	}
	if _, err := file.Open(t.TempDir()); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("%v, want InvalidArgument", err)
	}
}

// TestDeadContext: nothing is written under a context that has ended.
func TestDeadContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "meter.jsonl")
	e := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Export(ctx, []metering.Record{record("a/1")}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wantKeys(t, path)
}

// FuzzOpen: whatever a file holds, Open either refuses it and leaves it alone, or everything in it stays and new records
// can be read back.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(`{"key":"a/1"}` + "\n"))
	f.Add([]byte(`{"key":"a/1"}` + "\n" + `{"key":"b`))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := file.Open(path)
		if err != nil {
			if got, _ := os.ReadFile(path); !bytes.Equal(got, text) {
				t.Fatalf("refused, and changed from %q to %q", text, got)
			}
			return
		}
		defer e.Close() //nolint:errcheck // only read from here
		if err := e.Export(t.Context(), []metering.Record{record("new/1")}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(got, text[:bytes.LastIndexByte(text, '\n')+1]) {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
		if ks := keys(t, path); len(ks) == 0 {
			t.Fatal("nothing was written")
		}
	})
}
