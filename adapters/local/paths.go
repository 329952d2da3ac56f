//go:build linux || darwin

package local

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// inside returns where p is, relative to the directory of the sandbox. Relative paths, and the empty one, mean the workspace
// and may not leave it; absolute ones must lie in the sandbox.
func (x *box) inside(p string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("path %q in sandbox %s %s", p, x.claim.Name, why))
	}
	if strings.ContainsRune(p, 0) {
		return refuse("contains NUL")
	}
	if filepath.IsAbs(p) {
		rel, err := filepath.Rel(x.dir(), filepath.Clean(p))
		if err != nil || !filepath.IsLocal(rel) || rel == "." {
			return refuse("lies outside of its directories; use a path relative to the workspace, or one below " + x.dir())
		}
		return rel, nil
	}
	if p == "" {
		p = "."
	}
	if !filepath.IsLocal(p) {
		return refuse("leaves the workspace")
	}
	return filepath.Join(workspaceDir, p), nil
}
