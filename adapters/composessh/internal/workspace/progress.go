package workspace

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

const (
	maxLine  = 4 << 10
	maxLines = 64 // that are kept for an error
)

// progressWriter takes git's standard error: it reports what tells of progress, and keeps the last of the other lines.
type progressWriter struct {
	ctx   context.Context
	part  []byte // of a line
	long  bool   // the rest of the line is dropped
	lines []string
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexAny(p, "\r\n")
		chunk := p
		if end >= 0 {
			chunk, p = p[:end], p[end+1:]
		} else {
			p = nil
		}
		if !w.long {
			w.part = append(w.part, chunk...)
		}
		if len(w.part) > maxLine {
			w.part, w.long = w.part[:maxLine], true
		}
		if end >= 0 {
			w.flush()
		}
	}
	return n, nil
}

// flush ends the current line.
func (w *progressWriter) flush() {
	line := strings.TrimRight(string(w.part), " ")
	w.part, w.long = w.part[:0], false
	if line == "" {
		return
	}
	if p, ok := parseProgress(line); ok {
		sandboxer.Report(w.ctx, p)
		return
	}
	if len(w.lines) == maxLines {
		copy(w.lines, w.lines[1:])
		w.lines = w.lines[:maxLines-1]
	}
	w.lines = append(w.lines, line)
}

// parseProgress reads a line such as "Receiving objects:  45% (450/1000), 1.20 MiB | 2.00 MiB/s". What the server does is
// counted by it and left out; what it says is not trusted with the numbers.
func parseProgress(line string) (sandboxer.Progress, bool) {
	what, rest, found := strings.Cut(line, ": ")
	if !found {
		return sandboxer.Progress{}, false
	}
	p := sandboxer.Progress{Stage: "clone"}
	switch what {
	case "Receiving objects":
		p.Unit = "objects"
	case "Resolving deltas":
		p.Unit = "deltas"
	case "Updating files", "Checking out files": // the latter until git 2.24
		p.Unit = "files"
	default:
		return sandboxer.Progress{}, false
	}
	_, rest, found = strings.Cut(rest, "% (")
	numbers, _, closed := strings.Cut(rest, ")")
	done, total, slash := strings.Cut(numbers, "/")
	if !found || !closed || !slash {
		return sandboxer.Progress{}, false
	}
	var ok1, ok2 bool
	p.Done, ok1 = count(done)
	p.Total, ok2 = count(total)
	return p, ok1 && ok2 && p.Done <= p.Total
}

func count(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}
