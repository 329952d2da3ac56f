package workspace

import (
	"net"
	"net/url"
	"strings"
)

const useCredential = "give it as the input git_credential, which names a secret"

// parseURL takes the URLs of the protocols that are allowed. Its messages do not show the URL: it may hold a secret.
func parseURL(repo string) (Source, error) {
	u, err := url.Parse(repo)
	if err != nil {
		return Source{}, invalid("repo is not a URL that can be read; what stands before and after its :// must be a scheme, a host and a path")
	}
	switch u.Scheme {
	case "https", "http", "git", "ssh":
	case "file":
		return Source{}, invalid("repo is a file:// URL; for a directory of this machine write its path alone, and what lies on the host cannot be a source")
	default:
		return Source{}, invalid("repo has the scheme %q; https, http, ssh and git are taken", u.Scheme)
	}
	switch {
	case !strings.HasPrefix(repo, u.Scheme+"://"):
		return Source{}, invalid("repo does not begin with %s:// in small letters", u.Scheme)
	case u.User != nil && u.Scheme != "ssh":
		return Source{}, invalid("repo holds a user or a password before its host; take it out, and %s", useCredential)
	case u.RawQuery != "" || u.ForceQuery:
		return Source{}, invalid("repo has a query; take out what begins with the question mark, and where that is a credential %s", useCredential)
	case u.Fragment != "" || strings.Contains(repo, "#"):
		return Source{}, invalid("repo has a fragment; give the branch, tag or commit as the input ref")
	case u.Path == "" || u.Path == "/":
		return Source{}, invalid("repo names a host and no repository on it")
	}
	s := Source{URL: repo, scheme: u.Scheme, host: u.Host}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return Source{}, invalid("repo holds a password; take it out, and %s", useCredential)
		}
		if s.user = u.User.Username(); !isUser(s.user) {
			return Source{}, invalid("repo has a user that is none: only letters, digits and . _ - are taken, and it begins with a letter or digit")
		}
	}
	if err := checkHost(u.Hostname(), u.Port()); err != nil {
		return Source{}, err
	}
	return s, checkPath(u.Path)
}

// parseSCP takes "user@host:path", which means SSH. Without a user it could as well be a drive, a remote helper or a slip.
func parseSCP(repo string) (Source, error) {
	before, path, _ := strings.Cut(repo, ":")
	user, host, found := strings.Cut(before, "@")
	if !found || strings.Contains(before, "/") || !isUser(user) {
		return Source{}, invalid("repo is neither a URL nor user@host:path nor a directory; write ssh://host/path for SSH, and ./ before a directory")
	}
	if err := checkHost(host, ""); err != nil {
		return Source{}, err
	}
	switch {
	case path == "" || path == "/":
		return Source{}, invalid("repo names a host and no repository on it")
	case strings.HasPrefix(path, ":") || strings.HasPrefix(path, "-"):
		return Source{}, invalid("the path of repo begins with %q", path[:1])
	case strings.Contains(path, "#"):
		return Source{}, invalid("repo has a fragment; give the branch, tag or commit as the input ref")
	}
	return Source{URL: repo, scheme: "ssh", user: user, host: host}, checkPath(path)
}

// checkHost takes names and addresses. None begins with a hyphen, which ssh would take for an option.
func checkHost(host, port string) error {
	if ip := net.ParseIP(host); ip != nil {
		return nil
	}
	if host == "" {
		return invalid("repo names no host")
	}
	if !isName(host) {
		return invalid("repo has the host %q, which is no name or address", host)
	}
	if strings.Trim(port, "0123456789") != "" {
		return invalid("repo has the port %q", port)
	}
	return nil
}

// checkPath looks at a path after its percent signs were decoded, as git does.
func checkPath(path string) error {
	if hasControl(path) {
		return invalid("the path of repo contains a control character")
	}
	return nil
}

func isUser(s string) bool { return isName(s) && s[0] != '.' && s[0] != '_' }

func isName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-'
}
