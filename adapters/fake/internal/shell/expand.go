package shell

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer/adapters/fake/internal/memfs"
)

// field is one field being built. pattern is text with what was quoted escaped.
type field struct {
	text, pattern strings.Builder
	exists        bool // also where it is empty: ""
	magic         bool // an unquoted * ? or [
}

func (f *field) add(text string, quoted bool) {
	f.text.WriteString(text)
	f.exists = true
	for _, c := range []byte(text) {
		if strings.IndexByte(`*?[]\`, c) >= 0 {
			if quoted || c == '\\' {
				f.pattern.WriteByte('\\')
			} else if c != ']' {
				f.magic = true
			}
		}
		f.pattern.WriteByte(c)
	}
}

// fields expands words into the arguments of a command.
func (s *shell) fields(words []word) ([]string, error) { return s.fieldsWith(words, s.last) }

// fieldsWith is fields where $? means status.
func (s *shell) fieldsWith(words []word, status int) ([]string, error) {
	var out []string
	for _, w := range words {
		fields, err := s.expand(w, status, true)
		if err != nil {
			return nil, err
		}
		for _, f := range fields {
			if f.magic {
				if names := s.glob(f.pattern.String()); len(names) > 0 {
					out = append(out, names...)
					continue
				}
			}
			out = append(out, f.text.String())
		}
	}
	return out, nil
}

// text expands a word into one string, without splitting.
func (s *shell) text(w word) (string, error) {
	fields, err := s.expand(w, s.last, false)
	var parts []string
	for _, f := range fields {
		parts = append(parts, f.text.String())
	}
	return strings.Join(parts, " "), err
}

// pattern is text for matching: what was quoted stands for itself.
func (s *shell) pattern(w word) (string, error) {
	fields, err := s.expand(w, s.last, false)
	var parts []string
	for _, f := range fields {
		parts = append(parts, f.pattern.String())
	}
	return strings.Join(parts, " "), err
}

// expand makes fields of a word. split says whether unquoted values are split into several.
func (s *shell) expand(w word, status int, split bool) ([]*field, error) {
	var out []*field
	cur := &field{}
	next := func() {
		if cur.exists {
			out = append(out, cur)
		}
		cur = &field{}
	}
	for i, p := range w {
		var value string
		switch p.kind {
		case literal:
			text := p.text
			if i == 0 && !p.quoted && (text == "~" || strings.HasPrefix(text, "~/")) {
				home, _ := s.get("HOME")
				cur.add(home, true)
				text = text[1:]
			}
			cur.add(text, p.quoted)
			continue
		case parameter:
			if p.op == "" && (p.text == "@" || p.text == "*" && !p.quoted) && split {
				for j, v := range s.params {
					if j > 0 {
						next()
					}
					if p.quoted {
						cur.add(v, true)
						continue
					}
					splitInto(v, &cur, next)
				}
				continue
			}
			v, fields, err := s.param(p, status, split)
			if err != nil {
				return nil, err
			}
			if fields != nil { // the word of ${x:-word}
				for j, f := range fields {
					if j > 0 {
						next()
					}
					cur.text.WriteString(f.text.String())
					cur.pattern.WriteString(f.pattern.String())
					cur.exists, cur.magic = true, cur.magic || f.magic
				}
				continue
			}
			value = v
		case substitution:
			v, err := s.capture(p.script)
			if err != nil {
				return nil, err
			}
			value = v
		case arithmetic:
			text, err := s.text(p.arg)
			if err != nil {
				return nil, err
			}
			n, err := s.evaluate(text)
			if err != nil {
				return nil, err
			}
			value = strconv.FormatInt(n, 10)
		}
		if p.quoted || !split {
			cur.add(value, p.quoted)
			continue
		}
		splitInto(value, &cur, next)
	}
	next()
	return out, nil
}

// splitInto splits at blanks, as the default IFS does.
func splitInto(value string, cur **field, next func()) {
	const blank = " \t\n"
	parts := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(blank, r) })
	if value != "" && strings.IndexByte(blank, value[0]) >= 0 {
		next()
	}
	for i, part := range parts {
		if i > 0 {
			next()
		}
		(*cur).add(part, false)
	}
	if len(parts) > 0 && strings.IndexByte(blank, value[len(value)-1]) >= 0 {
		next()
	}
}

// param returns the value of ${…}, or the fields of its word.
func (s *shell) param(p part, status int, split bool) (string, []*field, error) {
	value, ok := s.get(p.text)
	switch p.text {
	case "?":
		value = strconv.Itoa(status)
	case "@", "*":
		value, ok = strings.Join(s.params, " "), len(s.params) > 0
	}
	present := ok && (value != "" || !strings.HasPrefix(p.op, ":"))
	word := func() (string, []*field, error) {
		fields, err := s.expand(p.arg, status, split && !p.quoted)
		if err == nil && fields == nil {
			return "", nil, nil
		}
		return "", fields, err
	}
	switch p.op {
	case "":
		if !ok && s.nounset && p.text != "@" && p.text != "*" {
			return "", nil, fmt.Errorf("%s: parameter not set", p.text)
		}
		return value, nil, nil
	case "len":
		return strconv.Itoa(len([]rune(value))), nil, nil
	case "-", ":-":
		if !present {
			return word()
		}
	case "+", ":+":
		if present {
			return word()
		}
		return "", nil, nil
	case "=", ":=":
		if !present {
			text, err := s.text(p.arg)
			if err == nil && isName(p.text) {
				s.set(p.text, text)
			}
			return text, nil, err
		}
	case "?", ":?":
		if !present {
			text, err := s.text(p.arg)
			if err == nil {
				err = fmt.Errorf("%s: %s", p.text, orElse(text, "parameter not set"))
			}
			return "", nil, err
		}
	default:
		pattern, err := s.pattern(p.arg)
		return trim(value, p.op, pattern), nil, err
	}
	return value, nil, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// trim takes the shortest or longest match off the beginning (#) or the end (%).
func trim(value, op, pattern string) string {
	n := len(value)
	cuts := make([]int, 0, n+1)
	for i := range n + 1 {
		cuts = append(cuts, i)
	}
	if op == "##" || op == "%" { // for # a longer cut is a longer match, for % a shorter one
		slices.Reverse(cuts)
	}
	for _, i := range cuts {
		if op[0] == '#' && match(pattern, value[:i]) {
			return value[i:]
		}
		if op[0] == '%' && match(pattern, value[i:]) {
			return value[:i]
		}
	}
	return value
}

// match matches a pattern in which "*" also takes slashes.
func match(pattern, s string) bool {
	const slash = "\x01" // path.Match keeps "*" from "/"
	ok, err := path.Match(strings.ReplaceAll(bang(pattern), "/", slash), strings.ReplaceAll(s, "/", slash))
	return err == nil && ok
}

// bang turns the shell's [!…] into [^…].
func bang(pattern string) string { return strings.ReplaceAll(pattern, "[!", "[^") }

// glob lists the paths that match pattern, by name.
func (s *shell) glob(pattern string) []string {
	base, prefix := s.dir, ""
	rest := pattern
	if strings.HasPrefix(pattern, "/") {
		base, prefix, rest = "/", "/", strings.TrimLeft(pattern, "/")
	}
	found := []string{""}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		var next []string
		for _, dir := range found {
			if part == "" || !strings.ContainsAny(part, "*?[") {
				name := path.Join(dir, strings.ReplaceAll(part, `\`, ""))
				if _, err := s.fs().Lstat(memfs.Join(base, name)); err == nil {
					next = append(next, name)
				}
				continue
			}
			all, err := s.fs().ReadDir(memfs.Join(base, dir))
			if err != nil {
				continue
			}
			for _, in := range all {
				if strings.HasPrefix(in.Name, ".") && !strings.HasPrefix(part, ".") {
					continue
				}
				if ok, err := path.Match(bang(part), in.Name); err == nil && ok && (i == len(parts)-1 || in.Mode&(fs.ModeDir|fs.ModeSymlink) != 0) {
					next = append(next, path.Join(dir, in.Name))
				}
			}
		}
		found = next
	}
	for i := range found {
		found[i] = prefix + found[i]
	}
	return found
}
