package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

const (
	maxSource = 2048 // bytes of a URL or path, as far as anything takes them
	maxRef    = 255
)

// Source is where the files of a workspace come from: a git repository or a directory of this machine. Use [ParseSource].
type Source struct {
	URL string // of a git repository, as git takes it; it holds no secret
	Ref string // branch, tag, "refs/…" or full commit; empty: the repository's default branch

	Path string // of a directory of this machine; set where URL is not

	scheme string // "https", "http", "git", "ssh"; also "ssh" for git@host:path
	user   string // of an SSH source
	host   string // and its port, where the URL has one
}

// IsGit reports whether the source is a repository.
func (s Source) IsGit() bool { return s.URL != "" }

// String is the URL with the ref, or the path, for messages.
func (s Source) String() string {
	switch {
	case s.Ref != "":
		return s.URL + " at " + s.Ref
	case s.URL != "":
		return s.URL
	}
	return s.Path
}

// ParseSource reads the inputs repo and ref. repo is a URL of git (https, http, ssh, git, or git@host:path) or a directory
// of this machine, absolute or beginning with "./" or "../"; ref belongs to a URL. It looks at no disk and no network.
// Everything else is refused with InvalidArgument, in words that repeat no part of a credential.
func ParseSource(repo, ref string) (Source, error) {
	if err := plain("repo", repo, maxSource); err != nil {
		return Source{}, err
	}
	var s Source
	var err error
	switch {
	case strings.HasPrefix(repo, "-"):
		err = invalid("repo begins with a hyphen; write a directory as ./%s", repo)
	case isDirectory(repo):
		s.Path = filepath.Clean(repo)
	case strings.Contains(repo, "://"):
		s, err = parseURL(repo)
	case isTransport(repo):
		err = invalid("repo names a remote helper of git, which could run programs; use an https:// or ssh:// URL")
	case strings.Contains(repo, ":"):
		s, err = parseSCP(repo)
	case strings.HasPrefix(repo, "~"):
		err = invalid("repo begins with a tilde, which only shells expand; write the whole path")
	default:
		err = invalid("repo %q is neither a URL nor a directory; write a directory as ./%s, and a repository with its https://", repo, repo)
	}
	if err != nil {
		return Source{}, err
	}
	if ref == "" {
		return s, nil
	}
	if !s.IsGit() {
		return Source{}, invalid("ref is given, but repo is a directory, which is copied as it is; leave ref out, or give the URL of a repository")
	}
	if err := checkRef(ref); err != nil {
		return Source{}, err
	}
	if ref != "HEAD" {
		s.Ref = ref
	}
	return s, nil
}

// Open opens the directory of a source that is one.
func (s Source) Open() (*os.Root, error) {
	if s.IsGit() {
		return nil, sandboxer.Refused(sandboxer.Internal, fmt.Errorf("%s is no directory", s.URL))
	}
	root, err := os.OpenRoot(s.Path)
	if err != nil {
		return nil, invalid("repo: %w", err)
	}
	return root, nil
}

func isDirectory(s string) bool {
	if filepath.IsAbs(s) || s == "." || s == ".." {
		return true
	}
	s = filepath.ToSlash(s)
	return strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// isTransport reports whether git would take s for "<helper>::<address>".
func isTransport(s string) bool {
	name, _, found := strings.Cut(s, "::")
	return found && !strings.ContainsAny(name, "/@:[")
}

// plain refuses what could end a line, a C string or somebody's screen.
func plain(what, s string, most int) error {
	if s == "" {
		return invalid("%s is empty", what)
	}
	if len(s) > most {
		return invalid("%s has %d bytes; at most %d are taken", what, len(s), most)
	}
	if hasControl(s) {
		return invalid("%s contains a control character", what)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func invalid(format string, args ...any) error {
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
}

// checkRef takes what git takes as a ref's name (git-check-ref-format), and full commits, which are no less.
func checkRef(ref string) error {
	if err := plain("ref", ref, maxRef); err != nil {
		return err
	}
	bad := func(why string) error {
		return invalid("ref %q is no branch, tag or full commit: it %s", ref, why)
	}
	if strings.HasPrefix(ref, "-") {
		return bad("begins with a hyphen")
	}
	if strings.ContainsAny(ref, " ~^:?*[\\") {
		return bad(`contains one of space ~ ^ : ? * [ \`)
	}
	if strings.Contains(ref, "..") || strings.Contains(ref, "@{") || ref == "@" {
		return bad(`contains ".." or "@{", or is "@"`)
	}
	if strings.HasSuffix(ref, ".") {
		return bad("ends with a dot")
	}
	for part := range strings.SplitSeq(ref, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return bad("has a part that is empty, begins with a dot or ends with .lock")
		}
	}
	return nil
}

// isCommit reports whether a ref is a full object name, of either hash.
func isCommit(ref string) bool {
	return (len(ref) == 40 || len(ref) == 64) && strings.Trim(ref, "0123456789abcdef") == ""
}
