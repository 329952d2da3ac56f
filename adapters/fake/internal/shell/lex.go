package shell

import (
	"fmt"
	"strings"
)

// maxDepth bounds nesting, so that no script overflows the stack.
const maxDepth = 200

type parser struct {
	src   string
	pos   int
	depth int
	docs  []*pendingDoc
}

// pendingDoc is a here-document whose text begins after the line that it is named on.
type pendingDoc struct {
	end    string
	dashed bool
	raw    bool
	into   *word
}

type syntaxError struct{ msg string }

func (e *syntaxError) Error() string { return "syntax error: " + e.msg }

func (p *parser) fail(format string, args ...any) {
	panic(&syntaxError{fmt.Sprintf(format, args...)}) // caught in parse
}

func (p *parser) enter() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested more than %d deep", maxDepth)
	}
	return func() { p.depth-- }
}

func (p *parser) rest() string { return p.src[p.pos:] }

func (p *parser) has(s string) bool { return strings.HasPrefix(p.rest(), s) }

func (p *parser) eof() bool { return p.pos >= len(p.src) }

// blanks skips spaces, continued lines and comments.
func (p *parser) blanks() {
	for !p.eof() {
		switch c := p.src[p.pos]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.pos++
		case p.has("\\\n"):
			p.pos += 2
		case c == '#':
			for !p.eof() && p.src[p.pos] != '\n' {
				p.pos++
			}
		default:
			return
		}
	}
}

// newline takes one line end and the here-documents that follow it.
func (p *parser) newline() bool {
	if p.eof() || p.src[p.pos] != '\n' {
		return false
	}
	p.pos++
	docs := p.docs
	p.docs = nil
	for _, d := range docs {
		p.document(d)
	}
	return true
}

func (p *parser) document(d *pendingDoc) {
	var text strings.Builder
	for {
		if p.eof() {
			p.fail("here-document without its end %q", d.end)
		}
		line, rest, _ := strings.Cut(p.rest(), "\n")
		p.pos = len(p.src) - len(rest)
		if d.dashed {
			line = strings.TrimLeft(line, "\t")
		}
		if line == d.end {
			break
		}
		text.WriteString(line + "\n")
	}
	if d.raw {
		*d.into = word{{kind: literal, quoted: true, text: text.String()}}
		return
	}
	sub := &parser{src: text.String(), depth: p.depth}
	*d.into = sub.quoted("")
}

func (p *parser) blankLines() {
	for {
		p.blanks()
		if !p.newline() {
			return
		}
	}
}

// op takes the operator s.
func (p *parser) op(s string) bool {
	p.blanks()
	if !p.has(s) {
		return false
	}
	p.pos += len(s)
	return true
}

const meta = " \t\r\n;&|<>()"

// word takes one word, or nil where there is none.
func (p *parser) word() word {
	p.blanks()
	return p.until(meta)
}

// until takes an unquoted word up to one of stop.
func (p *parser) until(stop string) word {
	defer p.enter()()
	var w word
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			w = append(w, part{kind: literal, text: lit.String()})
			lit.Reset()
		}
	}
	for !p.eof() && !strings.ContainsRune(stop, rune(p.src[p.pos])) {
		switch c := p.src[p.pos]; c {
		case '\\':
			p.pos++
			if p.eof() {
				lit.WriteByte('\\')
				break
			}
			if p.src[p.pos] != '\n' {
				flush()
				w = append(w, part{kind: literal, quoted: true, text: p.src[p.pos : p.pos+1]})
			}
			p.pos++
		case '\'':
			flush()
			end := strings.IndexByte(p.src[p.pos+1:], '\'')
			if end < 0 {
				p.fail("a single quote is not closed")
			}
			w = append(w, part{kind: literal, quoted: true, text: p.src[p.pos+1 : p.pos+1+end]})
			p.pos += end + 2
		case '"':
			flush()
			p.pos++
			w = append(w, part{kind: literal, quoted: true}) // "" is a field
			w = append(w, p.quoted(`"`)...)
			p.pos++
		case '$', '`':
			flush()
			w = append(w, p.dollar(false))
		default:
			lit.WriteByte(c)
			p.pos++
		}
	}
	flush()
	return w
}

