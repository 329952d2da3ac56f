package archive

import (
	"path"
	"path/filepath"
	"strings"
)

// entryName makes a stream's name relative to the root: no leading "./", no trailing slash, "." for the root itself. It
// refuses whatever could mean another place than it says, instead of repairing it.
func entryName(name string) (string, error) {
	switch {
	case name == "":
		return "", refuse(name, "the name is empty")
	case strings.ContainsRune(name, 0):
		return "", refuse(name, "the name contains a NUL byte")
	case strings.HasPrefix(name, "/"):
		return "", refuse(name, "the name is absolute; names in a stream are relative to where it is extracted")
	case filepath.Separator == '\\' && strings.ContainsAny(name, `\:`):
		return "", refuse(name, "the name contains a character that Windows takes for more than a name")
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == ".." {
			return "", refuse(name, `the name contains ".."`)
		}
	}
	clean := path.Clean(name)
	if strings.Count(clean, "/") > maxDepth {
		return "", refuse(name, "lies more than %d directories deep", maxDepth)
	}
	if !filepath.IsLocal(filepath.FromSlash(clean)) {
		return "", refuse(name, "the name is reserved on this system")
	}
	return clean, nil
}

// linkLeaves reports whether a symbolic link at name may lead out of the root. It is strict, so that no order of links in
// one stream can be combined into a way out: ".." counts only at the beginning of a target, where the directory that it is
// relative to is known to be a real one.
func linkLeaves(name, target string) bool {
	if target == "" || path.IsAbs(target) || filepath.IsAbs(target) || (filepath.Separator == '\\' && strings.ContainsAny(target, `\:`)) {
		return true
	}
	depth := strings.Count(name, "/")
	up := true
	for elem := range strings.SplitSeq(target, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; !up || depth < 0 {
				return true
			}
		default:
			up = false
		}
	}
	return false
}
