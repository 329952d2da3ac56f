package shell

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// parse reads a script.
func parse(src string) (body list, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*syntaxError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	if strings.IndexByte(src, 0) >= 0 {
		return nil, errors.New("syntax error: the script contains a NUL byte")
	}
	return (&parser{src: src}).program(), nil
}

func (p *parser) program() list {
	body := p.list(p.eof)
	if !p.eof() {
		p.fail("%q is unexpected", clip(p.rest()))
	}
	return body
}

func clip(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	if len(line) > 20 {
		line = line[:20]
	}
	return line
}

var reserved = []string{"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "for", "in", "case", "esac", "{", "}", "!"}

// keyword reports whether the reserved word s comes next.
func (p *parser) keyword(s string) bool {
	p.blanks()
	if !p.has(s) {
		return false
	}
	after := p.pos + len(s)
	return after == len(p.src) || strings.IndexByte(meta, p.src[after]) >= 0
}

func (p *parser) take(s string) bool {
	if !p.keyword(s) {
		return false
	}
	p.pos += len(s)
	return true
}

func (p *parser) need(s string) {
	p.blankLines()
	if !p.take(s) {
		p.fail("%q is missing before %q", s, clip(p.rest()))
	}
}

// list takes commands until end.
func (p *parser) list(end func() bool) list {
	defer p.enter()()
	var out list
	for {
		p.blankLines()
		if p.eof() || end() {
			return out
		}
		it := item{and: p.andOr()}
		p.blanks()
		switch {
		case p.has(";;"):
		case p.has(";"):
			p.pos++
		case p.has("&"):
			p.pos++
			it.background = true
		case p.eof() || p.src[p.pos] == '\n' || end():
		default:
			p.fail("%q is unexpected", clip(p.rest()))
		}
		out = append(out, it)
	}
}

// block takes commands up to one of the reserved words ends.
func (p *parser) block(ends ...string) list {
	body := p.list(func() bool { return slices.ContainsFunc(ends, p.keyword) })
	if len(body) == 0 {
		p.fail("a command is missing before %q", clip(p.rest()))
	}
	return body
}

func (p *parser) andOr() []andOr {
	out := []andOr{{pipe: p.pipeline()}}
	for {
		p.blanks()
		var op string
		switch {
		case p.has("&&"):
			op = "&&"
		case p.has("||"):
			op = "||"
		default:
			return out
		}
		p.pos += 2
		p.blankLines()
		out = append(out, andOr{op: op, pipe: p.pipeline()})
	}
}

func (p *parser) pipeline() pipeline {
	var out pipeline
	for p.take("!") {
		out.negate = !out.negate
	}
	for {
		out.cmds = append(out.cmds, p.command())
		p.blanks()
		if !p.has("|") || p.has("||") {
			return out
		}
		p.pos++
		p.blankLines()
	}
}

func (p *parser) command() command {
	defer p.enter()()
	p.blanks()
	switch {
	case p.take("if"):
		return p.ifClause()
	case p.keyword("while"), p.keyword("until"):
		c := &loop{until: p.take("until")}
		if !c.until {
			p.need("while")
		}
		c.cond = p.block("do")
		p.need("do")
		c.body = p.block("done")
		p.need("done")
		c.redir = p.redirections()
		return c
	case p.take("for"):
		return p.forClause()
	case p.take("case"):
		return p.caseClause()
	case p.take("{"):
		c := &group{body: p.block("}")}
		p.need("}")
		c.redir = p.redirections()
		return c
	case p.has("("):
		p.pos++
		c := &group{subshell: true, body: p.list(func() bool { return p.has(")") })}
		if !p.op(")") {
			p.fail("( is not closed")
		}
		c.redir = p.redirections()
		return c
	}
	return p.simple()
}

func (p *parser) ifClause() command {
	c := &ifClause{}
	for {
		c.conds = append(c.conds, p.block("then"))
		p.need("then")
		c.bodies = append(c.bodies, p.block("elif", "else", "fi"))
		if !p.take("elif") {
			break
		}
	}
	if p.take("else") {
		c.otherwise = p.block("fi")
	}
	p.need("fi")
	c.redir = p.redirections()
	return c
}

func (p *parser) forClause() command {
	p.blanks()
	c := &forClause{name: p.name(), params: true}
	if c.name == "" {
		p.fail("for without a name")
	}
	p.blankLines()
	if p.take("in") {
		c.params = false
		for w := p.word(); w != nil; w = p.word() {
			c.words = append(c.words, w)
		}
	}
	p.op(";")
	p.need("do")
	c.body = p.block("done")
	p.need("done")
	c.redir = p.redirections()
	return c
}

func (p *parser) caseClause() command {
	c := &caseClause{subject: p.word()}
	p.need("in")
	for {
		p.blankLines()
		if p.take("esac") {
			break
		}
		p.op("(")
		var arm caseArm
		for {
			w := p.word()
			if w == nil {
				p.fail("a pattern is missing before %q", clip(p.rest()))
			}
			arm.patterns = append(arm.patterns, w)
			if !p.op("|") {
				break
			}
		}
		if !p.op(")") {
			p.fail("a pattern of case is not closed")
		}
		arm.body = p.list(func() bool { return p.has(";;") || p.keyword("esac") })
		p.op(";;")
		c.arms = append(c.arms, arm)
	}
	c.redir = p.redirections()
	return c
}

func (p *parser) redirections() []*redir {
	var out []*redir
	for {
		r, ok := p.redirection()
		if !ok {
			return out
		}
		out = append(out, r)
	}
}

// redirection takes [n]<word and its kin. The word of a here-document is filled in at the end of the line.
func (p *parser) redirection() (*redir, bool) {
	p.blanks()
	start := p.pos
	for !p.eof() && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		p.pos++
	}
	digits := p.src[start:p.pos]
	for _, op := range []string{"<<-", "<<", "<&", ">&", ">>", ">|", "<", ">"} {
		if !p.has(op) {
			continue
		}
		p.pos += len(op)
		r := &redir{fd: 1, op: op}
		if op[0] == '<' {
			r.fd = 0
		}
		if digits != "" {
			n, err := strconv.Atoi(digits)
			if err != nil || n >= maxFD {
				p.fail("file descriptor %s: at most %d are supported", digits, maxFD)
			}
			r.fd = n
		}
		target := p.word()
		if target == nil {
			p.fail("%s without a file", op)
		}
		r.arg = target
		if strings.HasPrefix(op, "<<") {
			d := &pendingDoc{dashed: op == "<<-", into: &r.arg}
			for _, part := range target {
				d.end += part.text
				d.raw = d.raw || part.quoted
			}
			r.op, r.arg = "<<", nil // the text comes at the end of the line
			p.docs = append(p.docs, d)
		}
		return r, true
	}
	p.pos = start
	return nil, false
}

