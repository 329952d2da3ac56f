package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/all"
	"github.com/sand-boxer/sandboxer/registry"
)

const root = "../../.."

// TestUpToDate: what the documents say about the code is what the code says.
func TestUpToDate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "docs/extension-sdk.md"} {
		old, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := fill(t.Context(), root, string(old))
		if errors.Is(err, sandboxer.Unsupported) {
			t.Logf("%s: an adapter does not work on this system, so its column cannot be checked here: %v", name, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(old), text); diff != "" {
			t.Errorf("%s is not up to date; run make generate (-file +generated):\n%s", name, diff)
		}
		if !strings.Contains(text, "<!-- /") {
			t.Errorf("%s has no generated part left: were its marks removed?", name)
		}
	}
}

var (
	document = regexp.MustCompile("(?s)```yaml\n# ([a-z]+/[^\n]+)\n(.*?)```")
	goBlock  = regexp.MustCompile("(?s)(<!-- code: [^\n]*\n)?```go\n")
)

// TestYAMLLoads: the manifests and profiles that the README shows are read by the registry.
func TestYAMLLoads(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, m := range document.FindAllStringSubmatch(string(text), -1) {
		files[m[1]] = &fstest.MapFile{Data: []byte(m[2])}
	}
	if len(files) < 2 {
		t.Fatalf("the README shows %d documents with their paths, want a manifest and a profile", len(files))
	}
	if _, err := registry.New(registry.WithAdapters(all.Adapters()...), registry.WithFS(files)); err != nil {
		t.Error(err)
	}
}

// TestGoComesFromCode: no Go in the documents that nothing compiles.
func TestGoComesFromCode(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "docs/extension-sdk.md"} {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range goBlock.FindAllSubmatchIndex(text, -1) {
			if m[2] < 0 {
				t.Errorf("%s:%d: a block of Go that is not taken from a file", name, 1+bytes.Count(text[:m[0]], []byte("\n")))
			}
		}
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.go")
	text := "package x\n\n// docs:begin one\nfunc a() {\n\tb()\n}\n\n// docs:end\nfunc c() {\n\t// docs:begin two\n\td()\n\n\tif e {\n\t\tf()\n\t}\n\t// docs:end\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for region, want := range map[string]string{
		"one": "```go\nfunc a() {\n\tb()\n}\n```\n",
		"two": "```go\nd()\n\nif e {\n\tf()\n}\n```\n",
		"":    "```go\npackage x\n\nfunc a() {\n\tb()\n}\n\nfunc c() {\n\td()\n\n\tif e {\n\t\tf()\n\t}\n}\n```\n",
	} {
		got, err := code(file, region)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("region %q (-want +got):\n%s", region, diff)
		}
	}
	if _, err := code(file, "three"); err == nil {
		t.Error("a region that is not there was found")
	}
}

var shedBlock = regexp.MustCompile("(?s)<!-- code: example_adapter[a-z_]*\\.go#([a-z-]+) -->\n```go\n(.*?)```")

// TestGuideIsComplete: the adapter of the author's guide needs no code but the guide's own. Its backend and its source of
// secrets were once shown nowhere.
func TestGuideIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "extension-sdk.md"))
	if err != nil {
		t.Fatal(err)
	}
	code := "package shed\n"
	for _, path := range []string{"context", "errors", "fmt", "sync", "testing", "time", "github.com/sand-boxer/sandboxer", "github.com/sand-boxer/sandboxer/adapters/adaptertest"} {
		code += "import \"" + path + "\"\n"
	}
	shown := 0
	for _, m := range shedBlock.FindAllStringSubmatch(string(text), -1) {
		if m[1] != "use" { // a line of somebody else's program
			code += m[2]
			shown++
		}
	}
	if shown < 8 {
		t.Fatalf("the guide shows %d pieces of its adapter", shown)
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "shed.go", code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	check := types.Config{
		Importer: nothing{}, // what the adapter uses of other packages is compiled where the blocks come from
		Error: func(err error) {
			if !strings.Contains(err.Error(), "could not import") {
				t.Errorf("the guide does not show all that it uses: %v", err)
			}
		},
	}
	_, _ = check.Check("shed", fset, []*ast.File{file}, nil)
}

type nothing struct{}

func (nothing) Import(string) (*types.Package, error) { return nil, errors.ErrUnsupported }
