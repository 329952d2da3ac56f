// Package registry turns manifests and profiles into one immutable [Registry]. A host application builds it and hands it to
// manager.Config; the Manager is its other caller. It is the only package that reads YAML.
//
// # Where documents come from
//
// Adapters bring their own manifest and profiles along ([WithAdapters]). An application supplies its own as files
// ([WithFS]: extensions/ext.<name>.yaml and profiles/profile.<slug>.yaml, embedded or in a directory), as text ([WithYAML])
// or as Go values ([WithProfiles]). A supplied document replaces the one with its id that an adapter brought along.
//
// # Manifests
//
// A manifest configures a backend:
//
//	id: ext.my-backend           # the same as in the file's name
//	title: My Backend
//	handler: my-backend          # the adapter; sandboxer.extensions.my_backend:MyExtension means the same
//	capabilities:
//	  isolation_levels: [container]    # process, container, gvisor, microvm, vm
//	  pricing_model: self-hosted       # self-hosted, metered, free
//	  features: [exec, files]          # optional: all that the adapter can do; checked by the Manager
//	inputs:                            # optional: without it the adapter alone checks inputs
//	  required: [repo]
//	  optional: [branch]
//	config:                            # optional: the adapter's settings
//	  api_key: env:MY_BACKEND_KEY      # secrets only as references
//
// # Profiles
//
// A profile is a named recipe for sandboxes. Only id and extension are required:
//
//	id: profile.go-build
//	title: Go build box
//	extension: ext.my-backend
//	isolation: container               # minimum; also binds every burst target
//	inputs: {repo: https://example.com/repo.git}
//	resources: {cpu: "2", memory: 4Gi, disk: 10Gi, gpus: 0}   # cpu also 1.5 or 500m; bytes with Ki … Pi, k … P or none
//	ports: [8080]
//	ttl: 45m                           # or none: without an end; left out: the Manager's default
//	ready_timeout: 2m
//	requires: [exec, snapshot]
//	host_selector: {arch: amd64}
//	burst:
//	  to: [profile.cloud, {profile: profile.other, inputs: {repo: repository}}]
//	  on: [resource_exhausted, unavailable]
//	  max_cost: 0.50 USD
//	  within: 30s
//	labels: {team: build}
//
// Durations carry a unit. docs/schema holds JSON Schemas of both formats for editors; put
//
//	# yaml-language-server: $schema=<path or URL>/docs/schema/profile.schema.json
//
// on a document's first line.
//
// # What is refused
//
// [New] reports every problem of every document at once, each with file:line:column and the closest valid word: unknown,
// misspelled and duplicate keys, values of a wrong type, handlers that nobody serves, extensions and burst targets that do
// not exist, isolation that an extension or a burst target cannot give, bursts in a circle, inputs that an extension does
// not take, and secrets that are written out where a reference belongs (the message does not show them). A document is
// UTF-8, at most 1 MiB, and at most 64 levels deep; with its aliases written out it has at most 20,000 values and 2 MiB of
// text. YAML tags and merge keys (<<) are not taken.
package registry
