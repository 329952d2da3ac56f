// Package e2b serves the handler "e2b": microVM sandboxes of E2B, paid with the platform's or the tenant's own key. Give
// Adapter() to a registry; the Manager calls the rest. How to get and name keys is in docs/byok.md.
//
// Creating, waiting and the first command take one request each, one after the other; beside the create it is looked whether its
// name exists. A create whose reply was lost is settled by the metadata
// that every sandbox carries. Ports are published by E2B's edge, which speaks HTTP only, so that there is an Expose and no
// Dial: a raw TCP connection into a sandbox does not exist there.
package e2b

import _ "embed"

//go:embed ext.e2b.yaml
var manifest []byte

//go:embed profile.e2b.yaml
var profile []byte
