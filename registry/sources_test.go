package registry_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

// TestSources: which documents count, and which are refused, when they come from several places.
func TestSources(t *testing.T) {
	t.Parallel()
	own := bringing(ext("ext.own", "title: brought\n"), "id: profile.own\nextension: ext.own\ntitle: brought\n")
	tests := map[string]struct {
		opts []registry.Option
		want []string // parts of the error; none: accepted
		ids  []string // profiles
	}{
		"an adapter's own": {
			opts: []registry.Option{registry.WithAdapters(own)},
			ids:  []string{"profile.own"},
		},
		"nothing": {},
		"supplied profile replaces": {
			opts: []registry.Option{registry.WithAdapters(own), yamlDoc("mine", "id: profile.own\nextension: ext.own\n")},
			ids:  []string{"profile.own"},
		},
		"supplied before the adapter replaces": {
			opts: []registry.Option{registry.WithProfiles(sandboxer.Profile{ID: "profile.own", Extension: "ext.own"}), registry.WithAdapters(own)},
			ids:  []string{"profile.own"},
		},
		"two supplied": {
			opts: []registry.Option{registry.WithAdapters(own), yamlDoc("one", "id: profile.a\nextension: ext.own\n"), yamlDoc("two", "extension: ext.own\nid: profile.a\n")},
			want: []string{`two:2:5: id: "profile.a" is already defined at one:1:5`},
		},
		"supplied as text and as a Go value": {
			opts: []registry.Option{registry.WithAdapters(own), yamlDoc("one", "id: profile.a\nextension: ext.own\n"), registry.WithProfiles(sandboxer.Profile{ID: "profile.a", Extension: "ext.own"})},
			want: []string{`Go profile 1 ("profile.a"): id: "profile.a" is already defined at one:1:5`},
		},
		"two file systems": {
			opts: []registry.Option{
				registry.WithAdapters(own),
				registry.WithFS(fstest.MapFS{"profiles/profile.a.yaml": {Data: []byte("id: profile.a\nextension: ext.own\n")}}),
				registry.WithFS(fstest.MapFS{"profiles/profile.a.yaml": {Data: []byte("id: profile.a\nextension: ext.own\n")}}),
			},
			want: []string{"file system 2: profiles/profile.a.yaml:1:5: id:", "already defined at profiles/profile.a.yaml:1:5"},
		},
		"two adapters with one handler": {
			opts: []registry.Option{registry.WithAdapters(own), registry.WithAdapters(adapter("my-backend"))},
			want: []string{`two adapters serve the handler "my-backend"`},
		},
		"two adapters with one id": {
			opts: []registry.Option{registry.WithAdapters(own, func() sandboxer.Adapter {
				a := bringing(strings.ReplaceAll(ext("ext.own", ""), "my-backend", "other"))
				a.Handler = "other"
				return a
			}())},
			want: []string{`adapter other (manifest):1:5: id: "ext.own" also comes with the adapter my-backend (manifest):1:5`},
		},
		"an adapter with the manifest of another": {
			opts: []registry.Option{registry.WithAdapters(adapter("other"), bringing(strings.ReplaceAll(ext("ext.own", ""), "my-backend", "other")))},
			want: []string{`the adapter serves "my-backend", but the manifest that it brings along names "other"`},
		},
		"an adapter without New": {
			opts: []registry.Option{registry.WithAdapters(sandboxer.Adapter{Handler: "x"})},
			want: []string{"adapter x: New is nil"},
		},
		"adapters with bad handlers": {
			opts: []registry.Option{registry.WithAdapters(adapter("My Backend"), adapter(""), adapter("sandboxer.extensions.a:B"))},
			want: []string{`adapter "My Backend": the handler must`, "adapter 2: the handler must", `adapter "sandboxer.extensions.a:B": the handler must`},
		},
		"a broken document of an adapter": {
			opts: []registry.Option{registry.WithAdapters(bringing("id: [", "nonsense"))},
			want: []string{"adapter my-backend (manifest):1:1: not valid YAML", "adapter my-backend (profile 1):1:1: must be a mapping"},
		},
		"brought for an extension that is not here": {
			opts: []registry.Option{registry.WithAdapters(bringing(ext("ext.own", ""), "id: profile.b\nextension: ext.gone\n", "id: profile.a\nextension: ext.own\nburst: {to: [profile.b]}\n", "id: profile.c\nextension: ext.own\nburst: {to: [profile.a]}\n", "id: profile.d\nextension: ext.own\n"))},
			ids:  []string{"profile.d"},
		},
		"supplied for an extension that is not here": {
			opts: []registry.Option{yamlDoc("mine", "id: profile.own\nextension: ext.own\n")},
			want: []string{`mine:2:12: extension: no extension "ext.own" is registered; none is registered`},
		},
		"supplied burst to what is left out": {
			opts: []registry.Option{registry.WithAdapters(bringing(ext("ext.own", ""), "id: profile.b\nextension: ext.gone\n")), yamlDoc("mine", "id: profile.a\nextension: ext.own\nburst: {to: [profile.b]}\n")},
			want: []string{`mine:3:14: burst.to[0]: no profile "profile.b" is registered; the one that comes with the adapter my-backend (profile 1) is left out: its extension "ext.gone" is not registered`},
		},
		"a file's name in the name of text": {
			opts: []registry.Option{registry.WithAdapters(own), yamlDoc("memory/profile.a.yaml", "id: profile.b\nextension: ext.own\n")},
			want: []string{`memory/profile.a.yaml:1:5: id: "profile.b" does not match the file's name`},
		},
		"text that says not what it is": {
			opts: []registry.Option{yamlDoc("", "id: thing\n"), yamlDoc("", "title: x\n")},
			want: []string{"YAML document 1:1:5: neither a manifest nor a profile", "YAML document 2:1:1: neither a manifest nor a profile"},
		},
		"nil everywhere": {
			opts: []registry.Option{nil, registry.WithFS(nil), registry.WithYAML("x", nil)},
			want: []string{"option 1: is nil", "WithFS: the file system is nil", "x:1:1: the document is empty"},
		},
		"an empty directory": {
			opts: []registry.Option{registry.WithFS(os.DirFS(t.TempDir()))},
			want: []string{"WithFS: the file system has neither a folder extensions/ nor a folder profiles/ at its root"},
		},
		"one level too high": {
			opts: []registry.Option{registry.WithFS(fstest.MapFS{"README": {}, "sandboxes/profiles/profile.a.yaml": {}})},
			want: []string{`at its root; there is "sandboxes/profiles": use fs.Sub(fsys, "sandboxes")`},
		},
		"no profiles":   {opts: []registry.Option{registry.WithFS(fstest.MapFS{"extensions/README": {}})}},
		"no extensions": {opts: []registry.Option{registry.WithFS(fstest.MapFS{"profiles/README": {}})}},
		"a directory that does not exist": {
			opts: []registry.Option{registry.WithFS(os.DirFS(filepath.Join(t.TempDir(), "typo")))},
			want: []string{"WithFS: the file system cannot be read: "},
		},
		"no regular file": {
			opts: []registry.Option{registry.WithFS(fstest.MapFS{"extensions/ext.a.yaml": {Mode: fs.ModeNamedPipe}})},
			want: []string{"extensions/ext.a.yaml: cannot be read: not a regular file"},
		},
		"a folder that cannot be read": {
			opts: []registry.Option{registry.WithFS(fstest.MapFS{"extensions": {Data: []byte("a file")}})},
			want: []string{"extensions: the folder cannot be read"},
		},
		"a file that cannot be read": {
			opts: []registry.Option{
				registry.WithFS(brokenFS{fstest.MapFS{"extensions/ext.a.yaml": {Data: []byte(ext("ext.a", ""))}}}),
				yamlDoc("mine", "id: profile.a\nextension: ext.a\n"), // not blamed for what it cannot help
			},
			want: []string{"1 problem in", "extensions/ext.a.yaml: cannot be read: the disk is on fire"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, err := registry.New(tt.opts...)
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.ids, profileIDs(reg)); diff != "" {
					t.Errorf("profiles (-want +got):\n%s", diff)
				}
				return
			}
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
				t.Fatalf("got %v, want a refused InvalidArgument", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got:\n%v\nwant: %s", err, want)
				}
			}
			if reg != nil {
				t.Error("a registry beside an error")
			}
		})
	}
}

type brokenFS struct{ fstest.MapFS }

type brokenFile struct{ fs.File }

func (brokenFile) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

func (b brokenFS) Open(name string) (fs.File, error) {
	f, err := b.MapFS.Open(name)
	if err == nil && strings.HasSuffix(name, ".yaml") {
		f = brokenFile{f}
	}
	return f, err
}

// ReadFile hides MapFS's own, which would go around Open.
func (b brokenFS) ReadFile(string) ([]byte, error) { return nil, errors.ErrUnsupported }
