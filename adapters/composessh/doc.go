// Package composessh puts sandboxes on hosts of one's own: each is a Docker Compose stack on a host that is reached over
// SSH, with a workspace that the stack's main service has mounted.
package composessh
