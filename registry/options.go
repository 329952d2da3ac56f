package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// Option says what a registry is made of.
type Option func(*builder)

// builder collects what the options bring.
type builder struct {
	problems
	seq      int
	fsCount  int
	yamls    int
	goValues int
	adapters []sandboxer.Adapter
	docs     []*document
}

func (b *builder) source(name string) *source {
	b.seq++
	return &source{seq: b.seq, name: name}
}

// WithAdapters registers adapters, the bundled ones and the application's own on equal terms. Each brings its own manifest
// and profiles along. Two adapters with one handler are an error.
func WithAdapters(a ...sandboxer.Adapter) Option {
	return func(b *builder) {
		for _, adapter := range a {
			b.adapters = append(b.adapters, cloneAdapter(adapter))
		}
	}
}

// WithFS reads extensions/ext.*.yaml and profiles/profile.*.yaml of fsys; embed.FS and os.DirFS both fit. One of
// the two folders may be missing; a file system with neither is an error, as it is most likely the wrong one. A file that was probably meant to be read and would not be (ext.foo.yml, foo.yaml) is an error;
// everything else in the folders is left alone.
func WithFS(fsys fs.FS) Option {
	return func(b *builder) {
		b.fsCount++
		prefix := ""
		if b.fsCount > 1 {
			prefix = fmt.Sprintf("file system %d: ", b.fsCount)
		}
		if fsys == nil {
			b.add(place{src: b.source(prefix + "WithFS")}, "the file system is nil")
			return
		}
		found := b.readFolder(fsys, prefix, "extensions", manifestKind)
		if b.readFolder(fsys, prefix, "profiles", profileKind) || found {
			return
		}
		at := place{src: b.source(prefix + "WithFS")}
		entries, err := fs.ReadDir(fsys, ".")
		if err != nil { // such as a mistyped directory
			b.add(at, "the file system cannot be read: %v", err)
			return
		}
		b.add(at, "the file system has neither a folder extensions/ nor a folder profiles/ at its root%s", oneDown(fsys, entries))
	}
}

// oneDown ends a message about a file system without the folders with where they are, if they are one level down: the
// root of an embed.FS is the directory of the Go file, not the one that was embedded.
func oneDown(fsys fs.FS, entries []fs.DirEntry) string {
	for _, entry := range entries {
		for _, folder := range []string{"extensions", "profiles"} {
			at := entry.Name() + "/" + folder
			if info, err := fs.Stat(fsys, at); err == nil && info.IsDir() {
				return fmt.Sprintf("; there is %s: use fs.Sub(fsys, %s)", quote(at), quote(entry.Name()))
			}
		}
	}
	return ""
}

// WithYAML adds one manifest or profile. name is what messages call it; where it ends like a file that WithFS reads
// ("ext.foo.yaml"), the id must match it.
func WithYAML(name string, data []byte) Option {
	return func(b *builder) {
		b.yamls++
		if name == "" {
			name = fmt.Sprintf("YAML document %d", b.yamls)
		}
		kind, id := kindOfFile(name)
		b.readYAML(b.source(name), kind, id, data)
	}
}

// WithProfiles adds profiles that are Go values. They are copied: what is changed later has no effect.
func WithProfiles(p ...sandboxer.Profile) Option {
	return func(b *builder) {
		for _, profile := range p {
			b.goValues++
			src := b.source(fmt.Sprintf("Go profile %d (%s)", b.goValues, quote(profile.ID)))
			given := profile.Inputs
			profile.Inputs = nil // in other hands until a copier has seen them
			doc := &document{ps: &b.problems, src: src, kind: profileKind, profile: own.Profile(profile)}
			c := copier{report: func(at path, text string) { doc.add(at, "%s", text) }}
			doc.profile.Inputs = c.inputs(path{"inputs"}, given)
			doc.checkProfile()
			b.docs = append(b.docs, doc)
		}
	}
}

