package local

import (
	"context"
	_ "embed" // for the manifest and the profile
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Handler is what a manifest's `handler:` names.
const Handler = "local"

//go:embed ext.local.yaml
var manifestYAML []byte

//go:embed profile.local.yaml
var profileYAML []byte

// Adapter registers the handler "local" with the manifest "ext.local" and the profile "profile.local". Its New is
// Unsupported on systems other than Linux and macOS, and InvalidArgument for a configuration that cannot be used.
func Adapter() sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler:  Handler,
		Manifest: append([]byte(nil), manifestYAML...),
		Profiles: [][]byte{append([]byte(nil), profileYAML...)},
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			var c config
			if err := s.Config.Decode(&c); err != nil {
				return nil, err
			}
			if err := c.complete(); err != nil {
				return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("config of %s: %w", s.ExtensionID, err))
			}
			return newExtension(s, c)
		},
	}
}

// config is the config section of a manifest.
type config struct {
	Root    string
	Path    string
	KeepEnv []string
}

// usualPath is where programs are when nothing says otherwise.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (c *config) complete() error {
	if c.Root == "" {
		state, err := stateDir()
		if err != nil {
			return err
		}
		c.Root = filepath.Join(state, "sandboxer", "local")
	}
	if !filepath.IsAbs(c.Root) || strings.ContainsRune(c.Root, 0) {
		return fmt.Errorf("root %q is not an absolute path, and would be another place after every change of directory", c.Root)
	}
	c.Root = filepath.Clean(c.Root)
	if c.Path == "" {
		c.Path = os.Getenv("PATH")
	}
	if c.Path == "" {
		c.Path = usualPath
	}
	for _, k := range c.KeepEnv {
		if err := checkVariable(k, ""); err != nil {
			return fmt.Errorf("keep_env: %w", err)
		}
	}
	return nil
}

// stateDir is where a user's programs keep what should outlast a restart and is no configuration
// (https://specifications.freedesktop.org/basedir-spec/, read 2026-11; on macOS the system's counterpart).
func stateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return d, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("root is not set, and without a home directory it has no default; set root")
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support"), nil
	}
	return filepath.Join(home, ".local", "state"), nil
}

// The variables by which processes are found.
const (
	envSandbox = "SANDBOXER_SANDBOX"
	envExec    = "SANDBOXER_EXEC"
)

// checkVariable says why a command cannot be given this variable. It quotes no value: it might be meant to be secret.
func checkVariable(name, value string) error {
	switch {
	case name == "":
		return errors.New("a variable has no name")
	case strings.ContainsAny(name, "=\x00"):
		return fmt.Errorf("the name of variable %q contains '=' or NUL", name)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of variable %q contains NUL", name)
	case name == envSandbox, name == envExec:
		return fmt.Errorf("variable %q is the adapter's own, to find processes by", name)
	}
	return nil
}
