package sshx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"

	"github.com/sand-boxer/sandboxer"
)

const (
	none          = "none"
	systemConfig  = "/etc/ssh/ssh_config"
	systemKnown   = "/etc/ssh/ssh_known_hosts"
	userKnownFile = "~/.ssh/known_hosts"
)

// sshConfig is the user's SSH configuration: the files in the order in which they are asked.
type sshConfig struct {
	pool  *Pool
	files []configFile
}

type configFile struct {
	name   string
	parsed *ssh_config.Config
}

// options is what the configuration says about one alias. StrictHostKeyChecking is not among it: keys are always checked.
type options struct {
	hostName, user, port, hostKeyAlias string
	proxyJump, identityAgent           string
	identityFiles, certFiles           []string
	identitiesOnly                     bool
	userKnownHosts, globalKnownHosts   []string
}

func (p *Pool) readSSHConfig() (*sshConfig, error) {
	conf := &sshConfig{pool: p}
	names := []string{p.tilde("~/.ssh/config"), systemConfig}
	switch p.cfg.SSHConfig {
	case "":
	case none:
		return conf, nil
	default:
		names = []string{p.cfg.SSHConfig}
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && p.cfg.SSHConfig == "" {
			continue
		}
		var parsed *ssh_config.Config
		if err == nil {
			parsed, err = ssh_config.DecodeBytes(text)
		}
		if err != nil {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(
				"SSH configuration %s: %w; correct it, name another file, or give the host's address, user and keys in full and read no file (%q)", name, err, none))
		}
		conf.files = append(conf.files, configFile{name, parsed})
	}
	return conf, nil
}

// options collects what is said about alias; of several values the first counts, as in OpenSSH.
func (c *sshConfig) options(alias string) (options, error) {
	var failed error
	all := func(key string) []string {
		var out []string
		for _, f := range c.files {
			values, err := f.parsed.GetAll(alias, key)
			if err != nil && failed == nil {
				failed = sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("SSH configuration %s: %s of %s: %w", f.name, key, alias, err))
			}
			for _, v := range values {
				out = append(out, strings.Trim(v, `"`))
			}
		}
		return out
	}
	one := func(key string) string { return first(append(all(key), "")...) }
	o := options{
		hostName: one("HostName"), user: one("User"), port: one("Port"), hostKeyAlias: one("HostKeyAlias"),
		proxyJump: one("ProxyJump"), identityAgent: one("IdentityAgent"),
		identityFiles: all("IdentityFile"), certFiles: all("CertificateFile"),
		identitiesOnly: strings.EqualFold(one("IdentitiesOnly"), "yes"),
	}
	if command := one("ProxyCommand"); command != "" && !strings.EqualFold(command, none) && o.proxyJump == "" {
		return o, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("the SSH configuration has a ProxyCommand for %s, which is not run here; use ProxyJump", alias))
	}
	for _, f := range strings.Fields(first(one("UserKnownHostsFile"), userKnownFile)) {
		o.userKnownHosts = append(o.userKnownHosts, c.pool.tilde(f))
	}
	o.globalKnownHosts = strings.Fields(first(one("GlobalKnownHostsFile"), systemKnown))
	return o, failed
}

func (p *Pool) home() string {
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	return "."
}

// tilde replaces "~/" at the beginning by the home directory.
func (p *Pool) tilde(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return filepath.Join(p.home(), filepath.FromSlash(rest))
	}
	return name
}

// localUser is the name of the user who runs this program, without a Windows domain.
func (p *Pool) localUser() string {
	u, err := user.Current()
	if err != nil {
		return first(os.Getenv("USER"), os.Getenv("USERNAME"), "root")
	}
	return u.Username[strings.LastIndexByte(u.Username, '\\')+1:]
}
