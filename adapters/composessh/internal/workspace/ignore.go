package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// What PushOptions.Ignore may hold.
const (
	GitIgnore    = "gitignore"    // .gitignore in each directory; see gitignore(5)
	DockerIgnore = "dockerignore" // .dockerignore in the top directory, as docker build reads it
)

const maxRules = 256 << 10 // bytes of a file of patterns

type verdict int

const (
	kept    verdict = iota
	ignored         // and everything in it
	descend         // a directory that is ignored, but perhaps not all that is in it
)

// rules say what of a tree is left alone, on both sides.
type rules struct {
	git   bool
	noGit bool

	mu     sync.Mutex // the matcher compiles when it is asked
	docker *patternmatcher.PatternMatcher
}

// readRules returns nil where nothing is ignored.
func readRules(root tree, o PushOptions) (*rules, error) {
	r := &rules{noGit: o.NoGit}
	for _, name := range o.Ignore {
		switch name {
		case GitIgnore:
			r.git = true
		case DockerIgnore:
			if err := r.readDocker(root); err != nil {
				return nil, err
			}
		default:
			return nil, invalid("ignore has %q; it may have %s and %s", name, GitIgnore, DockerIgnore)
		}
	}
	if !r.git && !r.noGit && r.docker == nil {
		return nil, nil
	}
	return r, nil
}

func (r *rules) readDocker(root tree) error {
	text, err := root.text(".dockerignore")
	if text == "" || err != nil {
		return err
	}
	patterns, err := ignorefile.ReadAll(strings.NewReader(text))
	if err == nil {
		r.docker, err = patternmatcher.New(patterns)
	}
	if err == nil {
		_, err = r.docker.MatchesOrParentMatches("x") // finds most of what does not compile
	}
	if err != nil {
		return invalid(".dockerignore: %w", err)
	}
	return nil
}

// readPatterns reads a file of patterns; one that is not there, or no regular file, is empty. Links are not followed, as
// git does not.
func readPatterns(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !info.Mode().IsRegular()) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(f, maxRules+1))
	if err == nil && len(text) > maxRules {
		err = invalid("%s has more than %d bytes", name, maxRules)
	}
	return string(text), err
}

// top is the scope of the whole tree.
func (r *rules) top() *scope {
	if r == nil {
		return nil
	}
	return &scope{rules: r}
}

// scope is what counts in one directory. A nil one ignores nothing.
type scope struct {
	rules *rules
	path  string
	git   *gitRules
	inGit bool // it is, or is in, a .git
	all   bool // everything in it is ignored

	docker patternmatcher.MatchInfo
}

// enter adds what the directory itself brings.
func (s *scope) enter(root tree, path string) (*scope, error) {
	if s == nil || !s.rules.git || s.inGit || s.all {
		return s, nil
	}
	text, err := root.text(".gitignore")
	if err != nil {
		return nil, fmt.Errorf("patterns: %w", err)
	}
	if p := parseGitIgnore(text); len(p) > 0 {
		own := *s
		own.git = &gitRules{up: s.git, base: path, patterns: p}
		return &own, nil
	}
	return s, nil
}

// judge says what becomes of a name in the directory.
func (s *scope) judge(base string, isDir bool) verdict {
	switch {
	case s == nil:
		return kept
	case s.all, s.rules.noGit && base == ".git":
		return ignored
	}
	name := join(s.path, base)
	if !s.inGit && base != ".git" && s.git.ignores(name, base, isDir) {
		return ignored
	}
	if s.rules.docker == nil {
		return kept
	}
	matched, _ := s.matchDocker(name)
	switch {
	case !matched:
		return kept
	case isDir && s.rules.mayExcept(name):
		return descend
	}
	return ignored
}

// below is the scope of a directory in this one, before it is entered.
func (s *scope) below(base string) *scope {
	if s == nil {
		return nil
	}
	sub := *s
	sub.path = join(s.path, base)
	sub.inGit = s.inGit || base == ".git"
	if s.rules.docker != nil && !s.all {
		_, sub.docker = s.matchDocker(sub.path)
	}
	return &sub
}

func (s *scope) matchDocker(name string) (bool, patternmatcher.MatchInfo) {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	matched, info, err := s.rules.docker.MatchesUsingParentResults(name, s.docker)
	return matched && err == nil, info // a pattern that does not compile matches nothing
}

// mayDescend reports whether a directory may be ignored in part.
func (r *rules) mayDescend() bool { return r != nil && r.docker != nil && r.docker.Exclusions() }

// mayExcept reports whether an exception ("!…") may match something below a directory.
func (r *rules) mayExcept(dir string) bool {
	parts := strings.Split(dir, "/")
	for _, p := range r.docker.Patterns() {
		if p.Exclusion() && mayReach(strings.Split(filepath.ToSlash(p.String()), "/"), parts) {
			return true
		}
	}
	return false
}

func mayReach(pattern, dir []string) bool {
	for i, part := range dir {
		if i >= len(pattern) {
			return false // it names something above
		}
		if strings.Contains(pattern[i], "**") {
			return true
		}
		if ok, err := path.Match(pattern[i], part); !ok && err == nil {
			return false
		}
	}
	return true
}

// ignoresThere reports whether a name of the host's tree is left alone, also where its directory is not here.
func (l *local) ignoresThere(name string, isDir bool) bool {
	if l.scopes == nil {
		return false
	}
	dir, base := split(name)
	return l.scopeOf(dir).judge(base, isDir) == ignored
}

func (l *local) scopeOf(dir string) *scope {
	if s, ok := l.scopes[dir]; ok || dir == "" {
		return s
	}
	up, base := split(dir)
	parent := l.scopeOf(up)
	s := parent.below(base)
	s.all = s.all || parent.judge(base, true) == ignored
	l.scopes[dir] = s
	return s
}

func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}
