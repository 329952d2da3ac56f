package registry

import (
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// Manifest describes one extension: the configured backend that a profile names. In a file it is
// extensions/ext.<name>.yaml.
type Manifest struct {
	ID      string // "ext.my-backend"
	Title   string
	Handler string // names the adapter; always the short form ("my-backend")

	Capabilities struct {
		IsolationLevels []sandboxer.IsolationLevel // what its sandboxes can be separated by; at least one
		PricingModel    sandboxer.PricingModel
		Features        []sandboxer.Capability // nil: not declared; otherwise the Manager checks that it is all the adapter can do
	}
	// Inputs are the names of the inputs that the extension takes. Where both are nil nothing is declared, and the registry
	// leaves all checking to the adapter.
	Inputs struct{ Required, Optional []string }
	Config sandboxer.Inputs // for the adapter; holds SecretRefs, never secrets
}

// Takes reports whether the extension takes an input of this name. One that declares no inputs takes any.
func (m Manifest) Takes(input string) bool {
	if !m.declaresInputs() {
		return true
	}
	for _, name := range m.inputNames() {
		if name == input {
			return true
		}
	}
	return false
}

func (m Manifest) declaresInputs() bool { return m.Inputs.Required != nil || m.Inputs.Optional != nil }

func (m Manifest) inputNames() []string {
	return append(append([]string(nil), m.Inputs.Required...), m.Inputs.Optional...)
}

// offers reports whether the extension can separate its sandboxes at least that well.
func (m Manifest) offers(least sandboxer.IsolationLevel) bool {
	for _, l := range m.Capabilities.IsolationLevels {
		if l.AtLeast(least) {
			return true
		}
	}
	return false
}

// manifestKeys is the format of a manifest. The tables are built once, when first needed, and never change.
var manifestKeys = sync.OnceValue(func() []key[Manifest] {
	return []key[Manifest]{
		{
			name: "id", required: true,
			shape:  textShape(idPattern(manifestKind)).about("Names the extension: \"ext.\" and a name, the same as in the file's name."),
			decode: textInto(func(m *Manifest) *string { return &m.ID }),
		},
		{
			name:   "title",
			shape:  titleShape().about("What people are shown."),
			decode: textInto(func(m *Manifest) *string { return &m.Title }),
		},
		{
			name: "handler", required: true,
			shape:  textShape(handlerPattern).about("The adapter that serves this extension."),
			decode: handlerInto,
		},
		{
			name: "capabilities", required: true,
			shape: mappingShape(capabilityKeys()).about("What the extension can do."),
			decode: func(d *decoder, at path, n *node, m *Manifest) {
				decodeKeys(d, at, n, capabilityKeys(), m)
			},
		},
		{
			name:  "inputs",
			shape: mappingShape(inputKeys()).orEmpty().about("The inputs that a profile or a request may give. Left out: whatever the adapter takes."),
			decode: func(d *decoder, at path, n *node, m *Manifest) {
				decodeKeys(d, at, n, inputKeys(), m)
			},
		},
		{
			name:   "config",
			shape:  dataShape().orEmpty().about("Settings for the adapter. Secrets only as references: env:NAME, file:/path, or a name that the application knows."),
			decode: dataInto(func(m *Manifest) *sandboxer.Inputs { return &m.Config }),
		},
	}
})

var capabilityKeys = sync.OnceValue(func() []key[Manifest] {
	isolation := setShape(enumShape(sandboxer.IsolationLevels()))
	isolation["minItems"] = 1
	return []key[Manifest]{
		{
			name: "isolation_levels", required: true,
			shape:  isolation.about("What can separate a sandbox from its host and its neighbours, weakest first: process (no security boundary), container, gvisor, microvm, vm."),
			decode: listInto(func(m *Manifest) *[]sandboxer.IsolationLevel { return &m.Capabilities.IsolationLevels }),
		},
		{
			name: "pricing_model", required: true,
			shape:  enumShape(sandboxer.PricingModels()).about("Who bills for a sandbox."),
			decode: textInto(func(m *Manifest) *sandboxer.PricingModel { return &m.Capabilities.PricingModel }),
		},
		{
			name:   "features",
			shape:  setShape(enumShape(sandboxer.AllCapabilities())).orEmpty().about("All that the adapter can do beyond creating and removing; checked against the adapter."),
			decode: listInto(func(m *Manifest) *[]sandboxer.Capability { return &m.Capabilities.Features }),
		},
	}
})

var inputKeys = sync.OnceValue(func() []key[Manifest] {
	names := setShape(textShape(inputPattern)).orEmpty()
	return []key[Manifest]{
		{
			name:   "required",
			shape:  names.about("Inputs without which no sandbox can be made."),
			decode: listInto(func(m *Manifest) *[]string { return &m.Inputs.Required }),
		},
		{
			name:   "optional",
			shape:  names.about("Inputs that may be given."),
			decode: listInto(func(m *Manifest) *[]string { return &m.Inputs.Optional }),
		},
	}
})

func handlerInto(d *decoder, at path, n *node, m *Manifest) {
	s, ok := d.text(at, n)
	if !ok {
		return
	}
	name, err := handlerName(s)
	if err != nil {
		d.add(n, at, "%v", err)
		return
	}
	m.Handler = name
}