// quoted takes text as within double quotes up to stop, or to the end where stop is "".
func (p *parser) quoted(stop string) word {
	defer p.enter()()
	var w word
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			w = append(w, part{kind: literal, quoted: true, text: lit.String()})
			lit.Reset()
		}
	}
	for stop == "" || !p.has(stop) {
		if p.eof() {
			if stop == "" {
				break
			}
			p.fail("%s is missing", stop)
		}
		switch c := p.src[p.pos]; {
		case c == '\\' && p.pos+1 < len(p.src):
			next := p.src[p.pos+1]
			p.pos += 2
			switch {
			case next == '\n':
			case strings.IndexByte("$`\\", next) >= 0, stop != "" && next == stop[0]:
				lit.WriteByte(next)
			default:
				lit.WriteByte('\\')
				lit.WriteByte(next)
			}
		case c == '$' || c == '`':
			flush()
			w = append(w, p.dollar(true))
		default:
			lit.WriteByte(c)
			p.pos++
		}
	}
	flush()
	return w
}

// dollar takes $name, ${…}, $(…), $((…)) and `…`.
func (p *parser) dollar(quoted bool) part {
	defer p.enter()()
	if p.src[p.pos] == '`' {
		return p.backquote(quoted)
	}
	p.pos++
	switch {
	case p.has("(("):
		p.pos += 2
		return part{kind: arithmetic, quoted: quoted, arg: p.arith()}
	case p.has("("):
		p.pos++
		body := p.list(func() bool { return p.has(")") })
		if !p.op(")") {
			p.fail("$( is not closed")
		}
		return part{kind: substitution, quoted: quoted, script: body}
	case p.has("{"):
		p.pos++
		return p.braced(quoted)
	}
	if name := p.name(); name != "" {
		return part{kind: parameter, quoted: quoted, text: name}
	}
	if !p.eof() && strings.IndexByte("?#@*$!-0123456789", p.src[p.pos]) >= 0 {
		p.pos++
		return part{kind: parameter, quoted: quoted, text: p.src[p.pos-1 : p.pos]}
	}
	return part{kind: literal, quoted: quoted, text: "$"}
}

// arith takes the inside of $((…)) as quoted text up to the brackets that close it.
func (p *parser) arith() word {
	var w word
	depth := 0
	for {
		switch {
		case p.eof():
			p.fail("$(( is not closed")
		case depth == 0 && p.has("))"):
			p.pos += 2
			return w
		case p.src[p.pos] == '$' || p.src[p.pos] == '`':
			w = append(w, p.dollar(true))
			continue
		case p.src[p.pos] == '(':
			depth++
		case p.src[p.pos] == ')':
			depth--
		}
		w = append(w, part{kind: literal, quoted: true, text: p.src[p.pos : p.pos+1]})
		p.pos++
	}
}

func (p *parser) backquote(quoted bool) part {
	p.pos++
	var text strings.Builder
	for {
		switch {
		case p.eof():
			p.fail("a backquote is not closed")
		case p.src[p.pos] == '\\' && p.pos+1 < len(p.src) && strings.IndexByte("$`\\", p.src[p.pos+1]) >= 0:
			p.pos++
		case p.src[p.pos] == '`':
			p.pos++
			sub := &parser{src: text.String(), depth: p.depth}
			return part{kind: substitution, quoted: quoted, script: sub.program()}
		}
		text.WriteByte(p.src[p.pos])
		p.pos++
	}
}

func (p *parser) name() string {
	start := p.pos
	for !p.eof() {
		c := p.src[p.pos]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || p.pos == start) {
			break
		}
		p.pos++
	}
	return p.src[start:p.pos]
}

func (p *parser) braced(quoted bool) part {
	out := part{kind: parameter, quoted: quoted}
	if p.has("#") && !p.has("#}") {
		p.pos++
		out.op = "len"
	}
	if out.text = p.name(); out.text == "" {
		start := p.pos
		for !p.eof() && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
			p.pos++
		}
		if p.pos == start && !p.eof() && strings.IndexByte("?#@*$!-", p.src[p.pos]) >= 0 {
			p.pos++
		}
		if out.text = p.src[start:p.pos]; out.text == "" {
			p.fail("${ without a name")
		}
	}
	if out.op == "" {
		for _, op := range []string{":-", ":=", ":?", ":+", "-", "=", "?", "+", "%%", "%", "##", "#"} {
			if p.has(op) {
				p.pos += len(op)
				out.op = op
				if quoted {
					out.arg = p.quoted("}")
				} else {
					out.arg = p.until("}")
				}
				break
			}
		}
	}
	if !p.has("}") {
		p.fail("${%s is not closed, or what follows the name is not supported", out.text)
	}
	p.pos++
	return out
}
