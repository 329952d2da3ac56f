// Package workspace puts the files of a stack onto a remote host: a repository that git clones there ([Clone]), or a
// directory of this machine that is made equal to there ([Push]). The compose-ssh adapter uses both, when a sandbox is
// created and when it is refreshed.
//
// # What is trusted
//
// A source comes from a request: [ParseSource] refuses everything that git could take for an option, a program or another
// place. A repository is hostile: it is fetched with hooks, filters, templates and configuration switched off, and nothing
// of it runs. What the host says about the tree that is there is hostile as well, because containers write to it: it is
// bounded and parsed strictly, and a path of it is only ever used for deleting.
//
// On a refresh containers may change the tree while it is written. Paths are never followed through a link that was there
// before, but between the look and the write nothing holds a link off: give Push a [Runner] whose commands see nothing but
// the workspace.
//
// # Secrets
//
// The password or token of an HTTPS repository goes over standard input into a variable of the shell that starts git, and
// from there over a pipe to git's credential helper. The key of an SSH repository never leaves this process: ssh on the host
// asks for signatures through a socket that is forwarded to here. So neither is in a command line, an environment or a file.
package workspace
