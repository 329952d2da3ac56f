package composessh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// How often a stack is looked at until it is ready: at once, then less and less often.
const (
	pollFirst = 40 * time.Millisecond
	pollLast  = 250 * time.Millisecond
)

// WaitReady waits until every service runs and every health check passes, the engine's or the same made sooner. A service that has ended, or turned unhealthy, is
// an error at once, with the last lines of its log; one that its restart policy starts again is waited for.
func (e *extension) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	return e.waitReady(ctx, t, false)
}

// waitReady waits. A stack that was held has missed health checks, and may come round.
func (e *extension) waitReady(ctx context.Context, t sandboxer.Target, held bool) (sandboxer.Reachability, error) {
	b, err := e.open(ctx, t)
	if err != nil {
		return sandboxer.Reachability{}, err
	}
	owner := t.Labels[sandboxer.LabelOwner]
	own := &checks{b: b, t: t, next: map[string]time.Time{}, wait: map[string]time.Duration{}}
	wait := pollFirst
	for {
		all, err := b.containers(ctx, b.name, owner)
		if err != nil {
			return sandboxer.Reachability{}, err
		}
		if err := own.make(ctx, all); err != nil {
			return sandboxer.Reachability{}, err
		}
		pending, failed, why := b.judge(all, held)
		if why != "" {
			return sandboxer.Reachability{}, b.notReady(ctx, t, failed, why)
		}
		if len(pending) == 0 {
			if err := b.hand(ctx, t, all); err != nil {
				return sandboxer.Reachability{}, err
			}
			return b.reachability(ctx, t, all)
		}
		sandboxer.Report(ctx, sandboxer.Progress{Stage: "wait", Done: int64(len(b.Services) - len(pending)), Total: int64(len(b.Services)), Unit: "services"})
		select {
		case <-ctx.Done():
			return sandboxer.Reachability{}, errors.Join(ended(ctx, "sandbox "+b.name+" on host "+b.conn.String()), fmt.Errorf("it still waits for: %s", strings.Join(pending, ", ")))
		case <-time.After(wait):
		}
		wait = min(wait*3/2, pollLast)
	}
}

// judge says which services are not ready yet, or why the stack never will be.
func (b *box) judge(all []container, held bool) (pending []string, failed *container, why string) {
	for _, service := range b.Services {
		own := of(all, service)
		if len(own) == 0 {
			return nil, nil, "service " + service + " has no container any more"
		}
		for i := range own {
			c := &own[i]
			ends := slices.Contains(b.OneShot, service)
			again := c.Restart != "" && c.Restart != "no"
			switch state := c.State.Status; {
			case state == "running" && ends:
				pending = append(pending, service+" (is to end by itself)")
			case state == "running" && c.health() == "unhealthy" && held:
				pending = append(pending, service+" (unhealthy)")
			case state == "running" && c.health() == "unhealthy":
				return nil, c, "service " + service + " is unhealthy"
			case state == "running" && c.health() == "starting":
				pending = append(pending, service+" (its health check has not passed yet)")
			case state == "running":
			case state == "exited" && ends && c.State.ExitCode == 0:
			case (state == "exited" || state == "dead") && !again:
				return nil, c, fmt.Sprintf("service %s ended with exit code %d%s", service, c.State.ExitCode, also(c.State.Error))
			default:
				pending = append(pending, fmt.Sprintf("%s (%s, started again %d times)", service, state, c.Restarts))
			}
		}
	}
	return pending, nil, ""
}

const handScript = `[ "$(stat -c %u:%g /w)" = "$1:$2" ] || chown -hR "$1:$2" /w`

// hand gives the workspace to the user that the main service's commands run as. Who the login on the host is, whom the files
// belonged to until now, means nothing in a container; where both are root there is nothing to give.
func (b *box) hand(ctx context.Context, t sandboxer.Target, all []container) error {
	main := of(all, b.Service)
	if b.ReadOnly || len(main) == 0 {
		return nil
	}
	var who owner
	if !slices.Contains([]string{"", "root", "0", "0:0"}, main[0].User) {
		var err error
		if who, err = b.ownerOf(ctx, t); err != nil {
			return err
		}
	}
	if who == (owner{}) && b.uid == 0 {
		return nil
	}
	files, err := b.files(ctx, t, false)
	if err != nil {
		return err
	}
	req := b.tool(files, handScript, strconv.Itoa(who.uid), strconv.Itoa(who.gid))
	errs := &lines{ctx: ctx, stage: "wait"}
	req.Stderr = errs
	res, err := b.conn.Exec(ctx, req)
	if err == nil && res.ExitCode != 0 {
		err = b.failed("giving the workspace to the service's user", []byte(errs.text()))
	}
	return err
}

