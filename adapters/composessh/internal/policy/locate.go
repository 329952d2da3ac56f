package policy

import (
	"bytes"
	"strconv"
	"strings"
)

// places knows where in a file the keys of its mappings are. It serves messages only and decides nothing: compose-go keeps
// no positions, and what compose-go makes of the file is what is judged. It follows the indentation of block style and the
// brackets of flow style; where a file is stranger than that, a place is that of a parent, or unknown.
type places struct {
	src  []byte
	line []int             // where lines begin
	at   map[string][2]int // line and column by path
}

const sep = "\x00" // between the keys of a path

func locate(src []byte) *places {
	p := &places{src: src, line: []int{0}, at: map[string][2]int{}}
	for i, c := range src {
		if c == '\n' {
			p.line = append(p.line, i+1)
		}
	}
	p.blocks()
	return p
}

// of returns the place of a path: its own, that of the merge key it may have come by, or that of the closest parent.
func (p *places) of(path []string) (line, col int) {
	for n := len(path); n > 0; n-- {
		if at, ok := p.at[strings.Join(path[:n], sep)]; ok {
			return at[0], at[1]
		}
		if at, ok := p.at[strings.Join(append(append([]string{}, path[:n-1]...), "<<"), sep)]; ok && n > 2 {
			return at[0], at[1]
		}
	}
	return 0, 0
}

// text returns the place of the first of the words that is outside of a comment line.
func (p *places) text(words ...string) (line, col int) {
	for n, start := range p.line {
		text, _, _ := bytes.Cut(p.src[start:], []byte("\n"))
		if bytes.HasPrefix(bytes.TrimSpace(text), []byte("#")) {
			continue
		}
		for _, w := range words {
			if i := bytes.Index(text, []byte(w)); i >= 0 {
				return n + 1, i + 1
			}
		}
	}
	return 0, 0
}

func (p *places) note(path string, offset int) {
	if _, ok := p.at[path]; ok || len(p.at) > 2*maxNodes {
		return
	}
	lo, hi := 0, len(p.line)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; p.line[mid] <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	p.at[path] = [2]int{lo + 1, offset - p.line[lo] + 1}
}

// frame is an open block mapping or list.
type frame struct {
	indent int
	list   bool
	path   string // of the collection
	item   string // of its current value
	n      int    // of the current item of a list
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + sep + key
}

// blocks walks the lines of block style.
func (p *places) blocks() {
	var open []frame
	scalar := -1 // the indent of the key whose block scalar is being skipped
	for n := 0; n < len(p.line); n++ {
		i, end := p.line[n], len(p.src)
		if n+1 < len(p.line) {
			end = p.line[n+1] - 1
		}
		begin := i
		for i < end && (p.src[i] == ' ' || p.src[i] == '\r') {
			i++
		}
		if i == end || scalar >= 0 && i-begin > scalar {
			continue
		}
		scalar = -1
		if p.src[i] == '#' || p.src[i] == '%' || bytes.HasPrefix(p.src[i:end], []byte("---")) {
			continue
		}
		for i < end {
			col := i - begin
			if p.src[i] == '-' && (i+1 == end || p.src[i+1] == ' ') {
				open = pop(open, func(f frame) bool { return f.indent > col })
				if len(open) == 0 || !open[len(open)-1].list || open[len(open)-1].indent != col {
					open = append(open, frame{indent: col, list: true, path: current(open), n: -1})
				}
				f := &open[len(open)-1]
				f.n++
				f.item = join(f.path, "["+strconv.Itoa(f.n)+"]")
				p.note(f.item, i)
				i = p.blanks(i+1, end)
				continue
			}
			key, after, ok := p.key(i, end)
			if !ok {
				n = p.value(i, end, current(open), n)
				break
			}
			open = pop(open, func(f frame) bool { return f.indent > col || f.indent == col && f.list })
			if len(open) == 0 || open[len(open)-1].indent != col {
				open = append(open, frame{indent: col, path: current(open)})
			}
			f := &open[len(open)-1]
			f.item = join(f.path, key)
			p.note(f.item, i)
			after = p.blanks(after, end)
			if after < end && (p.src[after] == '|' || p.src[after] == '>') {
				scalar = col
				break
			}
			n = p.value(after, end, f.item, n)
			break
		}
	}
}