// kindOfFile tells from a file's name what it holds and what its id is; "" where the name says nothing.
func kindOfFile(name string) (kind docKind, id string) {
	base := name[strings.LastIndexAny(name, `/\`)+1:]
	id, found := strings.CutSuffix(base, ".yaml")
	if !found {
		return "", ""
	}
	for _, k := range []docKind{manifestKind, profileKind} {
		if strings.HasPrefix(id, string(k)+".") {
			return k, id
		}
	}
	return "", ""
}

// readFolder reads the documents of one folder and reports whether there is one.
func (b *builder) readFolder(fsys fs.FS, prefix, folder string, kind docKind) bool {
	entries, err := fs.ReadDir(fsys, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		b.add(place{src: b.source(prefix + folder)}, "the folder cannot be read: %v", err)
		return true
	}
	for _, entry := range entries {
		name := entry.Name()
		k, id := kindOfFile(name)
		if k != kind {
			if why := misnamed(name, folder, kind, k); why != "" {
				b.add(place{src: b.source(prefix + folder + "/" + name)}, "%s", why)
			}
			continue
		}
		src := b.source(prefix + folder + "/" + name)
		data, err := readFile(fsys, folder+"/"+name)
		if err != nil {
			b.add(place{src: src}, "cannot be read: %v", err)
			b.docs = append(b.docs, &document{ps: &b.problems, src: src, kind: kind, id: id, broken: true})
			continue
		}
		b.readYAML(src, kind, id, data)
	}
	return true
}

// misnamed says what is wrong with the name of a file that looks as if it was meant to be read.
func misnamed(name, folder string, kind, is docKind) string {
	lower := strings.ToLower(name)
	want := fmt.Sprintf("%s/%s.<name>.yaml", folder, kind)
	switch {
	case strings.HasPrefix(name, "."):
		return ""
	case is == manifestKind:
		return "a manifest in the folder of the profiles; move it to extensions/"
	case is == profileKind:
		return "a profile in the folder of the manifests; move it to profiles/"
	case strings.HasSuffix(lower, ".yaml") || strings.HasSuffix(lower, ".yml"):
		return "this file would not be read; call it " + want
	case strings.HasPrefix(lower, string(kind)+"."):
		return "this file would not be read; call it " + want + ", or move it elsewhere"
	}
	return ""
}

// readFile reads a regular file, and of one that is too large only enough to see that. Anything else, such as a pipe,
// could keep New waiting.
func readFile(fsys fs.FS, name string) (data []byte, err error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%v)", info.Mode().Type())
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// readYAML decodes one document. kind and fileID are empty where only the document itself can tell.
func (b *builder) readYAML(src *source, kind docKind, fileID string, data []byte) {
	doc := &document{ps: &b.problems, src: src, kind: kind, fileID: fileID, id: fileID}
	before := len(b.list)
	if doc.root = parse(&b.problems, src, data); doc.root == nil {
		doc.broken = true
		if kind != "" && fileID != "" {
			b.docs = append(b.docs, doc)
		}
		return
	}
	if doc.kind == "" && !doc.guessKind() {
		return
	}
	d := &decoder{ps: &b.problems, src: src}
	switch doc.kind {
	case manifestKind:
		decodeKeys(d, nil, doc.root, manifestKeys(), &doc.manifest)
		doc.checkManifest()
	case profileKind:
		decodeKeys(d, nil, doc.root, profileKeys(), &doc.profile)
		doc.checkProfile()
	}
	doc.broken = doc.broken || len(b.list) > before
	b.docs = append(b.docs, doc)
}

// guessKind tells a manifest from a profile by its id.
func (doc *document) guessKind() bool {
	id := doc.root.get("id")
	for _, k := range []docKind{manifestKind, profileKind} {
		if id != nil && strings.HasPrefix(id.text, string(k)+".") {
			doc.kind = k
			return true
		}
	}
	where := doc.place(path{"id"})
	doc.ps.add(where, "neither a manifest nor a profile: its id begins neither with \"ext.\" nor with \"profile.\"")
	return false
}
