// Package sshx is the SSH client of the adapters that put sandboxes on hosts: pooled connections, commands whose whole tree
// ends with them, file transfers and forwards, over golang.org/x/crypto/ssh.
//
// A [Pool] holds the connections of an adapter. [Pool.Host] gives a [Conn] for one host, on which everything else is asked.
// A Conn is cheap to get, safe for concurrent use, and stays good when connections below it come and go: a call that has
// not been sent when a connection dies is made on the next one, a call that has been sent fails.
//
// # How a command runs
//
// In a session of its own, sshd runs a fixed line, `exec /bin/sh -c '…' TOKEN`, which reads one more line from standard
// input and evaluates it. Environment, directory and arguments are in that second line, so that none of them is in a process
// listing. The shell becomes the command by exec: exit codes and signals are sshd's own report, and standard input, output
// and error are the channel's. A marker separates what login files print from what the command prints.
//
// That takes two round trips and starts three programs, so most commands run on a runner instead: a Perl script that stays
// in a session and runs one command after the other. It starts each in a session of its own, by exec and without a shell,
// tells its wait status, and carries its streams in frames, so that the end of each is known. What a command leaves in the
// background keeps its own pipes; a runner whose pipes are still held when its command has ended goes. Far away, much input
// or output is dealt over channels to a socket of the runner, because a channel moves no more than its window of 2 MiB in a
// round trip.
//
// The token is random, and part of the environment of everything that the command starts. Before the command begins it is
// told to the keeper, with the process that begins it: one shell for each host, at the far end of one of the pool's
// connections, which ends all that carries a token, and what descends from that or is in its session, when it is told to,
// when its connection ends, and when nothing was heard for two leases. Where there is no keeper, nothing begins. A process
// that clears its environment and leaves its parents and their sessions at the same time escapes it; a container does not.
package sshx
