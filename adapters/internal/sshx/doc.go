// Package sshx is the SSH client of the adapters that put sandboxes on hosts: pooled connections, commands whose whole tree
// ends with them, file transfers and forwards, over golang.org/x/crypto/ssh.
//
// A [Pool] holds the connections of an adapter. [Pool.Host] gives a [Conn] for one host, on which everything else is asked.
// A Conn is cheap to get, safe for concurrent use, and stays good when connections below it come and go: a call that has
// not begun when a connection dies is made on the next one, a call that has begun fails.
//
// # How a command runs
//
// sshd runs a fixed line, `exec /bin/sh -c '…' TOKEN`, which reads one more line from standard input and evaluates it.
// Environment, directory and arguments are in that second line, so that none of them is in a process listing. The shell
// becomes the command by exec: exit codes and signals are sshd's own report, and standard input, output and error are the
// channel's. A marker separates what login files print from what the command prints.
//
// The token is random, part of the environment of everything that the command starts, and known to the keeper: one shell
// for each host, at the far end of one of the pool's connections, which ends all that carries a token (and the children of
// that, in whatever session) when it is told to, when its connection ends, and when nothing was heard for two leases. A
// process that clears its environment and leaves its parents at the same time escapes it; a container does not.
package sshx
