package composessh

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// config is the config section of a manifest.
type config struct {
	Root           string
	Policy         string
	Workspace      string
	StopGrace      time.Duration
	PublishAddress string
	SSHConfig      string
	KnownHosts     []string
	Agent          string

	policy policy.Policy
}

func decodeConfig(in sandboxer.Inputs) (config, error) {
	cfg := config{
		Root: ".local/state/sandboxer/compose", Workspace: "/workspace", StopGrace: 10 * time.Second, PublishAddress: "127.0.0.1",
	}
	if err := in.Decode(&cfg); err != nil {
		return cfg, err
	}
	bad := func(key, format string, args ...any) error {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("config %q "+format, append([]any{key}, args...)...))
	}
	var err error
	if cfg.policy, err = policy.Parse(cfg.Policy); err != nil {
		return cfg, fmt.Errorf("config %q: %w", "policy", err)
	}
	switch {
	case !safePath.MatchString(cfg.Root) || cfg.Root != path.Clean(cfg.Root) || strings.HasPrefix(cfg.Root, ".."):
		return cfg, bad("root", "is %q; give a directory of the hosts, absolute or below the login directory, of letters, digits and . _ - /", cfg.Root)
	case cfg.Root == "/" || cfg.Root == ".":
		return cfg, bad("root", "is %q; give a directory that holds nothing else", cfg.Root)
	case !path.IsAbs(cfg.Workspace) || cfg.Workspace != path.Clean(cfg.Workspace) || cfg.Workspace == "/" || strings.ContainsAny(cfg.Workspace, ":\x00\n"):
		return cfg, bad("workspace", "is %q; give an absolute path of a container, such as /workspace", cfg.Workspace)
	case cfg.StopGrace < 0 || cfg.StopGrace > time.Hour:
		return cfg, bad("stop_grace", "is %v; give up to 1h", cfg.StopGrace)
	}
	if _, err := netip.ParseAddr(cfg.PublishAddress); err != nil {
		return cfg, bad("publish_address", "is %q; give an IP address of the hosts' own, such as 127.0.0.1 or 0.0.0.0", cfg.PublishAddress)
	}
	return cfg, nil
}

var safePath = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,200}$`)

// loopbackOnly says that a published port can be reached from the host alone.
func (c *config) loopbackOnly() bool {
	a, err := netip.ParseAddr(c.PublishAddress)
	return err != nil || a.IsLoopback()
}

// grace is how long a container has to end, in whole seconds.
func (c *config) grace() string {
	return fmt.Sprint(int64((c.StopGrace + time.Second - 1) / time.Second))
}

// inputs are what a profile or a request may ask for.
type inputs struct {
	Repo          string
	Ref           string
	GitUser       string // whose token git_credential is
	GitCredential sandboxer.SecretRef
	KnownHosts    []string // of git servers that are reached over SSH
	Ignore        []string
	ComposeFile   string
	Service       string
	Env           map[string]string
	SecretEnv     map[string]sandboxer.SecretRef
	Profiles      []string
	SandboxID     sandboxer.ID // the Manager has taken it
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reserved are variables that mean something to Compose or to us.
func reserved(name string) bool {
	return strings.HasPrefix(name, "COMPOSE_") || strings.HasPrefix(name, "DOCKER_") || strings.HasPrefix(name, "SANDBOXER_") ||
		name == "PATH" || name == "HOME" || name == "LC_ALL"
}

func decodeInputs(in sandboxer.Inputs, id sandboxer.ID) (inputs, error) {
	var out inputs
	if err := in.Decode(&out); err != nil {
		return out, err
	}
	bad := func(key, format string, args ...any) (inputs, error) {
		return out, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("input %q "+format, append([]any{key}, args...)...))
	}
	if out.SandboxID != "" && id != "" && out.SandboxID != id {
		return bad("sandbox_id", "is %q, and the sandbox's ID is %q", out.SandboxID, id)
	}
	if f := out.ComposeFile; f != "" && (path.IsAbs(f) || path.Clean(f) != f || strings.HasPrefix(f, "..") || strings.ContainsAny(f, "\x00\n\\")) {
		return bad("compose_file", "is %q; give the path of a file in the repository, relative to it", f)
	}
	for name, value := range out.Env {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			return bad("env", "has %q, which is no variable", name)
		}
	}
	for name, ref := range out.SecretEnv {
		_, twice := out.Env[name]
		switch {
		case !envName.MatchString(name) || reserved(name):
			return bad("secret_env", "has %q, which cannot be set", name)
		case twice:
			return bad("secret_env", "has %q, which env has as well", name)
		case ref == "":
			return bad("secret_env", "has %q without the name of a secret; write where it is kept, as in %s: env:%s", name, name, name)
		}
	}
	return out, nil
}

func (c *config) trusts() bool { return c.policy == policy.Trusted }
