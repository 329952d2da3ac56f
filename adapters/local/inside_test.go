//go:build linux || darwin

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// FuzzInside looks for a path that is taken and lies elsewhere.
func FuzzInside(f *testing.F) {
	x := &box{base: &base{path: "/srv/root"}, claim: &claim{Name: "box"}}
	for _, p := range []string{"", ".", "..", "a/../b", "a/../../b", "/srv/root/box/workspace", "/srv/root/box/../other", "/srv/root/box", "/etc", "//srv/root/box/home", "a\x00b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		rel, err := x.inside(p)
		if err != nil {
			return
		}
		at := filepath.Join("/srv/root/box", rel)
		if strings.ContainsRune(at, 0) || !strings.HasPrefix(at, "/srv/root/box/") {
			t.Errorf("%q is taken, and is %q", p, at)
		}
		if !filepath.IsAbs(p) && at != "/srv/root/box/workspace" && !strings.HasPrefix(at, "/srv/root/box/workspace/") {
			t.Errorf("%q is taken, and is %q, outside of the workspace", p, at)
		}
	})
}

// TestWhileBusy: a program that is open for writing is started again for about a second, and no longer than the context
// lasts; any other failure counts at once.
func TestWhileBusy(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		busy  time.Duration // how long it is
		then  error
		limit time.Duration // of the context
		code  sandboxer.Code
		most  time.Duration // how long the call takes
	}{
		"never":            {0, nil, time.Hour, "", 0},
		"for a moment":     {50 * time.Millisecond, nil, time.Hour, "", 100 * time.Millisecond},
		"almost too long":  {900 * time.Millisecond, nil, time.Hour, "", busyTimeout},
		"for ever":         {time.Hour, nil, 2 * time.Hour, sandboxer.Aborted, busyTimeout + 100*time.Millisecond},
		"past the context": {time.Hour, nil, 300 * time.Millisecond, sandboxer.DeadlineExceeded, 300 * time.Millisecond},
		"fails":            {0, broken, time.Hour, sandboxer.Unknown, 0},
		"fails then":       {10 * time.Millisecond, broken, time.Hour, sandboxer.Unknown, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
				defer cancel()
				began := time.Now()
				err := whileBusy(ctx, func() error {
					if time.Since(began) < tc.busy {
						return fmt.Errorf("fork/exec: %w", syscall.ETXTBSY)
					}
					return tc.then
				})
				if took := time.Since(began); took < min(tc.busy, tc.limit, busyTimeout) || took > tc.most {
					t.Errorf("took %v", took)
				}
				if err != nil {
					err = startError("program", err)
				}
				if code := sandboxer.CodeOf(err); code != tc.code || err != nil && !sandboxer.IsRefused(err) {
					t.Errorf("%v has the code %s, want %s and that it is refused", err, code, tc.code)
				}
			})
		})
	}
}

// takes is a Read that takes a while.
type takes struct {
	time.Duration
	reads atomic.Int64
}

func (r *takes) Read([]byte) (int, error) {
	r.reads.Add(1)
	time.Sleep(r.Duration)
	return 1, nil
}

// TestStopOfStdin: what stops the reading of Stdin waits for a Read that is about to return, for none that blocks, and lets
// none begin.
func TestStopOfStdin(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ read, before, wait time.Duration }{
		"returns at once":   {time.Millisecond, time.Microsecond, time.Millisecond - time.Microsecond},
		"just begun":        {time.Hour, time.Microsecond, stdinPatience - time.Microsecond},
		"blocks":            {time.Hour, time.Minute, 0},
		"returned long ago": {time.Millisecond, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &takes{Duration: tc.read}
				s := &stdin{r: r}
				go func() { _, _ = s.Read(nil) }()
				time.Sleep(tc.before)
				began := time.Now()
				s.stop()
				if waited := time.Since(began); waited != tc.wait {
					t.Errorf("waited %v, want %v", waited, tc.wait)
				}
				if n, err := s.Read(nil); n != 0 || !errors.Is(err, os.ErrClosed) || r.reads.Load() != 1 {
					t.Errorf("another Read = %d, %v, after %d of the caller's", n, err, r.reads.Load())
				}
				time.Sleep(tc.read) // until the first has returned
			})
		})
	}
	(&stdin{}).stop() // before the first
}

// FuzzContentFile looks for a digest that is taken and names another place than contents have.
func FuzzContentFile(f *testing.F) {
	for _, d := range []string{"", "sha256:", "sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("../", 21) + "x", "md5:x"} {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, digest string) {
		file, err := contentFile(digest)
		if err == nil && (filepath.Dir(file) != keepDir || file != keepDir+"/"+strings.TrimPrefix(digest, "sha256:")+contentEnd) {
			t.Errorf("%q is taken, and is %q", digest, file)
		}
	})
}
