package adaptertest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder is a testing.TB that keeps its failures to itself, so that a check can be expected to fail.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	bad      bool
	text     strings.Builder
	cleanups []func()
}

func (r *recorder) say(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintln(&r.text, args...) // a builder takes it
}

func (r *recorder) Helper()                        {}
func (r *recorder) Log(args ...any)                { r.say(args...) }
func (r *recorder) Logf(format string, a ...any)   { r.say(fmt.Sprintf(format, a...)) }
func (r *recorder) Error(args ...any)              { r.say(args...); r.Fail() }
func (r *recorder) Errorf(format string, a ...any) { r.say(fmt.Sprintf(format, a...)); r.Fail() }
func (r *recorder) Fatal(args ...any)              { r.say(args...); r.FailNow() }
func (r *recorder) Fatalf(format string, a ...any) { r.say(fmt.Sprintf(format, a...)); r.FailNow() }
func (r *recorder) FailNow()                       { r.Fail(); runtime.Goexit() }
func (r *recorder) Fail()                          { r.mu.Lock(); defer r.mu.Unlock(); r.bad = true }
func (r *recorder) Failed() bool                   { r.mu.Lock(); defer r.mu.Unlock(); return r.bad }
func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) said() string { r.mu.Lock(); defer r.mu.Unlock(); return r.text.String() }

// do runs f as a test, with its clean-ups.
func (r *recorder) do(f func()) {
	guarded := func(f func()) {
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		<-done
	}
	guarded(f)
	for _, f := range slices.Backward(r.cleanups) {
		guarded(f)
	}
}

// verdict is how one check ended.
type verdict struct {
	failed bool
	said   string
}

// judge runs the named checks on an adapter, and nothing else.
func judge(t *testing.T, cfg Config, names ...string) map[string]verdict {
	t.Helper()
	out := map[string]verdict{}
	setup := &recorder{TB: t}
	s, err := open(setup, cfg)
	if err != nil {
		t.Fatalf("opening the suite: %v", err)
	}
	all := s.applicable()
	find := func(name string) check {
		i := slices.IndexFunc(all, func(c check) bool { return c.name == name })
		if i < 0 {
			t.Fatalf("no check that applies is called %q", name)
		}
		return all[i]
	}
	connected := false
	for _, name := range names {
		c := find(name)
		if !c.bare && !connected {
			connected = true
			if err := s.connect(setup); err != nil {
				t.Fatalf("connecting the suite: %v", err)
			}
		}
		r := &recorder{TB: t}
		r.do(func() { c.run(&trial{TB: r, s: s, check: c}) })
		out[name] = verdict{r.Failed(), r.said()}
	}
	if !s.closed {
		_ = s.close(context.Background()) // of a broken adapter, perhaps not possible
	}
	return out
}
