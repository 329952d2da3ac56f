// Package local runs sandboxes as processes of this machine, each in a directory of its own. It needs nothing but an
// operating system, and is for trying the library out, for tests, and for work that one trusts.
//
// # No security boundary
//
// Its isolation level is [sandboxer.IsolationProcess], and that is no security boundary. Commands run as the user of the
// host program. They can read and write whatever that user can, reach the network, see other processes and end them, also
// those of other sandboxes. What the adapter does keeps honest programs apart and takes away what they leave; it holds
// nobody who wants out. Resources of a profile are not enforced. Do not run with it what you would not run yourself.
//
// It works on Linux and macOS. On other systems its New is Unsupported.
//
// # Where things are
//
// Below the root (see Configuration) each sandbox is one directory, private to the user, that is called like the attempt:
//
//	<root>/<name>/workspace     what relative paths, an empty Dir and snapshots mean
//	<root>/<name>/home          HOME of the commands
//	<root>/<name>/tmp           TMPDIR of the commands
//	<root>/.sandboxes/          who owns which sandbox; written before its directory, removed after it
//	<root>/.snapshots/          snapshots, each content once, compressed with zstd
//
// Absolute paths in copies and in ExecRequest.Dir must lie in the directory of the sandbox: what lies elsewhere would not go
// away with it. Any number of host programs may share a root; each touches only what carries its own
// [sandboxer.LabelOwner].
//
// # Commands
//
// A command gets its own session, and an environment that is built anew: PATH, HOME, TMPDIR, LANG=C.UTF-8 and PWD, then the
// variables of keep_env, of the input env and of the request, the later ones winning. A name without a slash is looked for
// in that PATH. What cannot be started at all is an error that is refused, such as NotFound; no exit code is made up for it.
// Service must be empty.
//
// Each process carries SANDBOXER_SANDBOX and SANDBOXER_EXEC in its environment. By them, by parents, sessions and process
// groups it is found when a time limit passes, a context ends or a sandbox is removed, also after a crash of the host
// program. A process that clears its environment, leaves its session and loses its parent is not found.
//
// Background processes outlive a command that exits by itself. As long as the extension is open it goes on reading what
// they write, and discards it; after that they write to a closed pipe, so let a daemon write to a file. With a TTY the
// system ends them as it does when a terminal is closed.
//
// # Lifetime
//
// Nothing ends a sandbox by itself: a deadline is stored, shown by List and Inspect, and left to the Manager, which
// enforces it. A reboot ends the processes and keeps the directories.
//
// # Configuration
//
//	root      the directory below which everything lies, absolute. Defaults to sandboxer/local in $XDG_STATE_HOME or
//	          ~/.local/state, on macOS in ~/Library/Application Support. It is made when it is first needed.
//	path      PATH of the commands. Defaults to that of the host program, and then to the system's usual one.
//	keep_env  names of variables of the host program that commands see. Defaults to none.
//
// The one input is env, a mapping of variables for the commands of the sandbox; they are stored with it in plain text.
package local
