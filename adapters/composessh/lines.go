package composessh

import (
	"bytes"
	"context"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// lines keeps the end of what a program said, and reports each line as progress.
type lines struct {
	ctx   context.Context
	stage string

	mu   sync.Mutex
	kept []byte
	n    int64
}

const keepLines = 8 << 10

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	if over := len(l.kept) - keepLines; over > 0 {
		l.kept = append(l.kept[:0], l.kept[over:]...)
	}
	if more := bytes.Count(p, []byte("\n")); more > 0 {
		l.n += int64(more)
		sandboxer.Report(l.ctx, sandboxer.Progress{Stage: l.stage, Done: l.n, Unit: "steps"})
	}
	return len(p), nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}
