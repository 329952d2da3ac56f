package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

// linker checks documents against each other and against the adapters.
type linker struct {
	*builder
	handlers  map[string]sandboxer.Adapter
	manifests map[string]*document
	profiles  map[string]*document
	leftOut   map[string]string // profile id → why
}

func ids[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// link does everything that needs more than one document.
func (b *builder) link() *linker {
	l := &linker{builder: b, handlers: map[string]sandboxer.Adapter{}, leftOut: map[string]string{}}
	l.registerAdapters()
	l.manifests = l.choose(manifestKind)
	l.profiles = l.choose(profileKind)
	for _, id := range ids(l.manifests) {
		l.linkManifest(l.manifests[id])
	}
	l.leaveOut()
	for _, id := range ids(l.profiles) {
		l.linkProfile(l.profiles[id])
	}
	l.findCycles()
	return l
}

// registerAdapters indexes the adapters and reads what they bring along.
func (l *linker) registerAdapters() {
	for i, a := range l.adapters {
		name := "adapter " + printable(a.Handler)
		if a.Handler == "" {
			name = fmt.Sprintf("adapter %d", i+1)
		}
		at := place{src: l.source(name)}
		if n, err := handlerName(a.Handler); err != nil || n != a.Handler {
			l.add(at, "the handler must be a name of lower-case letters, digits and inner hyphens, such as my-backend")
			continue
		}
		if _, twice := l.handlers[a.Handler]; twice {
			l.add(at, "two adapters serve the handler %s; register one of them", quote(a.Handler))
			continue
		}
		if a.New == nil {
			l.add(at, "New is nil; it builds the extension")
		}
		l.handlers[a.Handler] = a
		if len(a.Manifest) > 0 {
			src := l.source(name + " (manifest)")
			src.brought = a.Handler
			l.readYAML(src, manifestKind, "", a.Manifest)
		}
		for j, data := range a.Profiles {
			src := l.source(fmt.Sprintf("%s (profile %d)", name, j+1))
			src.brought = a.Handler
			l.readYAML(src, profileKind, "", data)
		}
	}
}

// choose finds the one document of each id: a supplied one goes before one that an adapter brought along.
func (l *linker) choose(kind docKind) map[string]*document {
	chosen := map[string]*document{}
	for _, doc := range l.docs {
		if doc.kind != kind || doc.id == "" {
			continue
		}
		other := chosen[doc.id]
		switch {
		case other == nil || (other.src.brought != "" && doc.src.brought == ""):
			chosen[doc.id] = doc
		case other.src.brought == "" && doc.src.brought != "":
		case doc.src.brought != "":
			doc.add(path{"id"}, "%s also comes with the %s; two adapters cannot bring one id along", quote(doc.id), other.place(path{"id"}))
		default:
			doc.add(path{"id"}, "%s is already defined at %s; ids are given once", quote(doc.id), other.place(path{"id"}))
		}
	}
	return chosen
}

func (l *linker) linkManifest(doc *document) {
	m := doc.manifest
	a, registered := l.handlers[m.Handler]
	switch {
	case m.Handler == "":
	case doc.src.brought != "" && m.Handler != doc.src.brought:
		doc.add(path{"handler"}, "the adapter serves %s, but the manifest that it brings along names %s", quote(doc.src.brought), quote(m.Handler))
	case !registered:
		doc.add(path{"handler"}, "no adapter is registered for %s%s (adapters are registered with registry.WithAdapters)", quote(m.Handler), closest(m.Handler, ids(l.handlers)))
	}
	credentials := map[string]bool{}
	for _, key := range a.Credentials {
		credentials[key] = true
		if _, isText := m.Config[key].(string); m.Config[key] != nil && !isText {
			doc.add(path{"config", key}, "must be a reference to a secret, such as env:%s", "NAME")
		}
	}
	doc.checkSecrets("config", m.Config, func(key string) bool { return credentials[key] })
}

// leaveOut drops profiles that an adapter brought along for extensions that this program does not have, and those that
// would burst to them.
func (l *linker) leaveOut() {
	for again := true; again; {
		again = false
		for _, id := range ids(l.profiles) {
			doc := l.profiles[id]
			if doc.src.brought == "" {
				continue
			}
			if why := l.missing(doc); why != "" {
				l.leftOut[id] = fmt.Sprintf("the one that comes with the %s is left out: %s", doc.src.name, why)
				delete(l.profiles, id)
				again = true
			}
		}
	}
}

func (l *linker) missing(doc *document) string {
	if ext := doc.profile.Extension; ext != "" && l.manifests[ext] == nil {
		return fmt.Sprintf("its extension %s is not registered", quote(ext))
	}
	if b := doc.profile.Burst; b != nil {
		for _, t := range b.To {
			if idOK(profileKind, t.Profile) && l.profiles[t.Profile] == nil {
				return fmt.Sprintf("its burst target %s is not registered", quote(t.Profile))
			}
		}
	}
	return ""
}

func (l *linker) linkProfile(doc *document) {
	p := &doc.profile
	doc.checkSecrets("inputs", p.Inputs, nil)
	ext := l.manifests[p.Extension]
	if ext == nil {
		if idOK(manifestKind, p.Extension) {
			doc.add(path{"extension"}, "no extension %s is registered%s", quote(p.Extension), closest(p.Extension, ids(l.manifests)))
		}
	} else if !ext.broken {
		l.checkFit(doc, ext.manifest)
	}
	if p.Burst == nil {
		return
	}
	seen := map[string]bool{p.ID: true} // said already
	for i, t := range p.Burst.To {
		if seen[t.Profile] || !idOK(profileKind, t.Profile) {
			continue
		}
		seen[t.Profile] = true
		l.checkTarget(doc, path{"burst", "to", i}, t, ext)
	}
}

// checkFit checks a profile against the extension that it names.
func (l *linker) checkFit(doc *document, m Manifest) {
	p := doc.profile
	if known(p.Isolation) && !m.offers(p.Isolation) {
		doc.add(path{"isolation"}, "%s is more than %s offers (%s)", quote(string(p.Isolation)), m.ID, list(m.Capabilities.IsolationLevels))
	}
	for _, name := range sortedKeys(p.Inputs) {
		if !m.Takes(name) {
			doc.add(path{"inputs", name}, "%s takes no input %s%s", m.ID, quote(name), suggestInput(name, m))
		}
	}
	if m.Capabilities.Features == nil {
		return
	}
	for i, c := range p.Requires {
		if slices.Contains(sandboxer.AllCapabilities(), c) && !slices.Contains(m.Capabilities.Features, c) {
			doc.add(path{"requires", i}, "%s does not offer %s; its manifest lists: %s", m.ID, quote(string(c)), cmp.Or(list(m.Capabilities.Features), "nothing"))
		}
	}
}

func known(l sandboxer.IsolationLevel) bool { return slices.Contains(sandboxer.IsolationLevels(), l) }

func suggestInput(name string, m Manifest) string { return sandboxer.DidYouMean(name, m.inputNames()) }

// checkTarget checks one burst target of a profile whose extension is ext, or nil where that is not known.
func (l *linker) checkTarget(doc *document, at path, t sandboxer.BurstTarget, ext *document) {
	p := doc.profile
	target := l.profiles[t.Profile]
	if target == nil {
		if why := l.leftOut[t.Profile]; why != "" {
			doc.add(at, "no profile %s is registered; %s", quote(t.Profile), why)
			return
		}
		hint := "; this is the only one"
		if others := slices.DeleteFunc(ids(l.profiles), func(id string) bool { return id == p.ID }); len(others) > 0 {
			hint = sandboxer.DidYouMean(t.Profile, others)
		}
		doc.add(at, "no profile %s is registered%s", quote(t.Profile), hint)
		return
	}
	if on := l.manifests[target.profile.Extension]; on != nil && !on.broken && known(p.Isolation) && !on.manifest.offers(p.Isolation) {
		doc.add(at, "%s runs on %s, which offers %s; this profile asks for at least %s, and that binds its burst targets",
			t.Profile, on.manifest.ID, list(on.manifest.Capabilities.IsolationLevels), p.Isolation)
	}
	if ext == nil || ext.broken {
		return
	}
	for _, name := range sortedStrings(t.Inputs) {
		if inputFormat.MatchString(name) && !ext.manifest.Takes(name) {
			doc.add(at.with("inputs").with(name), "%s takes no input %s, so no request can give it%s", ext.manifest.ID, quote(name), suggestInput(name, ext.manifest))
		}
	}
}
