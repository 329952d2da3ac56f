package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// maxProblems is how many problems of one document are spelled out; the rest is counted.
const maxProblems = 50

// source is where a document came from.
type source struct {
	seq     int    // in the order in which documents were given
	name    string // "extensions/ext.e2b.yaml", "adapter e2b (manifest)"
	brought string // the handler of the adapter that brought it along; "": supplied
}

// place is a position in a source. Line 0 is a Go value, which has none.
type place struct {
	src          *source
	line, column int
}

func (p place) String() string {
	if p.line == 0 {
		return p.src.name
	}
	return fmt.Sprintf("%s:%d:%d", p.src.name, p.line, p.column)
}

// problem is one thing that is wrong, and where.
type problem struct {
	at   place
	text string
}

func (p problem) Error() string { return p.at.String() + ": " + p.text }

// problems collects everything that is wrong, so that a person repairs it all at once.
type problems struct {
	list   []problem
	counts map[*source]int
	places map[place]bool // see mark
}

// mark remembers that a value could not even be decoded; checks of what it would mean then keep quiet about it.
func (ps *problems) mark(at place) {
	if ps.places == nil {
		ps.places = map[place]bool{}
	}
	ps.places[at] = true
}

func (ps *problems) add(at place, format string, args ...any) {
	if ps.counts == nil {
		ps.counts = map[*source]int{}
	}
	ps.counts[at.src]++
	if ps.counts[at.src] <= maxProblems {
		ps.list = append(ps.list, problem{at, fmt.Sprintf(format, args...)})
	}
}

// err joins the problems in the order of documents and lines; nil where there are none.
func (ps *problems) err() error {
	if len(ps.list) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.list, func(a, b problem) int {
		return cmp.Or(a.at.src.seq-b.at.src.seq, a.at.line-b.at.line, a.at.column-b.at.column)
	})
	total := 0
	var joined []error
	for i, p := range ps.list {
		joined = append(joined, p)
		if i+1 < len(ps.list) && ps.list[i+1].at.src == p.at.src {
			continue
		}
		n := ps.counts[p.at.src]
		total += n
		if n > maxProblems {
			joined = append(joined, fmt.Errorf("%s: and %d more problems", p.at.src.name, n-maxProblems))
		}
	}
	noun := "problems"
	if total == 1 {
		noun = "problem"
	}
	return sandboxer.Refused(sandboxer.InvalidArgument,
		fmt.Errorf("%d %s in manifests and profiles:\n%w", total, noun, errors.Join(joined...)))
}

// path leads to a value in a document: keys (string) and list indexes (int).
type path []any

func (p path) with(step any) path { return append(slices.Clip(p), step) }

func (p path) String() string {
	const most = 10
	var b strings.Builder
	for i, step := range p {
		if i == most {
			b.WriteString("…")
			break
		}
		switch step := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(printable(step))
		}
	}
	return b.String()
}

// quote shows a word of a document in a message: short, on one line, and never a secret in the wrong place.
func quote(s string) string {
	if secretShape(s[:min(len(s), 1024)]) != "" { // more than is shown, for a key that is cut off there
		return "[redacted]"
	}
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return strconv.Quote(s)
}

// printable is quote without the quotes where the word needs none.
func printable(s string) string {
	q := quote(s)
	if q == `"`+s+`"` && s != "" && !strings.ContainsAny(s, " .[]:") {
		return s
	}
	return q
}

// closest ends a message about an unknown word with the valid one that was probably meant.
func closest(got string, valid []string) string {
	if len(valid) == 0 {
		return "; none is registered"
	}
	return sandboxer.DidYouMean(got, valid)
}

// texts turns values of any string type into strings.
func texts[S ~string](in []S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// list shows valid words.
func list[S ~string](words []S) string { return strings.Join(texts(words), ", ") }