func pop(open []frame, gone func(frame) bool) []frame {
	for len(open) > 0 && gone(open[len(open)-1]) {
		open = open[:len(open)-1]
	}
	return open
}

func current(open []frame) string {
	if len(open) == 0 {
		return ""
	}
	return open[len(open)-1].item
}

func (p *places) blanks(i, end int) int {
	for i < end && (p.src[i] == ' ' || p.src[i] == '\t' || p.src[i] == '\r') {
		i++
	}
	return i
}

// key reads "key:" and returns the key and where its value begins.
func (p *places) key(i, end int) (string, int, bool) {
	if q := p.src[i]; q == '"' || q == '\'' {
		last := p.quoted(i)
		if last >= end || last+1 >= len(p.src) || p.src[last+1] != ':' {
			return "", 0, false
		}
		return string(p.src[i+1 : last]), last + 2, true
	}
	if strings.IndexByte("{[|>&*!", p.src[i]) >= 0 {
		return "", 0, false
	}
	for j := i; j < end; j++ {
		if p.src[j] == ':' && (j+1 == end || p.src[j+1] == ' ' || p.src[j+1] == '\r') {
			return strings.TrimSpace(string(p.src[i:j])), j + 1, true
		}
		if p.src[j] == '#' && j > i && p.src[j-1] == ' ' {
			break
		}
	}
	return "", 0, false
}

// quoted returns where the quoted text that begins at i ends.
func (p *places) quoted(i int) int {
	q := p.src[i]
	for j := i + 1; j < len(p.src); j++ {
		switch {
		case q == '"' && p.src[j] == '\\':
			j++
		case p.src[j] != q:
		case q == '\'' && j+1 < len(p.src) && p.src[j+1] == q:
			j++
		default:
			return j
		}
	}
	return len(p.src) - 1
}

// value skips a value that is not block style and returns the number of the line where it ends.
func (p *places) value(i, end int, path string, n int) int {
	for i < end && (p.src[i] == '&' || p.src[i] == '!') { // anchor, tag
		for i < end && p.src[i] != ' ' {
			i++
		}
		i = p.blanks(i, end)
	}
	if i >= end {
		return n
	}
	last := i
	switch p.src[i] {
	case '{', '[':
		last = p.flow(i, path, 0)
	case '"', '\'':
		last = p.quoted(i)
	}
	for n+1 < len(p.line) && p.line[n+1] <= last {
		n++
	}
	return n
}

// flow walks a value of flow style that begins at i and returns where it ends.
func (p *places) flow(i int, path string, depth int) int {
	mapping, n := p.src[i] == '{', 0
	item, word := path, -1 // the current item's path, and where the word being read began
	if !mapping {
		item = join(path, "[0]")
	}
	for i++; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case c == '}' || c == ']':
			if !mapping && word >= 0 {
				p.note(item, word)
			}
			return i
		case (c == '{' || c == '[') && depth < maxIndent:
			if !mapping {
				p.note(item, i)
			}
			i, word = p.flow(i, item, depth+1), -1
		case c == '"' || c == '\'':
			if word < 0 {
				word = i
			}
			i = p.quoted(i)
		case c == ',':
			if !mapping && word >= 0 {
				p.note(item, word)
			}
			if word = -1; !mapping {
				n++
				item = join(path, "["+strconv.Itoa(n)+"]")
			}
		case c == ':' && mapping && word >= 0 && i+1 < len(p.src) && strings.IndexByte(" \t\r\n{[\"',}", p.src[i+1]) >= 0:
			key := strings.Trim(strings.TrimSpace(string(p.src[word:i])), `"'`)
			item = join(path, key)
			p.note(item, word)
			word = -1
		case c == '#' && strings.IndexByte(" \t\n", p.src[i-1]) >= 0:
			for i+1 < len(p.src) && p.src[i+1] != '\n' {
				i++
			}
		case word < 0 && strings.IndexByte(" \t\r\n", c) < 0:
			word = i
		}
	}
	return len(p.src) - 1
}
