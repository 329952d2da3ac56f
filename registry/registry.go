package registry

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// Registry holds adapters, manifests and profiles that fit together. It never changes, and everything that it returns is
// the caller's own copy. Safe for concurrent use.
type Registry struct {
	adapters  map[string]sandboxer.Adapter
	manifests map[string]Manifest
	profiles  map[string]sandboxer.Profile
	sources   map[string]string // id → where the document came from
	leftOut   map[string]string // profile id → why
}

// New makes a registry of everything that the options bring. It is strict: an InvalidArgument lists every problem of every
// document at once, each with file:line:column and, for a wrong word, the right one. A supplied document (WithFS, WithYAML,
// WithProfiles) takes the place of the one with the same id that an adapter brought along; two supplied ones are an error.
// A profile that an adapter brought along is left out when its extension, or a profile that it bursts to, is not
// registered; a supplied one is refused.
func New(opts ...Option) (*Registry, error) {
	b := &builder{}
	for i, o := range opts {
		if o == nil {
			b.add(place{src: b.source(fmt.Sprintf("option %d", i+1))}, "is nil")
			continue
		}
		o(b)
	}
	l := b.link()
	if err := b.err(); err != nil {
		return nil, err
	}
	r := &Registry{
		adapters:  l.handlers,
		manifests: map[string]Manifest{},
		profiles:  map[string]sandboxer.Profile{},
		sources:   map[string]string{},
		leftOut:   l.leftOut,
	}
	for id, doc := range l.manifests {
		r.manifests[id], r.sources[id] = doc.manifest, doc.src.name
	}
	for id, doc := range l.profiles {
		r.profiles[id], r.sources[id] = doc.profile, doc.src.name
	}
	return r, nil
}

// Adapter returns the adapter of a handler. A NotFound names close matches.
func (r *Registry) Adapter(handler string) (sandboxer.Adapter, error) {
	name := handler
	if n, err := handlerName(handler); err == nil {
		name = n
	}
	a, ok := r.adapters[name]
	if !ok {
		return sandboxer.Adapter{}, notFound("adapter is registered for the handler", handler, ids(r.adapters), "")
	}
	return cloneAdapter(a), nil
}

// Manifest returns the manifest of an extension. A NotFound names close matches.
func (r *Registry) Manifest(id string) (Manifest, error) {
	m, ok := r.manifests[id]
	if !ok {
		return Manifest{}, notFoundID("extension is registered as", manifestKind, id, ids(r.manifests), "")
	}
	return cloneManifest(m), nil
}

// Manifests yields all manifests in the order of their ids.
func (r *Registry) Manifests() iter.Seq[Manifest] {
	return func(yield func(Manifest) bool) {
		for _, id := range ids(r.manifests) {
			if !yield(cloneManifest(r.manifests[id])) {
				return
			}
		}
	}
}

// Profile returns a profile as it was defined. A NotFound names close matches.
func (r *Registry) Profile(id string) (sandboxer.Profile, error) {
	p, ok := r.profiles[id]
	if !ok {
		return sandboxer.Profile{}, notFoundID("profile is registered as", profileKind, id, ids(r.profiles), r.leftOut[id])
	}
	return own.Profile(p), nil
}

// Profiles yields all profiles in the order of their ids.
func (r *Registry) Profiles() iter.Seq[sandboxer.Profile] {
	return func(yield func(sandboxer.Profile) bool) {
		for _, id := range ids(r.profiles) {
			if !yield(own.Profile(r.profiles[id])) {
				return
			}
		}
	}
}

// Source says where the manifest or profile with this id came from, for messages about it: "extensions/ext.foo.yaml",
// "adapter local (manifest)". It is empty for an id that is not registered.
func (r *Registry) Source(id string) string { return r.sources[id] }

// Resolve returns the profile with the inputs of a request merged over its own, key by key; a nil value takes the profile's
// away. The inputs are copied, with durations as strings and integers as int. A NotFound for an unknown profile; an
// InvalidArgument that lists every unknown and, where the extension declares its inputs, every missing input, every value
// that is no plain data, and every secret that is written out instead of referred to.
func (r *Registry) Resolve(profile string, in sandboxer.Inputs) (sandboxer.Profile, error) {
	p, err := r.Profile(profile)
	if err != nil {
		return sandboxer.Profile{}, err
	}
	m := r.manifests[p.Extension]
	var wrong []error
	report := func(at path, text string) {
		wrong = append(wrong, fmt.Errorf("%s: %s", at, text))
	}
	c := copier{report: report}
	given := c.inputs(path{"inputs"}, in)
	findSecrets(path{"inputs"}, map[string]any(given), nil, report)
	for _, name := range sortedKeys(given) {
		if !m.Takes(name) {
			report(path{"inputs", name}, m.ID+" takes no input "+quote(name)+suggestInput(name, m))
		}
	}
	if p.Inputs == nil && given != nil {
		p.Inputs = sandboxer.Inputs{}
	}
	maps.Copy(p.Inputs, given)
	maps.DeleteFunc(p.Inputs, func(_ string, v any) bool { return v == nil })
	for _, name := range m.Inputs.Required {
		if p.Inputs[name] == nil {
			report(path{"inputs", name}, "is missing; "+m.ID+" requires it")
		}
	}
	if len(wrong) > 0 {
		gap := " "
		if len(wrong) > 1 {
			gap = "\n"
		}
		return sandboxer.Profile{}, sandboxer.Refused(sandboxer.InvalidArgument,
			fmt.Errorf("the inputs do not fit %s:%s%w", profile, gap, errors.Join(wrong...)))
	}
	return p, nil
}

// notFoundID is notFound for an id: one that only lacks the word of its kind is most likely the one that was meant.
func notFoundID(what string, kind docKind, got string, valid []string, why string) error {
	if full := string(kind) + "." + got; why == "" && slices.Contains(valid, full) {
		why = "did you mean " + quote(full) + "?"
	}
	return notFound(what, got, valid, why)
}

func notFound(what, got string, valid []string, why string) error {
	text := "no " + what + " " + quote(got)
	if why != "" {
		text += "; " + why
	} else {
		text += closest(got, valid)
	}
	return sandboxer.Refused(sandboxer.NotFound, errors.New(text))
}
