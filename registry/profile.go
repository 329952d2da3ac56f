package registry

import (
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const maxGPUs = 1024

// profileKeys is the format of a profile.
var profileKeys = sync.OnceValue(func() []key[sandboxer.Profile] {
	type profile = sandboxer.Profile
	return []key[profile]{
		{
			name: "id", required: true,
			shape:  textShape(idPattern(profileKind)).about("Names the profile: \"profile.\" and a slug, the same as in the file's name."),
			decode: textInto(func(p *profile) *string { return &p.ID }),
		},
		{
			name:   "title",
			shape:  titleShape().about("What people are shown."),
			decode: textInto(func(p *profile) *string { return &p.Title }),
		},
		{
			name: "extension", required: true,
			shape:  textShape(idPattern(manifestKind)).about("The extension that makes the sandboxes."),
			decode: textInto(func(p *profile) *string { return &p.Extension }),
		},
		{
			name:   "isolation",
			shape:  enumShape(sandboxer.IsolationLevels()).about("The weakest separation that will do; it also binds every burst target."),
			decode: textInto(func(p *profile) *sandboxer.IsolationLevel { return &p.Isolation }),
		},
		{
			name:   "inputs",
			shape:  dataShape().orEmpty().about("Values for the extension. A request's inputs replace them, key by key. Secrets only as references."),
			decode: dataInto(func(p *profile) *sandboxer.Inputs { return &p.Inputs }),
		},
		{
			name:  "resources",
			shape: mappingShape(resourceKeys()).orEmpty().about("What a sandbox may use; what is left out is the backend's choice."),
			decode: func(d *decoder, at path, n *node, p *profile) {
				decodeKeys(d, at, n, resourceKeys(), &p.Resources)
			},
		},
		{
			name:   "ports",
			shape:  setShape(integerShape(1, maxPort)).orEmpty().about("Ports inside the sandbox that will be exposed."),
			decode: portsInto,
		},
		{
			name:   "requires",
			shape:  setShape(enumShape(sandboxer.AllCapabilities())).orEmpty().about("Capabilities that the extension must have; checked when the Manager is built."),
			decode: listInto(func(p *profile) *[]sandboxer.Capability { return &p.Requires }),
		},
		{
			name:   "ttl",
			shape:  durationShape(ttlPattern).about("How long a sandbox lives, such as 45m or 12h; none: without an end. Left out: the Manager's default."),
			decode: parsedInto(func(p *profile) *time.Duration { return &p.TTL }, parseTTL),
		},
		{
			name:   "ready_timeout",
			shape:  durationShape(durationPattern).about("How long a sandbox may take to become ready."),
			decode: parsedInto(func(p *profile) *time.Duration { return &p.ReadyTimeout }, parseDuration),
		},
		{
			name:   "host_selector",
			shape:  labelsShape().orEmpty().about("Labels that a host must carry."),
			decode: labelsInto(func(p *profile) *map[string]string { return &p.HostSelector }),
		},
		{
			name:  "burst",
			shape: mappingShape(burstKeys()).orEmpty().about("Where a create may go when the profile's own extension cannot serve it."),
			decode: func(d *decoder, at path, n *node, p *profile) {
				p.Burst = &sandboxer.BurstPolicy{}
				decodeKeys(d, at, n, burstKeys(), p.Burst)
			},
		},
		{
			name:   "labels",
			shape:  labelsShape().orEmpty().about("Stamped on every sandbox where the backend can carry them."),
			decode: labelsInto(func(p *profile) *map[string]string { return &p.Labels }),
		},
	}
})

var resourceKeys = sync.OnceValue(func() []key[sandboxer.Resources] {
	type resources = sandboxer.Resources
	return []key[resources]{
		{
			name:   "cpu",
			shape:  cpuShape().about("CPUs, such as 2, 1.5 or 500m."),
			decode: parsedInto(func(r *resources) *int64 { return &r.CPUMillis }, parseCPU),
		},
		{
			name:   "memory",
			shape:  bytesShape().about("Memory, such as 4Gi or 512Mi; a plain number is bytes."),
			decode: parsedInto(func(r *resources) *int64 { return &r.MemoryBytes }, parseBytes),
		},
		{
			name:   "disk",
			shape:  bytesShape().about("Disk, such as 10Gi; a plain number is bytes."),
			decode: parsedInto(func(r *resources) *int64 { return &r.DiskBytes }, parseBytes),
		},
		{
			name:  "gpus",
			shape: integerShape(0, maxGPUs).about("GPUs."),
			decode: func(d *decoder, at path, n *node, r *resources) {
				r.GPUs, _ = d.integer(at, n)
			},
		},
	}
})

var burstKeys = sync.OnceValue(func() []key[sandboxer.BurstPolicy] {
	type policy = sandboxer.BurstPolicy
	to := shape{"type": "array", "minItems": 1, "items": shape{"anyOf": []any{
		textShape(idPattern(profileKind)), mappingShape(targetKeys()),
	}}}
	return []key[policy]{
		{
			name: "to", required: true,
			shape:  to.about("Profiles to try, in order."),
			decode: targetsInto,
		},
		{
			name:   "on",
			shape:  setShape(enumShape(codes())).orEmpty().about("What must have gone wrong. Left out: resource_exhausted and unavailable."),
			decode: listInto(func(b *policy) *[]sandboxer.Code { return &b.On }),
		},
		{
			name:   "max_cost",
			shape:  textShape(moneyPattern).about("The most that one sandbox may be estimated to cost over its lifetime, such as 0.50 USD; a dearer target is skipped."),
			decode: parsedInto(func(b *policy) **sandboxer.Money { return &b.MaxCost }, parseMoney),
		},
		{
			name:   "within",
			shape:  durationShape(durationPattern).about("How long the first choice gets before the next is tried. Left out: until it fails."),
			decode: parsedInto(func(b *policy) *time.Duration { return &b.Within }, parseDuration),
		},
	}
})

var targetKeys = sync.OnceValue(func() []key[sandboxer.BurstTarget] {
	type target = sandboxer.BurstTarget
	return []key[target]{
		{
			name: "profile", required: true,
			shape:  textShape(idPattern(profileKind)).about("The profile to try."),
			decode: textInto(func(t *target) *string { return &t.Profile }),
		},
		{
			name:   "inputs",
			shape:  inputsShape().orEmpty().about("Which input of the request becomes which input of the target."),
			decode: labelsInto(func(t *target) *map[string]string { return &t.Inputs }),
		},
	}
})

// targetsInto decodes burst.to: profile ids, mappings with profile and inputs, or both mixed.
func targetsInto(d *decoder, at path, n *node, b *sandboxer.BurstPolicy) {
	d.each(at, n, func(at path, item *node) {
		var t sandboxer.BurstTarget
		if item.kind == mapping {
			decodeKeys(d, at, item, targetKeys(), &t)
		} else {
			t.Profile, _ = d.text(at, item)
		}
		b.To = append(b.To, t)
	})
}

func portsInto(d *decoder, at path, n *node, p *sandboxer.Profile) {
	d.each(at, n, func(at path, item *node) {
		port, _ := d.integer(at, item)
		p.Ports = append(p.Ports, port)
	})
}

// codes are the codes that a create can fail with.
func codes() []sandboxer.Code {
	return []sandboxer.Code{
		sandboxer.ResourceExhausted, sandboxer.Unavailable, sandboxer.BudgetExceeded, sandboxer.DeadlineExceeded,
		sandboxer.InvalidArgument, sandboxer.NotFound, sandboxer.AlreadyExists, sandboxer.FailedPrecondition,
		sandboxer.PermissionDenied, sandboxer.Unauthenticated, sandboxer.Unsupported, sandboxer.Aborted,
		sandboxer.Canceled, sandboxer.Internal, sandboxer.Unknown,
	}
}
