// Package sshtest runs real OpenSSH servers on loopback for tests: each with its own keys, port and configuration, ended
// with the test, and with every process of its sessions to be counted. [Proxy] stands in front of one and does to its
// connections what networks do. [Login] is a user that only the server knows.
//
// It needs sshd at the path in SANDBOXER_SSHD, which scripts/real/ssh.sh installs and exports.
package sshtest
