// Package hosttest gives tests a host with Docker: a real sshd beside a real engine, in a network namespace of their own. Two
// hosts are there, 1 and 2, and they share nothing but the machine. What an engine publishes on its loopback is not on the
// test's; [Host.Dial] reaches it.
//
// scripts/real/docker.sh starts the engines once for a run of all tests and says where they are in SANDBOXER_DOCKER; each test
// has an sshd of its own. Tests of several packages use the engines at the same time: a test knows its resources by a name
// that nobody else has, and says nothing about those of others.
package hosttest