func also(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// More than is shown is read, so that no secret is cut in two before it can be found.
const logsScript = `engine logs --tail 10 "$1" 2>&1 | tail -c 16000`

const shownLog = 2000

func (b *box) notReady(ctx context.Context, t sandboxer.Target, c *container, why string) error {
	text := ""
	if c != nil {
		if out, err := b.run(ctx, "reading its log", logsScript, c.ID); err == nil {
			if out = strings.TrimSpace(b.e.redacted(ctx, t, strings.ToValidUTF8(out, "�"))); out != "" {
				out = strings.ToValidUTF8(out[max(0, len(out)-shownLog):], "")
				text = "; the end of its log:\n" + out
			}
		}
	}
	return sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s on host %s: %s%s", b.name, b.conn, why, text))
}

// redacted takes the secrets that a stack was given out of a text that it wrote.
func (e *extension) redacted(ctx context.Context, t sandboxer.Target, text string) string {
	in, err := decodeInputs(t.Inputs, "")
	if err != nil || len(in.SecretEnv) == 0 {
		return text
	}
	var secrets []string
	for _, ref := range in.SecretEnv {
		if t.Secret == nil {
			return "(not shown, because it may hold secrets)"
		}
		s, err := t.Secret(ctx, ref)
		if err != nil {
			return "(not shown, because it may hold secrets)"
		}
		secrets = append(secrets, string(s.Reveal()))
	}
	return redact(text, secrets)
}

// redact takes secrets out of a text, also where each of its lines begins with something of the program that passes it on.
func redact(text string, secrets []string) string {
	var parts []string
	for _, s := range secrets {
		parts = append(parts, s)
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= 8 {
				parts = append(parts, line)
			}
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
	for _, p := range parts {
		if p != "" {
			text = strings.ReplaceAll(text, p, "[redacted]")
		}
	}
	return text
}

// reachability says how a ready sandbox is contacted.
func (b *box) reachability(ctx context.Context, t sandboxer.Target, all []container) (sandboxer.Reachability, error) {
	f, err := b.look(ctx, b.name)
	if err != nil {
		return sandboxer.Reachability{}, err
	}
	if f == nil || f.claim.Token != b.token {
		return sandboxer.Reachability{}, b.gone(b.name)
	}
	r := sandboxer.Reachability{
		SSH: sshURL(t.Host), RemoteDir: b.RemoteDir, Host: t.Host.ID, ComposeProject: b.name, ExpiresAt: f.claim.ExpiresAt,
	}
	for i := range all {
		for _, spec := range sorted(all[i].Ports) {
			port, protocol, _ := strings.Cut(spec, "/")
			n, err := strconv.Atoi(port)
			if err != nil || len(all[i].Ports[spec]) == 0 {
				continue
			}
			r.Endpoints = append(r.Endpoints, endpoint(all[i].Service, protocol, n, all[i].Ports[spec][0], t.Host))
		}
	}
	return r, nil
}

func sshURL(h sandboxer.Host) string {
	u := url.URL{Scheme: "ssh", Host: h.Address}
	if h.User != "" {
		u.User = url.User(h.User)
	}
	return u.String()
}

// endpoint is the address of a published port: the host's name where the port is published on all of its addresses.
func endpoint(service, protocol string, port int, at publication, h sandboxer.Host) sandboxer.Endpoint {
	ip := at.HostIP
	if ip == "0.0.0.0" || ip == "::" || ip == "" {
		ip = h.Address
		if name, _, err := net.SplitHostPort(h.Address); err == nil {
			ip = name
		}
	}
	u := url.URL{Scheme: protocol, Host: net.JoinHostPort(ip, at.HostPort)}
	return sandboxer.Endpoint{Name: service + ":" + strconv.Itoa(port), URL: u.String(), Port: port}
}
