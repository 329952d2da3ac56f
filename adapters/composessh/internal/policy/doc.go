// Package policy turns a Compose file that nobody trusts into the project that is sent to a host. The compose-ssh adapter
// calls it once for each stack, before it connects; nothing of the file's own text ever reaches the host.
//
// [Load] reads the file with compose-go, without includes, without extends, with no variables but those it was given and
// without opening a file or a connection. Every field of compose-go's types has a judgement in the tables of this package:
// what is not allowed there is refused, and so is a field that nobody has judged. What passes is made definite (names,
// labels, limits, loopback ports, paths below the workspace) and written as JSON, which every Compose reads, with each $
// doubled, so that the host has nothing left to look up.
//
// # What the host has to do
//
// A path that lies below the workspace by name may be a symbolic link in fact, and only the host can tell. Before each
// start, the caller has [PathCheck] resolve every entry of [Stack.Paths] on the host (all of its links) and refuses what ends
// outside the workspace. That is enough because no service may bind a path whose parent another service can write: such a service could
// put a link in its place between the check and the mount, or before a restart, and have the engine, which is root, follow
// it.
//
// Compose itself must run with --project-name, --project-directory, an explicit file and an empty --env-file, and with
// nothing in its environment but what [Stack.SecretEnv] names: a .env file in the workspace is as little trusted as the
// Compose file, and may set the options of Compose as well as variables.
package policy
