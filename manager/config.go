package manager

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
	"github.com/sand-boxer/sandboxer/registry"
	"github.com/sand-boxer/sandboxer/secrets"
)

// Config configures a Manager. Registry and Store are required.
type Config struct {
	Registry *registry.Registry
	// Store keeps the intents: boltstore.Open for one that survives the process, or store.Memory(), whose sandboxes and
	// snapshots Close then removes, because nobody would remember them. The Manager does not close it.
	Store store.Store
	Hosts []sandboxer.Host
	// Secrets gives out credentials. Defaults to secrets.Env(): the platform pays for all, with keys from its environment.
	Secrets      sandboxer.SecretSource
	Meter        *metering.Meter // nil: Sandbox.Meter says what one costs, and nothing is exported
	Interceptors []sandboxer.Interceptor
	// Owner is stamped, with the store's ID, on every resource; a reaper touches only its own. A DNS label. Defaults to
	// "sandboxer".
	Owner  string
	Logger *slog.Logger // Defaults to discarding

	DefaultTTL   time.Duration // where neither request nor profile says. Defaults to 1 h; NoTTL: none
	ReadyTimeout time.Duration // where the profile does not say. Defaults to 5 min
	// CallTimeout is for one short call: a Preflight, a price, who pays, a look at a sandbox, an Extend, a Dial. Defaults to
	// 1 min. Commands, copies and snapshots take as long as their caller waits.
	CallTimeout      time.Duration
	ProvisionTimeout time.Duration // for one Provision, Restore, Pause or Resume. Defaults to 30 min
	TeardownTimeout  time.Duration // for one removal, also under a dead context. Defaults to 1 min
	RecoverTimeout   time.Duration // how long New waits for what a crash left. Defaults to 30 s
	ReapInterval     time.Duration // between reaps in the background. Defaults to 5 min; negative: none
	// ReapGrace is how long after its creation something may show up at a backend: what is younger, and ten minutes of clock
	// skew, is no orphan yet, and a snapshot whose reply was lost is deleted again for so long. Defaults to 5 min.
	ReapGrace      time.Duration
	MeterSnapshots time.Duration // between meter records of one stored snapshot that is kept on. Defaults to 24 h
	Keep           time.Duration // how long records of ended sandboxes and snapshots are kept. Defaults to 7 days
	Retries        int           // of a create that the backend refused for now. Defaults to 3; negative: none
}

// maxHostID is how long the ID of a host may be: it is part of labels, tags and keys.
const maxHostID = 128

// margin is how much later than ours a backend's native deadline is set: the Manager's own removal, with its accounting,
// comes first, and the backend's is the net below it.
const margin = time.Minute

var ownerPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (c Config) withDefaults() Config {
	if c.Owner == "" {
		c.Owner = "sandboxer"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Secrets == nil {
		c.Secrets = secrets.Env()
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.DefaultTTL, time.Hour},
		{&c.ReadyTimeout, 5 * time.Minute},
		{&c.CallTimeout, time.Minute},
		{&c.ProvisionTimeout, 30 * time.Minute},
		{&c.TeardownTimeout, time.Minute},
		{&c.RecoverTimeout, 30 * time.Second},
		{&c.ReapInterval, 5 * time.Minute},
		{&c.ReapGrace, 5 * time.Minute},
		{&c.MeterSnapshots, 24 * time.Hour},
		{&c.Keep, 7 * 24 * time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if c.Retries == 0 {
		c.Retries = 3
	}
	c.Hosts = slices.Clone(c.Hosts)
	for i := range c.Hosts {
		c.Hosts[i] = own.Host(c.Hosts[i])
	}
	c.Interceptors = slices.Clone(c.Interceptors)
	return c
}

func (c Config) validate() error {
	var problems []error
	say := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Registry == nil {
		say("Config.Registry is nil; make one with registry.New")
	}
	if c.Store == nil {
		say("Config.Store is nil; open one with boltstore.Open, or use store.Memory() where nothing needs to survive the process")
	}
	if !ownerPattern.MatchString(c.Owner) {
		say("Config.Owner %q is not a DNS label of at most 32 characters", c.Owner)
	}
	seen := map[string]bool{}
	for i, h := range c.Hosts {
		switch {
		case h.ID == "":
			say("Config.Hosts[%d] has no ID", i)
		case len(h.ID) > maxHostID || !utf8.ValidString(h.ID) || strings.ContainsFunc(h.ID, unicode.IsControl):
			say("Config.Hosts[%d]: an ID has at most %d bytes of UTF-8 and no control characters, unlike %.80q", i, maxHostID, h.ID)
		case seen[h.ID]:
			say("Config.Hosts: two hosts are called %q", h.ID)
		case h.MaxSandboxes < 0:
			say("Config.Hosts: %s: MaxSandboxes is %d; 0 is unlimited", h.ID, h.MaxSandboxes)
		}
		seen[h.ID] = true
	}
	for name, d := range map[string]time.Duration{
		"ReadyTimeout": c.ReadyTimeout, "CallTimeout": c.CallTimeout, "ProvisionTimeout": c.ProvisionTimeout, "TeardownTimeout": c.TeardownTimeout, "RecoverTimeout": c.RecoverTimeout,
		"ReapGrace": c.ReapGrace, "MeterSnapshots": c.MeterSnapshots, "Keep": c.Keep,
	} {
		if d < 0 {
			say("Config.%s is negative: %v", name, d)
		}
	}
	if c.DefaultTTL < 0 && c.DefaultTTL != sandboxer.NoTTL {
		say("Config.DefaultTTL is negative: %v; sandboxer.NoTTL is none", c.DefaultTTL)
	}
	return sandboxer.Refused(sandboxer.InvalidArgument, errors.Join(problems...))
}
