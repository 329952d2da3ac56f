package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// catalogueFormat rises when a reader of the catalogue has to change.
const catalogueFormat = 1

// The catalogue's JSON; docs/schema/catalogue.schema.json describes it.
type catalogue struct {
	Format     int                  `json:"format"`
	Extensions []catalogueExtension `json:"extensions"`
	Profiles   []catalogueProfile   `json:"profiles"`
}

type catalogueExtension struct {
	ID              string                     `json:"id"`
	Title           string                     `json:"title,omitempty"`
	Handler         string                     `json:"handler"`
	Hosted          bool                       `json:"hosted"` // its sandboxes are placed on hosts
	IsolationLevels []sandboxer.IsolationLevel `json:"isolation_levels"`
	PricingModel    sandboxer.PricingModel     `json:"pricing_model"`
	Features        []sandboxer.Capability     `json:"features,omitzero"` // absent: not declared
	Inputs          *catalogueInputs           `json:"inputs,omitempty"`  // absent: not declared
}

type catalogueInputs struct {
	Required []string `json:"required"`
	Optional []string `json:"optional"`
}

type catalogueProfile struct {
	ID           string                   `json:"id"`
	Title        string                   `json:"title,omitempty"`
	Extension    string                   `json:"extension"`
	Isolation    sandboxer.IsolationLevel `json:"isolation,omitempty"` // minimum
	Preset       []string                 `json:"preset"`              // inputs that the profile sets; their values are not shown
	Missing      []string                 `json:"missing"`             // required inputs that a request has to give
	Resources    sandboxer.Resources      `json:"resources,omitzero"`
	Ports        []int                    `json:"ports,omitempty"`
	Requires     []sandboxer.Capability   `json:"requires,omitempty"`
	TTL          string                   `json:"ttl,omitempty"` // "1h30m0s" or "none"; absent: the Manager's default
	ReadyTimeout string                   `json:"ready_timeout,omitempty"`
	HostSelector map[string]string        `json:"host_selector,omitempty"`
	Burst        *catalogueBurst          `json:"burst,omitempty"`
	Labels       map[string]string        `json:"labels,omitempty"`
}

type catalogueBurst struct {
	To      []sandboxer.BurstTarget `json:"to"`
	On      []sandboxer.Code        `json:"on"`
	MaxCost string                  `json:"max_cost,omitempty"`
	Within  string                  `json:"within,omitempty"`
}

// WriteCatalogue writes what is registered as one JSON document for other tools: extensions with their capabilities,
// pricing and inputs, and profiles. The same registry writes the same bytes. The config of extensions and the values of
// inputs are left out. An error is w's.
func (r *Registry) WriteCatalogue(w io.Writer) error {
	out := catalogue{Format: catalogueFormat, Extensions: []catalogueExtension{}, Profiles: []catalogueProfile{}}
	for _, id := range ids(r.manifests) {
		out.Extensions = append(out.Extensions, r.catalogueExtension(r.manifests[id]))
	}
	for _, id := range ids(r.profiles) {
		p := r.profiles[id]
		out.Profiles = append(out.Profiles, catalogueProfileOf(p, r.manifests[p.Extension]))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("writing the catalogue: %w", err)
	}
	return nil
}

func (r *Registry) catalogueExtension(m Manifest) catalogueExtension {
	e := catalogueExtension{
		ID: m.ID, Title: m.Title, Handler: m.Handler, Hosted: r.adapters[m.Handler].Hosted,
		IsolationLevels: m.Capabilities.IsolationLevels, PricingModel: m.Capabilities.PricingModel, Features: m.Capabilities.Features,
	}
	if m.declaresInputs() {
		e.Inputs = &catalogueInputs{Required: append([]string{}, m.Inputs.Required...), Optional: append([]string{}, m.Inputs.Optional...)}
	}
	return e
}

func catalogueProfileOf(p sandboxer.Profile, m Manifest) catalogueProfile {
	out := catalogueProfile{
		ID: p.ID, Title: p.Title, Extension: p.Extension, Isolation: p.Isolation,
		Preset: append([]string{}, sortedKeys(p.Inputs)...), Missing: []string{},
		Resources: p.Resources, Ports: p.Ports, Requires: p.Requires,
		TTL: durationText(p.TTL), ReadyTimeout: durationText(p.ReadyTimeout),
		HostSelector: p.HostSelector, Labels: p.Labels,
	}
	for _, name := range m.Inputs.Required {
		if p.Inputs[name] == nil {
			out.Missing = append(out.Missing, name)
		}
	}
	if b := p.Burst; b != nil {
		out.Burst = &catalogueBurst{To: b.To, On: b.On, Within: durationText(b.Within)}
		if len(b.On) == 0 {
			out.Burst.On = []sandboxer.Code{sandboxer.ResourceExhausted, sandboxer.Unavailable}
		}
		if b.MaxCost != nil {
			out.Burst.MaxCost = b.MaxCost.String()
		}
	}
	return out
}

func durationText(d time.Duration) string {
	switch d {
	case 0:
		return ""
	case sandboxer.NoTTL:
		return "none"
	}
	return d.String()
}
