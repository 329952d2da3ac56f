package sshx

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// OptionJump is the entry of Host.Options that names jump hosts: "[user@]host[:port]", several with commas, in the order
// in which they are passed. It takes the place of ProxyJump in the SSH configuration; "none" passes none.
const OptionJump = "jump"

const maxJumps = 8

// hop is one server on the way, the target last.
type hop struct {
	address string // host:port to connect to
	user    string
	keys    *hostKeys
	cred    credential
}

func (h *hop) String() string { return h.user + "@" + h.address }

// resolve finds the way to a host: what the Host says, then the SSH configuration for its address as an alias, then
// OpenSSH's defaults.
func (p *Pool) resolve(ctx context.Context, host sandboxer.Host, secret sandboxer.SecretFunc) ([]*hop, error) {
	if host.Address == "" {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host %q has no address", host.ID))
	}
	conf, err := p.readSSHConfig()
	if err != nil {
		return nil, err
	}
	var credentialValue sandboxer.Secret
	if host.Credential != "" {
		if secret == nil {
			return nil, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("host %q names the credential %s, but there is no source of secrets", host.ID, host.Credential))
		}
		if credentialValue, err = secret(ctx, host.Credential); err != nil {
			return nil, err
		}
	}
	target, proxy, err := p.hop(conf, host.Address, host.User, host.HostKeys, credentialValue)
	if err != nil {
		return nil, err
	}
	if value, ok := host.Options[OptionJump]; ok {
		if proxy, ok = value.(string); !ok {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host %q: option %s is a %T; write [user@]host[:port]", host.ID, OptionJump, value))
		}
	}
	way := []*hop{target}
	for depth := 0; proxy != "" && !strings.EqualFold(proxy, "none"); depth++ {
		if depth == maxJumps {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("more than %d jump hosts before %s", maxJumps, host.Address))
		}
		specs := strings.Split(proxy, ",")
		proxy = ""
		for i := len(specs) - 1; i >= 0; i-- {
			user, address := splitUser(strings.TrimPrefix(strings.TrimSpace(specs[i]), "ssh://"))
			// The credential was given for the host; it is what its jump hosts are asked with too, before the user's own.
			via, next, err := p.hop(conf, address, user, nil, credentialValue)
			if err != nil {
				return nil, fmt.Errorf("jump host: %w", err)
			}
			way = append([]*hop{via}, way...)
			if i == 0 {
				proxy = next // the first of them may itself be reached through another
			}
		}
	}
	return way, nil
}

// hop resolves one server, and returns what its configuration says about jump hosts.
func (p *Pool) hop(conf *sshConfig, address, user string, keys []string, secret sandboxer.Secret) (*hop, string, error) {
	alias, port, err := splitAddress(address)
	if err != nil {
		return nil, "", err
	}
	o, err := conf.options(alias)
	if err != nil {
		return nil, "", err
	}
	if user == "" {
		user = first(o.user, p.localUser())
	}
	port = first(port, o.port, "22")
	name := first(strings.NewReplacer("%h", alias, "%%", "%").Replace(o.hostName), alias)
	lookup := net.JoinHostPort(name, port)
	if o.hostKeyAlias != "" {
		lookup = net.JoinHostPort(o.hostKeyAlias, "22")
	}
	known := p.cfg.KnownHosts
	if len(known) == 0 {
		known = append(append([]string(nil), o.userKnownHosts...), o.globalKnownHosts...)
	}
	hk, err := readHostKeys(keys, lookup, known)
	if err != nil {
		return nil, "", err
	}
	expand := strings.NewReplacer("%h", name, "%n", alias, "%p", port, "%r", user, "%u", p.localUser(), "%d", p.home(), "%%", "%")
	h := &hop{address: net.JoinHostPort(name, port), user: user, keys: hk, cred: credential{secret: secret}}
	if len(secret.Reveal()) == 0 {
		for _, f := range o.identityFiles {
			h.cred.identityFiles = append(h.cred.identityFiles, p.tilde(expand.Replace(f)))
		}
		for _, f := range o.certFiles {
			h.cred.certFiles = append(h.cred.certFiles, p.tilde(expand.Replace(f)))
		}
		h.cred.wantFiles = len(o.identityFiles) > 0
		if len(o.identityFiles) == 0 {
			for _, f := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
				h.cred.identityFiles = append(h.cred.identityFiles, p.tilde("~/.ssh/"+f))
			}
		}
		if !o.identitiesOnly {
			h.cred.agentSocket = p.agentSocket(p.tilde(expand.Replace(o.identityAgent)))
		}
	}
	return h, o.proxyJump, nil
}

// agentSocket is where the agent listens: what the Pool's Config says, then the SSH configuration, then SSH_AUTH_SOCK.
func (p *Pool) agentSocket(configured string) string {
	switch {
	case p.cfg.Agent == none, p.cfg.Agent == "" && strings.EqualFold(configured, none):
		return ""
	case p.cfg.Agent != "":
		return p.cfg.Agent
	case configured == "" || configured == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(configured, "$"):
		return os.Getenv(strings.Trim(configured, "${}"))
	}
	return configured
}

func splitUser(s string) (user, address string) {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}

// splitAddress takes "host", "host:port", an IPv6 address, or one in brackets with or without a port.
func splitAddress(s string) (host, port string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("host address %q %s; write host or host:port", s, why))
	}
	switch {
	case strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "["):
		host = s
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.Contains(s, ":"):
		if host, port, err = net.SplitHostPort(s); err != nil {
			return bad("cannot be read")
		}
		if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
			return bad("has no valid port")
		}
	default:
		host = s
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/\\'\"@") || strings.HasPrefix(host, "-") {
		return bad("has no valid host name")
	}
	return host, port, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
