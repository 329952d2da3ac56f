package sshx

import (
	"context"
	"net"
	"time"
)

// Config of a [Pool]. The zero value is right for most.
type Config struct {
	// SSHConfig is the SSH client configuration to read. Defaults to ~/.ssh/config and /etc/ssh/ssh_config, where they
	// exist; "none" reads no file.
	SSHConfig string
	// KnownHosts are the files that know the keys of hosts which bring none of their own. Defaults to what the SSH
	// configuration says, and that to ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	KnownHosts []string
	// Agent is the socket of the SSH agent for hosts without a credential. Defaults to what the SSH configuration says,
	// and that to $SSH_AUTH_SOCK; "none" asks no agent.
	Agent string
	// DialTimeout is how long connecting and authenticating may take, tries again included. Defaults to 30 s.
	DialTimeout time.Duration
	// KeepAlive is the silence after which a server is asked whether it is there; after as much again it is taken for
	// dead. Defaults to 15 s.
	KeepAlive time.Duration
	// Lease is how long a host keeps commands running of which it hears nothing, at least, and at most twice that.
	// Defaults to 2 min; full seconds.
	Lease time.Duration
	// IdleTimeout is after how much time without use a connection is closed. Defaults to 5 min.
	IdleTimeout time.Duration
	// KillGrace is how long a cancelled command's end is waited for. Defaults to 5 s.
	KillGrace time.Duration
	// MaxConns is the number of connections to one host. Defaults to 64; at least 2. When all of their sessions are in
	// use, calls wait.
	MaxConns int
	// Dial opens the connection to the first server on the way. Defaults to a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&c.DialTimeout, 30*time.Second)
	def(&c.KeepAlive, 15*time.Second)
	def(&c.Lease, 2*time.Minute)
	def(&c.IdleTimeout, 5*time.Minute)
	def(&c.KillGrace, 5*time.Second)
	if c.Lease < time.Second {
		c.Lease = time.Second
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 64
	}
	c.MaxConns = max(c.MaxConns, 2)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	return c
}
