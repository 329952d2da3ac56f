package registry

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	handlerPattern = `^([a-z0-9]+(-[a-z0-9]+)*|sandboxer\.extensions\.[a-z0-9]+(_[a-z0-9]+)*:[A-Za-z_][A-Za-z0-9_]*)$`
	maxHandler     = 128
	aliasPrefix    = "sandboxer.extensions."
)

var handlerFormat = regexp.MustCompile(handlerPattern)

// handlerName reads what a manifest's handler key says: "my-backend", or the older module path
// "sandboxer.extensions.my_backend:MyExtension", which means the same.
func handlerName(s string) (string, error) {
	if len(s) > maxHandler || !handlerFormat.MatchString(s) {
		if strings.ContainsAny(s, ".:") {
			return "", fmt.Errorf("%s names no handler; write a name such as my-backend, or sandboxer.extensions.my_backend:MyExtension", quote(s))
		}
		return "", fmt.Errorf("%s names no handler; use lower-case letters, digits and inner hyphens, such as my-backend", quote(s))
	}
	if module, found := strings.CutPrefix(s, aliasPrefix); found {
		module, _, _ = strings.Cut(module, ":")
		return strings.ReplaceAll(module, "_", "-"), nil
	}
	return s, nil
}
