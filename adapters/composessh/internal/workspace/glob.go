package workspace

import "strings"

// glob matches one part of a path, byte by byte, as git's wildmatch does.
type glob struct {
	any    bool // "**" for itself: any number of parts
	tokens []token
}

type token struct {
	star bool      // any bytes
	set  [4]uint64 // otherwise one of these
}

func (t *token) add(c byte)      { t.set[c>>6] |= 1 << (c & 63) }
func (t *token) has(c byte) bool { return t.set[c>>6]&(1<<(c&63)) != 0 }

// parseGlobs parses a pattern, which is nil where it can match nothing. In a pattern for names, "**" is "*".
func parseGlobs(s string, inAny bool) []glob {
	parts := []glob{{}}
	last := func() *glob { return &parts[len(parts)-1] }
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '/':
			parts = append(parts, glob{})
			i++
		case '*':
			n := i
			for n < len(s) && s[n] == '*' {
				n++
			}
			alone := n-i >= 2 && !inAny && (i == 0 || s[i-1] == '/') && (n == len(s) || s[n] == '/' || strings.HasPrefix(s[n:], `\/`))
			if alone {
				last().any = true
			} else {
				last().tokens = append(last().tokens, token{star: true})
			}
			i = n
		case '?':
			last().tokens = append(last().tokens, anyByte())
			i++
		case '[':
			t, n, ok := parseSet(s[i:])
			if !ok {
				return nil
			}
			last().tokens = append(last().tokens, t)
			i += n
		case '\\':
			if i++; i == len(s) {
				return nil
			}
			if s[i] == '/' {
				continue
			}
			fallthrough
		default:
			var t token
			t.add(s[i])
			last().tokens = append(last().tokens, t)
			i++
		}
	}
	return parts
}

func anyByte() token { return token{set: [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}} }

// parseSet parses "[…]" and says how long it is. A slash in it matches nothing, as no part of a path has one.
func parseSet(s string) (t token, n int, ok bool) {
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	var prev byte // the last single byte, from which a range may go; 0: none
	for first := true; ; first = false {
		if i >= len(s) {
			return t, 0, false
		}
		c := s[i]
		switch {
		case c == ']' && !first:
			if negated {
				for k := range t.set {
					t.set[k] = ^t.set[k]
				}
			}
			t.set['/'>>6] &^= 1 << ('/' & 63)
			return t, i + 1, true
		case c == '-' && prev != 0 && i+1 < len(s) && s[i+1] != ']':
			i++
			end := s[i]
			if end == '\\' {
				if i++; i >= len(s) {
					return t, 0, false
				}
				end = s[i]
			}
			for b := int(prev); b <= int(end); b++ {
				t.add(byte(b))
			}
			prev = 0
		case c == '[' && i+1 < len(s) && s[i+1] == ':':
			end := strings.IndexByte(s[i+2:], ']')
			if end < 0 {
				return t, 0, false
			}
			name, isClass := strings.CutSuffix(s[i+2:i+2+end], ":")
			if !isClass { // "[:" is no class: the bracket counts as itself
				t.add('[')
				prev = '['
				break
			}
			if !t.addClass(name) {
				return t, 0, false
			}
			i += 2 + end
			prev = 0
		case c == '\\':
			if i++; i >= len(s) {
				return t, 0, false
			}
			c = s[i]
			fallthrough
		default:
			t.add(c)
			prev = c
		}
		i++
	}
}

// addClass adds the bytes of a POSIX class, in the C locale.
func (t *token) addClass(name string) bool {
	in := func(c, from, to byte) bool { return from <= c && c <= to }
	alpha := func(c byte) bool { return in(c|0x20, 'a', 'z') }
	digit := func(c byte) bool { return in(c, '0', '9') }
	graph := func(c byte) bool { return in(c, '!', '~') }
	f, ok := map[string]func(c byte) bool{
		"alnum": func(c byte) bool { return alpha(c) || digit(c) }, "alpha": alpha, "digit": digit, "graph": graph,
		"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
		"cntrl":  func(c byte) bool { return c < ' ' || c == 0x7f },
		"lower":  func(c byte) bool { return in(c, 'a', 'z') },
		"upper":  func(c byte) bool { return in(c, 'A', 'Z') },
		"print":  func(c byte) bool { return in(c, ' ', '~') },
		"punct":  func(c byte) bool { return graph(c) && !alpha(c) && !digit(c) },
		"space":  func(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }, // as git has it
		"xdigit": func(c byte) bool { return digit(c) || in(c|0x20, 'a', 'f') },
	}[name]
	if ok {
		for c := range 128 {
			if f(byte(c)) {
				t.add(byte(c))
			}
		}
	}
	return ok
}

// matches tries more bytes for the last star only: what follows a star does not depend on what it took.
func (g *glob) matches(s string) bool {
	t, i, again, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case t < len(g.tokens) && g.tokens[t].star:
			again, from = t, i
			t++
			continue
		case t < len(g.tokens) && g.tokens[t].has(s[i]):
			t, i = t+1, i+1
			continue
		case again < 0:
			return false
		}
		from++
		t, i = again+1, from
	}
	for t < len(g.tokens) && g.tokens[t].star {
		t++
	}
	return t == len(g.tokens)
}
