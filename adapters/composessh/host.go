package composessh

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// host is a host for one call: the way to it, and what is known of it.
type host struct {
	e    *extension
	conn *sshx.Conn
	key  string
	env  map[string]string
	opts hostOptions
	*probe
}

// hostOptions are Host.Options.
type hostOptions struct {
	Jump       string // sshx reads it
	DockerHost string // of the engine, as unix:///run/user/1000/docker.sock; Defaults to what the login says
	Peer       string // how other hosts reach it, as "user@host:port"; Defaults to not at all
}

// probe is what a host has.
type probe struct {
	root    string // absolute
	engine  string
	version string
	compose string
	uid     int // of the login
	zstd    bool
	git     bool
	buildx  bool
	dirs    []string      // of programs and libraries, and what they need to find each other
	ahead   time.Duration // of the host's clock
}

func (e *extension) host(ctx context.Context, h sandboxer.Host, secret sandboxer.SecretFunc) (*host, error) {
	var opts hostOptions
	if err := h.Options.Decode(&opts); err != nil {
		return nil, fmt.Errorf("options of host %s: %w", h.ID, err)
	}
	if opts.Peer != "" {
		if _, err := parsePeer(opts.Peer); err != nil {
			return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("options of host %s: peer %w", h.ID, err))
		}
	}
	conn, err := e.pool.Host(ctx, h, secret)
	if err != nil {
		return nil, err
	}
	out := &host{e: e, conn: conn, opts: opts, env: map[string]string{}}
	if opts.DockerHost != "" {
		out.env["DOCKER_HOST"] = opts.DockerHost
	}
	out.key = strings.Join([]string{h.ID, h.Address, h.User, opts.Jump, opts.DockerHost}, "\x00")
	e.mu.Lock()
	out.probe = e.probes[out.key]
	e.mu.Unlock()
	if out.probe != nil {
		return out, nil
	}
	// One question for all who ask at once; each waits no longer than its own context.
	answer := e.asking.DoChan("probe "+out.key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		p, err := out.ask(ctx)
		if err == nil {
			e.mu.Lock()
			e.probes[out.key] = p
			e.mu.Unlock()
		}
		return p, err
	})
	select {
	case r := <-answer:
		if r.Err != nil {
			return nil, r.Err
		}
		out.probe = r.Val.(*probe)
		return out, nil
	case <-ctx.Done():
		return nil, ended(ctx, "asking what host "+conn.String()+" has")
	}
}

// forget makes the next call ask the host again what it has.
func (h *host) forget() {
	h.e.mu.Lock()
	defer h.e.mu.Unlock()
	delete(h.e.probes, h.key)
}

func ended(ctx context.Context, doing string) error {
	code := sandboxer.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = sandboxer.DeadlineExceeded
	}
	return sandboxer.Mark(code, fmt.Errorf("%s: %w", doing, context.Cause(ctx)))
}

// Both were tried, podman 4.3 with its own Compose, and with Docker's behind its socket; see decision 0012.
const (
	whyNotPodman        = "which is not driven: podman 4.3 names the volumes of other sandboxes when it is asked for those of one, so that a teardown would remove them, and later ones are not proven"
	whyNotPodmanCompose = "which does not wait for the health of what a service depends on, leaves out limits, succeeds where a service could not be started, " +
		"and shows what services have as environment in listings of processes"
)

//go:embed scripts/probe.sh
var probeScript string

