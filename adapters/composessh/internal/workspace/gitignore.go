package workspace

import "strings"

// gitRules are the patterns of one .gitignore, and those of the directories above it.
type gitRules struct {
	up       *gitRules
	base     string // the directory that they are relative to
	patterns []gitPattern
}

// ignores asks the nearest .gitignore first, and in each the last pattern first. What lies in an ignored directory is not
// asked about: no pattern brings it back.
func (g *gitRules) ignores(name, base string, isDir bool) bool {
	for ; g != nil; g = g.up {
		rel := name
		if g.base != "" {
			rel = name[len(g.base)+1:]
		}
		for i := len(g.patterns) - 1; i >= 0; i-- {
			if p := &g.patterns[i]; p.matches(rel, base, isDir) {
				return !p.negated
			}
		}
	}
	return false
}

// gitPattern is one line of a .gitignore.
type gitPattern struct {
	negated bool
	dirOnly bool
	inAny   bool // it has no slash: it is for names in every directory below

	literal string // where it has no wildcards
	suffix  string // where it is "*" and this
	prefix  string // what stands before the first wildcard; git takes that off first, which "a**/b" shows
	parts   []glob // the rest
}

// parseGitIgnore reads lines as git does: a byte order mark and carriage returns are dropped, and blanks at the end that
// no backslash protects.
func parseGitIgnore(text string) []gitPattern {
	text = strings.TrimPrefix(text, "\ufeff")
	var out []gitPattern
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if p, ok := parseGitPattern(trimBlanks(line)); ok {
			out = append(out, p)
		}
	}
	return out
}

func trimBlanks(s string) string {
	end := 0 // behind the last byte that stays
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				return s
			}
			end = i + 1
		} else if s[i] != ' ' {
			end = i + 1
		}
	}
	return s[:end]
}

func parseGitPattern(s string) (p gitPattern, ok bool) {
	if rest, found := strings.CutPrefix(s, "!"); found {
		p.negated, s = true, rest
	}
	if rest, found := strings.CutSuffix(s, "/"); found {
		p.dirOnly, s = true, rest
	}
	p.inAny = !strings.Contains(s, "/")
	s = strings.TrimPrefix(s, "/")
	if s == "" || strings.IndexByte(s, 0) >= 0 {
		return p, false
	}
	const special = `*?[\`
	switch {
	case !strings.ContainsAny(s, special):
		p.literal = s
	case p.inAny && s[0] == '*' && len(s) > 1 && !strings.ContainsAny(s[1:], special):
		p.suffix = s[1:]
	case p.inAny:
		p.parts = parseGlobs(s, true)
	default:
		i := strings.IndexAny(s, special)
		p.prefix, p.parts = s[:i], parseGlobs(s[i:], false)
	}
	return p, p.literal != "" || p.suffix != "" || p.parts != nil
}

func (p *gitPattern) matches(rel, base string, isDir bool) bool {
	if p.dirOnly && !isDir {
		return false
	}
	if p.inAny {
		rel = base
	}
	switch {
	case p.literal != "":
		return rel == p.literal
	case p.suffix != "":
		return strings.HasSuffix(rel, p.suffix)
	case p.inAny:
		return p.parts[0].matches(rel)
	}
	rest, ok := strings.CutPrefix(rel, p.prefix)
	return ok && matchParts(p.parts, rest)
}

// matchParts matches a path part by part. "**" stands for any number of parts, and at the end for at least one; only the
// last one seen has ever to be tried again with more, since what follows it does not depend on what it took.
func matchParts(parts []glob, rel string) bool {
	names := strings.Split(rel, "/")
	p, n, again, from := 0, 0, -1, 0
	for n < len(names) {
		switch {
		case p < len(parts) && parts[p].any:
			if p == len(parts)-1 {
				return true
			}
			again, from = p, n
			p++
			continue
		case p < len(parts) && parts[p].matches(names[n]):
			p, n = p+1, n+1
			continue
		case again < 0:
			return false
		}
		from++
		p, n = again+1, from
	}
	return p == len(parts)
}
