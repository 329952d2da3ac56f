package fake

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
)

// Handler is what a manifest's `handler:` names for [Backend.Adapter].
const Handler = "fake"

// Adapter returns the adapter of handler "fake" with the manifest "ext.fake" and the profile "profile.fake", generated so
// that they declare exactly caps. Defaults to every capability. It is metered where caps have [sandboxer.CapMeter].
//
// The result is plain data: set Hosted to have its sandboxes placed on hosts.
func (b *Backend) Adapter(caps ...sandboxer.Capability) sandboxer.Adapter {
	a := b.adapter(Handler, true, caps)
	a.Manifest = manifest(resolve(caps))
	a.Profiles = [][]byte{[]byte(profileYAML)}
	return a
}

// InPlaceOf returns an adapter that serves the manifests of another handler: the host application registers it in the
// place of the real one, and its own extensions and profiles run in memory. It takes any inputs and any config. Give the
// capabilities of the adapter that it stands for, since a manifest's `features` must equal them. Defaults to every
// capability.
func (b *Backend) InPlaceOf(handler string, caps ...sandboxer.Capability) sandboxer.Adapter {
	return b.adapter(handler, false, caps)
}

func (b *Backend) adapter(handler string, strict bool, caps []sandboxer.Capability) sandboxer.Adapter {
	offered := resolve(caps)
	return sandboxer.Adapter{
		Handler: handler,
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			for _, c := range offered {
				if !slices.Contains(sandboxer.AllCapabilities(), c) {
					return nil, sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("the fake has no capability %q", c))
				}
			}
			e := &extension{b: b, id: s.ExtensionID, caps: offered, strict: strict, log: s.Logger}
			if e.log == nil {
				e.log = slog.New(slog.DiscardHandler)
			}
			if e.HasCapability(sandboxer.CapMeter) {
				b.meter(e.id)
			}
			return e, nil
		},
	}
}

func resolve(caps []sandboxer.Capability) []sandboxer.Capability {
	if len(caps) == 0 {
		return sandboxer.AllCapabilities()
	}
	return slices.Clone(caps)
}

// manifest writes ext.fake.yaml for what is offered.
func manifest(caps []sandboxer.Capability) []byte {
	pricing := sandboxer.PricingFree
	if slices.Contains(caps, sandboxer.CapMeter) {
		pricing = sandboxer.PricingMetered
	}
	var features, levels []string
	for _, c := range caps {
		features = append(features, string(c))
	}
	for _, l := range sandboxer.IsolationLevels() {
		levels = append(levels, string(l))
	}
	return []byte("id: ext.fake\ntitle: In memory, for tests\nhandler: " + Handler + "\ncapabilities:\n" +
		"  isolation_levels: [" + strings.Join(levels, ", ") + "]\n" +
		"  pricing_model: " + string(pricing) + "\n" +
		"  features: [" + strings.Join(features, ", ") + "]\n" +
		"inputs:\n  optional: [files]\n")
}

const profileYAML = `id: profile.fake
title: A sandbox in memory
extension: ext.fake
resources:
  cpu: "1"
  memory: 1Gi
`

// inputs are what the handler "fake" takes.
type inputs struct {
	Files map[string]string // path in the workspace → content
}

// extension is one configured view of the backend.
type extension struct {
	b      *Backend
	id     string
	caps   []sandboxer.Capability
	strict bool // only the inputs of the handler "fake"
	log    *slog.Logger
	owner  atomic.Pointer[string] // of its last create, for a quirk
	secret atomic.Pointer[string] // that it used last, for a quirk
}

// HasCapability denies what was not asked for in Adapter or InPlaceOf.
func (e *extension) HasCapability(c sandboxer.Capability) bool {
	if !slices.Contains(e.caps, c) {
		return e.b.broken(UndeclaredCapability)
	}
	return !e.b.broken(MissingCapability) || c != e.caps[len(e.caps)-1]
}

func (e *extension) inputs(in sandboxer.Inputs) (inputs, error) {
	var i inputs
	if !e.strict || len(in) == 0 {
		return i, nil
	}
	return i, in.Decode(&i)
}

// refOf reads a resource's name back: "<ID>" or "<ID>-<attempt>". What fits neither is an identity that names nothing.
func refOf(name string) sandboxer.HandleRef {
	if id, n, ok := cutLast(name, "-"); ok {
		if attempt, err := strconv.Atoi(n); err == nil && attempt > 1 && attempt < 1000 && strings.HasPrefix(id, "sbx-") {
			return sandboxer.HandleRef{ID: sandboxer.ID(id), Attempt: attempt}
		}
	}
	return sandboxer.HandleRef{ID: sandboxer.ID(name), Attempt: 1}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
