//go:build unix

package archive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// deepest is how many directories deep a name may lie, for the packer and for an extraction.
const deepest = 1000

// TestDeepNames: what lies as deep as the packer goes is extracted, each name at a cost that grows with its depth, not with
// the square of it. One name of 4 KiB took 17 seconds, and these would take minutes.
func TestDeepNames(t *testing.T) {
	t.Parallel()
	var entries []entry
	for i := range 30 {
		at := strings.Repeat("a/", deepest-1) + fmt.Sprint(i, "/")
		entries = append(entries, file(at+"x", "x"), hard(at+"y", at+"x"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dst := t.TempDir()
	r := strings.NewReader(string(stream(t, entries...)))
	if _, err := archive.Extract(ctx, r, openRoot(t, dst), archive.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, err := openRoot(t, dst).ReadFile(strings.Repeat("a/", deepest-1) + "7/y"); err != nil || string(b) != "x" {
		t.Errorf("the deepest file holds %q, %v", b, err)
	}
}

// TestTooDeepNames: a name deeper than the packer would go is refused before anything of it is made, and so is a link to it.
func TestTooDeepNames(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]entry{
		"file":            file(strings.Repeat("a/", deepest+1)+"x", "x"),
		"directory":       dir(strings.Repeat("a/", deepest+2)),
		"link":            link(strings.Repeat("a/", deepest+1)+"x", "y"),
		"hard link":       hard("h", strings.Repeat("a/", deepest+1)+"x"),
		"half a mebibyte": file(strings.Repeat("a/", 1<<18)+"x", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dst := t.TempDir()
			err := extract(t, dst, stream(t, e), archive.ExtractOptions{})
			if !errors.Is(err, sandboxer.InvalidArgument) || !strings.Contains(err.Error(), "directories deep") {
				t.Errorf("Extract = %v, want InvalidArgument for the depth", err)
			}
			if left, err := os.ReadDir(dst); err != nil || len(left) > 0 {
				t.Errorf("made %v, %v", left, err)
			}
		})
	}
}

// endsSoon is a context that ends once it has been asked a number of times.
type endsSoon struct {
	context.Context
	left atomic.Int64
}

func (c *endsSoon) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// TestContextEndsWithinAName: an extraction looks at its context at every directory of a name. It looked once per entry.
func TestContextEndsWithinAName(t *testing.T) {
	t.Parallel()
	ctx := &endsSoon{Context: t.Context()}
	ctx.left.Store(deepest / 2)
	dst := t.TempDir()
	r := strings.NewReader(string(stream(t, file(strings.Repeat("a/", deepest)+"x", "x"))))
	if _, err := archive.Extract(ctx, r, openRoot(t, dst), archive.ExtractOptions{}); sandboxer.CodeOf(err) != sandboxer.Canceled {
		t.Errorf("Extract = %v, want Canceled", err)
	}
	if _, err := os.Lstat(filepath.Join(dst, "a")); err != nil {
		t.Errorf("the context ended before the name was looked at: %v", err)
	}
}
