package adaptertest

import (
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Config says what is tested and what the tests need to know of it. Adapter and Profile are required.
type Config struct {
	// Adapter makes the adapter. It is called twice, and both must reach the same backend: that is how it is proven that a
	// handle outlives the process that made it.
	Adapter func(t testing.TB) sandboxer.Adapter
	// Secrets gives out the credentials that the adapter needs. Defaults to the process environment. What it gave out must
	// never be seen again, in a handle, a status, an error or a log line.
	Secrets sandboxer.SecretSource
	// Profile is what sandboxes are made of. Its Extension names the manifest, the adapter's own or one that it brought.
	Profile func(t testing.TB) sandboxer.Profile
	// Host is where sandboxes are put. Required where the adapter is Hosted.
	Host func(t testing.TB) sandboxer.Host
	// Live returns the names of everything that exists at the backend: sandboxes, snapshots, helpers. Each contains the name
	// of the sandbox or snapshot that it belongs to. It is how leaks are seen where there is no Lister, and more is seen
	// with it where there is one. It also shows, where nothing else does, that another owner's sandbox is left alone.
	Live func(t testing.TB) []string
	// Bad are inputs that must fail with InvalidArgument and create nothing.
	Bad []sandboxer.Inputs
	// Within bounds every single step. Defaults to 1 min.
	Within time.Duration
	// Skip leaves subtests out: name → why this backend cannot pass it. A name that no subtest has is an error.
	Skip map[string]string

	// Shell is the argument list that runs a script, which is appended, and then its parameters. Defaults to sh -c. The
	// scripts are POSIX and use cat, sleep (of fractions of a second) and printf.
	Shell []string
	// Listen returns a command that listens on a TCP port of the sandbox's loopback interface and sends back all that it
	// receives, to one connection after the other. Without it, only that Dial fails where nobody listens is tested.
	Listen func(port int) []string
	// Port is the one to listen on. Defaults to the first of Profile.Ports, and then to one that is free on this machine.
	Port int
	// Tenant is on whose behalf sandboxes are made, for a SecretSource that has one key for each. Defaults to none.
	Tenant string
}

func (c Config) withDefaults() Config {
	if c.Within <= 0 {
		c.Within = time.Minute
	}
	if len(c.Shell) == 0 {
		c.Shell = []string{"sh", "-c"}
	}
	return c
}

// problem says what is missing; "" for nothing.
func (c Config) problem() string {
	switch {
	case c.Adapter == nil:
		return "Config.Adapter is nil: give the function that makes the adapter"
	case c.Profile == nil:
		return "Config.Profile is nil: give a profile of the adapter's extension"
	}
	return ""
}
