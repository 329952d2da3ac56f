package registry

import (
	"github.com/sand-boxer/sandboxer"
)

const maxPort = 65535

// checkManifest checks what a manifest says by itself.
func (doc *document) checkManifest() {
	m := &doc.manifest
	doc.checkID(m.ID)
	doc.checkTitle(m.Title)
	levels := path{"capabilities", "isolation_levels"}
	if len(m.Capabilities.IsolationLevels) == 0 {
		doc.add(levels, "names no level; valid: %s", list(sandboxer.IsolationLevels()))
	}
	setOf(doc, levels, "isolation level", m.Capabilities.IsolationLevels, sandboxer.IsolationLevels())
	oneOf(doc, path{"capabilities", "pricing_model"}, "pricing model", m.Capabilities.PricingModel, sandboxer.PricingModels())
	setOf(doc, path{"capabilities", "features"}, "capability", m.Capabilities.Features, sandboxer.AllCapabilities())
	seen := map[string]bool{}
	for _, names := range []struct {
		key    string
		inputs []string
	}{{"required", m.Inputs.Required}, {"optional", m.Inputs.Optional}} {
		for i, name := range names.inputs {
			at := path{"inputs", names.key, i}
			switch {
			case !inputFormat.MatchString(name):
				doc.add(at, "%s is no name of an input; use letters, digits, '_', '-' and '.', beginning with a letter", quote(name))
			case seen[name]:
				doc.add(at, "%s is listed twice", quote(name))
			}
			seen[name] = true
		}
	}
}

// checkProfile checks what a profile says by itself; the document may be a Go value.
func (doc *document) checkProfile() {
	p := &doc.profile
	doc.checkID(p.ID)
	doc.checkTitle(p.Title)
	switch {
	case p.Extension == "":
		doc.add(path{"extension"}, "is missing; name the extension that makes the sandboxes")
	case !idOK(manifestKind, p.Extension):
		hint := ""
		if idOK(manifestKind, "ext."+p.Extension) {
			hint = "; did you mean " + quote("ext."+p.Extension) + "?"
		}
		doc.add(path{"extension"}, "%s is no id of an extension%s", quote(p.Extension), hint)
	}
	if p.Isolation != "" || doc.has("isolation") {
		oneOf(doc, path{"isolation"}, "isolation level", p.Isolation, sandboxer.IsolationLevels())
	}
	doc.checkResources(p.Resources)
	seen := map[int]bool{}
	for i, port := range p.Ports {
		at := path{"ports", i}
		switch {
		case port < 1 || port > maxPort:
			doc.add(at, "%d is no port; use 1 to %d", port, maxPort)
		case seen[port]:
			doc.add(at, "%d is listed twice", port)
		}
		seen[port] = true
	}
	setOf(doc, path{"requires"}, "capability", p.Requires, sandboxer.AllCapabilities())
	if p.TTL < 0 && p.TTL != sandboxer.NoTTL {
		doc.add(path{"ttl"}, "%v is negative; 0 is the Manager's default, sandboxer.NoTTL a sandbox without an end", p.TTL)
	}
	if p.ReadyTimeout < 0 {
		doc.add(path{"ready_timeout"}, "%v is negative; 0 is the Manager's default", p.ReadyTimeout)
	}
	doc.checkLabels(path{"host_selector"}, p.HostSelector)
	doc.checkLabels(path{"labels"}, p.Labels)
	if p.Burst != nil {
		doc.checkBurst(p.Burst)
	}
}

func (doc *document) has(key string) bool { return doc.root != nil && doc.root.get(key) != nil }

func (doc *document) checkResources(r sandboxer.Resources) {
	at := path{"resources"}
	for _, q := range []struct {
		key string
		n   int64
	}{{"cpu", r.CPUMillis}, {"memory", r.MemoryBytes}, {"disk", r.DiskBytes}, {"gpus", int64(r.GPUs)}} {
		if q.n < 0 {
			doc.add(at.with(q.key), "%d is negative; 0 leaves it to the backend", q.n)
		}
	}
	if r.GPUs > maxGPUs {
		doc.add(at.with("gpus"), "%d is more than %d", r.GPUs, maxGPUs)
	}
}

func (doc *document) checkBurst(b *sandboxer.BurstPolicy) {
	at := path{"burst"}
	if len(b.To) == 0 {
		doc.add(at.with("to"), "names no profile; list the profiles to try, in order")
	}
	seen := map[string]bool{}
	for i, t := range b.To {
		to := at.with("to").with(i)
		switch {
		case !idOK(profileKind, t.Profile):
			doc.add(to, "%s is no id of a profile", quote(t.Profile))
		case t.Profile == doc.profile.ID:
			doc.add(to, "the profile bursts to itself")
		case seen[t.Profile]:
			doc.add(to, "%s is listed twice", quote(t.Profile))
		}
		seen[t.Profile] = true
		for _, from := range sortedStrings(t.Inputs) {
			for _, name := range []string{from, t.Inputs[from]} {
				if !inputFormat.MatchString(name) {
					doc.add(to.with("inputs").with(from), "%s is no name of an input", quote(name))
				}
			}
		}
	}
	setOf(doc, at.with("on"), "code", b.On, codes())
	if b.MaxCost != nil && b.MaxCost.Nanos() < 0 {
		doc.add(at.with("max_cost"), "%v is negative", *b.MaxCost)
	}
	if b.Within < 0 {
		doc.add(at.with("within"), "%v is negative; 0 waits until the first choice fails", b.Within)
	}
}

// checkSecrets looks for secrets that are written out, in the free-form part and everywhere else.
func (doc *document) checkSecrets(key string, data sandboxer.Inputs, isSecret func(string) bool) {
	report := func(at path, text string) { doc.add(at, "%s", text) }
	findSecrets(path{key}, map[string]any(data), isSecret, report)
	if what := secretShape(doc.manifest.Title + doc.profile.Title); what != "" {
		doc.add(path{"title"}, "holds what looks like %s%s", what, secretRotate)
	}
	for _, m := range []struct {
		key    string
		values map[string]string
	}{{"host_selector", doc.profile.HostSelector}, {"labels", doc.profile.Labels}} {
		for _, k := range sortedStrings(m.values) {
			if what := secretShape(m.values[k]); what != "" {
				doc.add(path{m.key, k}, "looks like %s written out; labels are readable by whoever can read the backend%s", what, secretRotate)
			}
		}
	}
}
