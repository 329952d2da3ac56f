package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/registry"
)

// TestPositions: a problem is reported where a person has to change something. The YAML library names the beginning of the
// collection where a line of it is wrong, and no line at all for an alias; tabs that are allowed, and what stands in
// comments and strings, were once taken for the cause.
func TestPositions(t *testing.T) {
	t.Parallel()
	const head = "id: ext.a\nhandler: my-backend\ncapabilities: {isolation_levels: [container], pricing_model: free}\nconfig:\n" // four lines
	for name, tt := range map[string]struct{ doc, want string }{
		"dedented in a nested mapping":    {"id: profile.a\nextension: ext.a\nburst:\n  within: 30s\n  to:\n    - profile: profile.b\n      inputs:\n        a: b\n        c: d\n       e: f\nttl: 1h\n", "10:8: not valid YAML"},
		"indented too far":                {head + "  a: {b: 1}\n  c: 1\n   d: 2\n  e: 3\n", "7:4: not valid YAML"},
		"behind a nested list":            {head + "  a:\n    - b\n    - c\n   - d\n", "8:4: not valid YAML"},
		"a list in a mapping":             {head + "  a:\n    b: 1\n    c: 2\n    - d\n", "8:5: not valid YAML"},
		"a mapping in a list":             {head + "  a:\n    - b\n    c: d\n", "7:5: not valid YAML"},
		"text behind a string":            {head + "  a: 1\n  b: \"c\" d\n  e: 2\n", "6:3: not valid YAML"},
		"in the first lines":              {"a: 1\n b: 2\n", "2:2: not valid YAML"},
		"a block scalar before it":        {head + "  a: |\n    b: 1\n      c: 2\n\n    # d\n   e: 1\n  f: 2\n", "10:4: not valid YAML"},
		"unknown tag":                     {head + "  a: 1\n  b: !c!d e\n", "6:3: not valid YAML"},
		"two errors":                      {head + "  a:\n    b: 1\n   c: 2\n  d: [\n", "7:4: not valid YAML"},
		"a tab":                           {head + "  a: 1\n\tb: 2\n", "6:1: a tab in the indentation"},
		"a tab behind spaces":             {head + "  a:\n  \tb: 2\n", "6:3: a tab in the indentation"},
		"a tab below a string":            {head + "  a: b\n \tc: d\n", "6:2: a tab in the indentation"},
		"a tab that is allowed":           {head + "  script: |\n    all:\n    \techo hi\n  bad: \"never ended\nx: y\n", "8:3: not valid YAML"},
		"a tab in a string":               {head + "  a: \"b\n\tc\"\n  d: 'never ended\n", "7:3: not valid YAML"},
		"an alias":                        {head + "  # glob *foo\n  a: *foo\n", "6:6: this alias"},
		"an alias behind its name":        {head + "  a: '*foo'\n  b-*foo: \"*foo\"\n  c: [1, *foo, 2]\n", "7:10: this alias"},
		"an alias in a list":              {head + "  a: [\"*foo\", 'x *foo',\n    *foo,\n    1]\n", "6:5: this alias"},
		"an alias in a block scalar":      {head + "  a: |\n    *foo\n    b\n  c: {d: *foo}\n", "8:10: this alias"},
		"an alias's own place":            {"id: profile.a\ntitle: &x nothing\nextension: ext.a\nisolation: *x\n", "4:12: isolation: unknown isolation level"},
		"an alias of a list":              {"id: profile.a\nextension: ext.a\nports: &x [80]\nrequires: *x\nlabels: *x\n", "5:9: labels: must be a mapping"},
		"inside what an alias stands for": {"id: profile.a\nextension: ext.a\nports: &x [80]\nrequires: *x\n", "3:12: requires[0]: must be a string"},
		"in a large document":             {head + strings.Repeat("  # filled up\n", 30_000) + "  a: *foo\n", fmt.Sprint(30_005, ":6: this alias")},
	} {
		for _, doc := range []string{tt.doc, strings.ReplaceAll(tt.doc, "\n", "\r\n")} {
			_, err := registry.New(adapters(), registry.WithYAML("a.yaml", []byte(doc)))
			if err == nil || !strings.Contains(err.Error(), "a.yaml:"+tt.want) {
				t.Errorf("%s: got %v\nwant %s", name, err, tt.want)
			}
		}
	}
}
