package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// screen prints what happens: on a terminal with a line that shows progress, elsewhere as plain lines.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	line     bool // a progress line stands
	last     time.Time
	stage    string
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
}

// progress is called by whatever takes long. Without a terminal a new stage is a line of its own.
func (s *screen) progress(p sandboxer.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		if p.Stage != s.stage {
			s.stage = p.Stage
			_, _ = fmt.Fprintf(s.out, "  %s …\n", p.Stage)
		}
		return
	}
	if p.Stage == s.stage && time.Since(s.last) < 50*time.Millisecond {
		return
	}
	s.stage, s.last, s.line = p.Stage, time.Now(), true
	of := ""
	if p.Total > 0 {
		of = fmt.Sprintf(" of %d", p.Total)
	}
	_, _ = fmt.Fprintf(s.out, "\r\x1b[K  %s %d%s %s", p.Stage, p.Done, of, p.Unit)
}

// wipe removes the progress line. With s.mu held.
func (s *screen) wipe() {
	if s.line {
		_, _ = io.WriteString(s.out, "\r\x1b[K")
		s.line = false
	}
}

func (s *screen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
}

// live is a writer for the output of a command.
func (s *screen) live() io.Writer { return liveWriter{s} }

type liveWriter struct{ s *screen }

func (w liveWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.wipe()
	return w.s.out.Write(p)
}