func (p *parser) simple() command {
	c := &simple{}
	for {
		if r, ok := p.redirection(); ok {
			c.redir = append(c.redir, r)
			continue
		}
		start := p.pos
		w := p.word()
		if w == nil {
			break
		}
		if text := w.bare(); len(c.words) == 0 && text != "" && slices.Contains(reserved, text) {
			p.pos = start
			p.fail("%q is unexpected", text)
		}
		if name, value, ok := assignment(w); ok && len(c.words) == 0 {
			c.assigns = append(c.assigns, assign{name, value})
			continue
		}
		c.words = append(c.words, w)
		if p.blanks(); len(c.words) == 1 && len(c.assigns) == 0 && p.has("()") && isName(w.bare()) {
			p.pos += 2
			p.blankLines()
			return &function{name: w.bare(), body: p.command()}
		}
	}
	if len(c.words)+len(c.assigns)+len(c.redir) == 0 {
		p.fail("a command is missing before %q", clip(p.rest()))
	}
	return c
}

func isName(s string) bool {
	p := &parser{src: s}
	return s != "" && p.name() == s
}

// assignment splits NAME=value.
func assignment(w word) (name string, value word, ok bool) {
	if len(w) == 0 || w[0].kind != literal || w[0].quoted {
		return "", nil, false
	}
	name, rest, found := strings.Cut(w[0].text, "=")
	if !found || !isName(name) {
		return "", nil, false
	}
	value = append(word{{kind: literal, text: rest}}, w[1:]...)
	return name, value, true
}