// ask finds out what the host has, and refuses one that lacks something.
func (h *host) ask(ctx context.Context) (*probe, error) {
	before := time.Now()
	out, err := h.conn.Small(ctx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", probeScript, "sandboxer", h.e.cfg.Root}, Env: h.env,
	})
	if err != nil {
		return nil, err
	}
	p := &probe{uid: -1} // nobody's, unless it says whose
	var refused, missing []string
	var podman, podmanCompose string
	for line := range strings.Lines(string(out.Stdout)) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch name {
		case "root":
			p.root = value
		case "engine":
			p.engine = value
		case "version":
			p.version = value
		case "compose":
			p.compose = value
		case "uid":
			if n, err := strconv.Atoi(value); err == nil {
				p.uid = n
			}
		case "now":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				p.ahead = time.Unix(n, 0).Sub(before)
			}
		case "refused":
			refused = append(refused, value)
		case "podman":
			podman = value
		case "podman-compose":
			podmanCompose = "podman-compose " + value
		case "missing":
			missing = append(missing, value)
		case "dir":
			p.dirs = append(p.dirs, value)
		case "has":
			p.zstd, p.git, p.buildx = p.zstd || value == "zstd", p.git || value == "git", p.buildx || value == "buildx"
		}
	}
	lacks := func(code sandboxer.Code, format string, args ...any) error {
		return sandboxer.Refused(code, fmt.Errorf("host %s: "+format, append([]any{h.conn.String()}, args...)...))
	}
	switch {
	case out.ExitCode != 0 || !strings.HasPrefix(p.root, "/"):
		return nil, lacks(sandboxer.FailedPrecondition, "its login shell cannot say what it has: %s", said(out.Stderr))
	case p.engine == "" && len(refused) > 0:
		return nil, lacks(engineCode(refused[0]), "its engine does not answer: %s", strings.Join(refused, "; "))
	case p.engine == "" && podman != "":
		return nil, lacks(sandboxer.FailedPrecondition, "its engine is %s, %s; install Docker Engine with the Compose plugin", podman, whyNotPodman)
	case p.engine == "":
		return nil, lacks(sandboxer.FailedPrecondition, "it has no docker on its PATH; install Docker Engine with the Compose plugin")
	case p.compose == "" && podmanCompose != "":
		return nil, lacks(sandboxer.FailedPrecondition, "its Compose is %s, %s; install the package docker-compose-plugin or docker-compose-v2", podmanCompose, whyNotPodmanCompose)
	case p.compose == "":
		return nil, lacks(sandboxer.FailedPrecondition,
			"%s %s is there, and no Compose: neither `%s compose` (the plugin, v2 or newer) nor docker-compose (v2 or newer); install the package docker-compose-plugin or docker-compose-v2",
			p.engine, p.version, p.engine)
	case len(missing) > 0:
		return nil, lacks(sandboxer.FailedPrecondition, "it lacks %s; install util-linux, tar, findutils and coreutils", strings.Join(missing, ", "))
	}
	return p, nil
}

// engineCode reads why an engine's command failed.
func engineCode(text string) sandboxer.Code {
	low := strings.ToLower(text)
	switch {
	case strings.Contains(low, "permission denied"):
		return sandboxer.PermissionDenied
	case strings.Contains(low, "no space left"), strings.Contains(low, "too many open files"), strings.Contains(low, "cannot allocate memory"),
		strings.Contains(low, "all predefined address pools have been fully subnetted"):
		return sandboxer.ResourceExhausted
	case strings.Contains(low, "cannot connect to the docker daemon"), strings.Contains(low, "connection refused"), strings.Contains(low, "is the docker daemon running"):
		return sandboxer.Unavailable
	}
	return sandboxer.Unknown
}

// said is the last of what a program wrote to standard error, for a message.
func said(stderr []byte) string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(stderr), "�"))
	lines := strings.Split(text, "\n")
	if len(lines) > 4 {
		lines = lines[len(lines)-4:]
	}
	text = strings.Join(lines, "; ")
	if len(text) > 600 {
		text = "…" + strings.ToValidUTF8(text[len(text)-600:], "")
	}
	if text == "" {
		return "it said nothing"
	}
	return text
}

//go:embed scripts/lib.sh
var libScript string

//go:embed scripts/watch_start.sh
var watchStart string

//go:embed scripts/remove_lib.sh
var removeLib string

//go:embed scripts/watch.sh
var watchLoop string

//go:embed scripts/kill.sh
var killScript string

// watchText is what runs on a host as long as a sandbox lives there.
func watchText() string {
	kill, err := sshx.Quote(killScript)
	if err != nil {
		panic(err) // it is a constant of this package
	}
	return libScript + removeLib + "KILLER=" + kill + "\n" + watchLoop
}

// script is a call of one of our scripts.
func (h *host) script(text string, args ...string) sandboxer.ExecRequest {
	return sandboxer.ExecRequest{
		Command: append([]string{"sh", "-c", libScript + text, "sandboxer", h.root, h.engine}, args...), Env: maps.Clone(h.env),
	}
}

// run runs a short script and fails unless it exits with 0.
func (h *host) run(ctx context.Context, what, text string, args ...string) (string, error) {
	out, err := h.conn.Small(ctx, h.script(text, args...))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if out.ExitCode != 0 {
		return string(out.Stdout), h.failed(what, out.Stderr)
	}
	return string(out.Stdout), nil
}

// failed is the error for a script that exited with an error.
func (h *host) failed(what string, stderr []byte) error {
	h.forget() // perhaps the host is no longer what it was
	return sandboxer.Mark(engineCode(string(stderr)), fmt.Errorf("host %s: %s: %s", h.conn, what, said(stderr)))
}
