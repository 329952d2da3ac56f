//go:build linux || darwin

package local

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzInside looks for a path that is taken and lies elsewhere.
func FuzzInside(f *testing.F) {
	x := &box{base: &base{path: "/srv/root"}, claim: &claim{Name: "box"}}
	for _, p := range []string{"", ".", "..", "a/../b", "a/../../b", "/srv/root/box/workspace", "/srv/root/box/../other", "/srv/root/box", "/etc", "//srv/root/box/home", "a\x00b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		rel, err := x.inside(p)
		if err != nil {
			return
		}
		at := filepath.Join("/srv/root/box", rel)
		if strings.ContainsRune(at, 0) || !strings.HasPrefix(at, "/srv/root/box/") {
			t.Errorf("%q is taken, and is %q", p, at)
		}
		if !filepath.IsAbs(p) && at != "/srv/root/box/workspace" && !strings.HasPrefix(at, "/srv/root/box/workspace/") {
			t.Errorf("%q is taken, and is %q, outside of the workspace", p, at)
		}
	})
}

// FuzzContentFile looks for a digest that is taken and names another place than contents have.
func FuzzContentFile(f *testing.F) {
	for _, d := range []string{"", "sha256:", "sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("../", 21) + "x", "md5:x"} {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, digest string) {
		file, err := contentFile(digest)
		if err == nil && (filepath.Dir(file) != keepDir || file != keepDir+"/"+strings.TrimPrefix(digest, "sha256:")+contentEnd) {
			t.Errorf("%q is taken, and is %q", digest, file)
		}
	})
}
