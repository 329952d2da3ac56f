package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/archive"
)

// FuzzRewrite: whatever the archive, what comes out stays inside and has no entry below a link.
func FuzzRewrite(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o644}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		if err := w.WriteHeader(h); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		err := archive.Rewrite(&out, bytes.NewReader(data), archive.RewriteOptions{Links: map[string]bool{"blocked": true}, Bad: sandboxer.InvalidArgument})
		if err != nil && sandboxer.CodeOf(err) != sandboxer.InvalidArgument && !errors.Is(err, tar.ErrHeader) && !strings.Contains(err.Error(), "archive/tar") {
			t.Errorf("%v", err)
		}
		links := map[string]bool{"blocked": true}
		for r := tar.NewReader(&out); ; {
			h, err := r.Next()
			if err != nil {
				return
			}
			name := strings.TrimSuffix(h.Name, "/")
			if strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") {
				t.Fatalf("%q leaves", h.Name)
			}
			for link := range links {
				if strings.HasPrefix(name, link+"/") {
					t.Fatalf("%q is below the link %q", h.Name, link)
				}
			}
			switch h.Typeflag {
			case tar.TypeSymlink:
				links[name] = true
			case tar.TypeReg:
				delete(links, name)
			}
		}
	})
}
