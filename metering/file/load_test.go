package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestUnreadable: a file whose middle cannot be read is left as it is. The error was taken for the end of the file, and what
// follows was cut off: records that had been acknowledged.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	lines := []string{`{"key":"a/1"}` + "\n", `{"key":"b/1"}` + "\n"}
	for _, readable := range []string{"", lines[0], lines[0] + `{"key":`} {
		path := filepath.Join(t.TempDir(), "meter.jsonl")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		e := &Exporter{f: f, seen: map[string]bool{}}
		if err := e.load(io.MultiReader(strings.NewReader(readable), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("load = %v, want what the disk said", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != strings.Join(lines, "") {
			t.Errorf("the file holds %q, %v", got, err)
		}
	}
}
