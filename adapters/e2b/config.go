package e2b

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

type config struct {
	APIKey      sandboxer.SecretRef `json:"api_key"`
	Domain      string              `json:"domain"`
	APIURL      string              `json:"api_url"`
	SandboxURL  string              `json:"sandbox_url"`
	PortURL     string              `json:"port_url"`
	MaxLifetime time.Duration       `json:"max_lifetime"`
	Settle      time.Duration       `json:"settle"`
}

// settleDefault is how long after a create began E2B may be working on it: it is sent within sendWindow, and 70 s of work
// after the connection was lost were seen in August 2026.
const settleDefault = 2 * time.Minute

func decodeConfig(in sandboxer.Inputs) (config, error) {
	cfg := config{Domain: "e2b.app", PortURL: "https://{port}-{id}.{domain}", Settle: settleDefault}
	if err := in.Decode(&cfg); err != nil {
		return cfg, err
	}
	if cfg.APIURL == "" {
		cfg.APIURL = "https://api." + cfg.Domain
	}
	bad := func(key, format string, args ...any) error {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("config %q "+format, append([]any{key}, args...)...))
	}
	switch {
	case cfg.APIKey == "":
		return cfg, bad("api_key", "is missing; name where the key is kept, as in api_key: env:E2B_API_KEY")
	case looksLikeKey(string(cfg.APIKey)):
		return cfg, bad("api_key", "seems to hold the key itself; write where it is kept (env:E2B_API_KEY), and make a new key, since this one was written down")
	case !hostName.MatchString(cfg.Domain):
		return cfg, bad("domain", "is %q, which is no host name", cfg.Domain)
	case cfg.MaxLifetime < 0:
		return cfg, bad("max_lifetime", "is negative")
	case cfg.Settle < 0:
		return cfg, bad("settle", "is negative")
	case !strings.Contains(cfg.PortURL, "{port}") || !strings.Contains(cfg.PortURL, "{id}"):
		return cfg, bad("port_url", "must contain {id} and {port}")
	}
	for key, u := range map[string]*string{"api_url": &cfg.APIURL, "sandbox_url": &cfg.SandboxURL} {
		if *u == "" {
			continue
		}
		if why := urlProblem(*u); why != "" {
			return cfg, bad(key, "%s", why)
		}
		*u = strings.TrimRight(*u, "/")
	}
	return cfg, nil
}

var (
	hostName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	keyShaped = regexp.MustCompile(`e2b_[0-9A-Za-z]{16,}`)
)

func looksLikeKey(s string) bool { return keyShaped.MatchString(s) }

// urlProblem says why keys cannot be sent to u, or "". In clear they go to this machine only.
func urlProblem(u string) string {
	p, err := url.Parse(u)
	switch {
	case err != nil || p.Host == "" || p.User != nil || p.RawQuery != "" || p.Fragment != "":
		return "is no plain URL; write it as https://api.example.com"
	case p.Scheme == "https":
		return ""
	case p.Scheme != "http":
		return fmt.Sprintf("has the scheme %q; use https", p.Scheme)
	}
	if ip := net.ParseIP(p.Hostname()); (ip != nil && ip.IsLoopback()) || p.Hostname() == "localhost" {
		return ""
	}
	return "would send keys in clear; use https"
}

// inputs are what a profile or a request may ask for.
type inputs struct {
	Template      string            `json:"template"`
	Workdir       string            `json:"workdir"`
	User          string            `json:"user"`
	Env           map[string]string `json:"env"`
	AllowInternet *bool             `json:"allow_internet"`
	AllowOut      []string          `json:"allow_out"`
	DenyOut       []string          `json:"deny_out"`
	PublicPorts   *bool             `json:"public_ports"`
}

var (
	templateName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$`)
	userName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func decodeInputs(in sandboxer.Inputs) (inputs, error) {
	out := inputs{Template: "base"}
	if err := in.Decode(&out); err != nil {
		return out, err
	}
	bad := func(format string, args ...any) (inputs, error) {
		return out, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
	}
	if !templateName.MatchString(out.Template) {
		return bad("input \"template\" is %q, which is no name of a template", out.Template)
	}
	if out.Workdir != "" && (!path.IsAbs(out.Workdir) || strings.ContainsRune(out.Workdir, 0)) {
		return bad("input \"workdir\" is %q; give an absolute path", out.Workdir)
	}
	if out.User != "" && !userName.MatchString(out.User) {
		return bad("input \"user\" is %q, which is no user name", out.User)
	}
	for name, value := range out.Env {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			return bad("input \"env\": %q is no variable that a process can have", name)
		}
		if looksLikeKey(value) {
			return bad("input \"env\": %s seems to hold a key; inputs are stored, so keys do not belong there", name)
		}
	}
	return out, nil
}

// Preflight checks the inputs, and that there is a key that can be sent. It asks nothing of E2B: whether the key is valid
// is told by the create itself, which is refused then.
func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if _, err := decodeInputs(req.Inputs); err != nil {
		return err
	}
	_, err := e.api.key(ctx, req.Secret)
	return err
}

// key fetches the key and makes sure that it fits a header.
func (c *client) key(ctx context.Context, secret sandboxer.SecretFunc) (sandboxer.Secret, error) {
	if secret == nil {
		return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("no key under %q: no source of keys is configured", c.ref))
	}
	s, err := secret(ctx, c.ref)
	if err != nil {
		if sandboxer.CodeOf(err) == sandboxer.Unknown {
			err = sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("no key under %q: %w", c.ref, err))
		}
		return s, err
	}
	value := s.Reveal()
	if len(value) == 0 {
		return s, sandboxer.Refused(sandboxer.Unauthenticated, fmt.Errorf("the key under %q is empty", c.ref))
	}
	for _, b := range value {
		if b <= ' ' || b >= 0x7f {
			return s, sandboxer.Refused(sandboxer.Unauthenticated, errors.New("the key under \""+string(c.ref)+"\" contains a space or a control character; it was probably pasted wrongly"))
		}
	}
	return s, nil
}
