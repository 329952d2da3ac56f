package composessh

import (
	"context"
	_ "embed" // for the script
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// container is what an engine says of one.
type container struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Service string `json:"service"`
	Number  string `json:"number"` // of the service's containers
	State   struct {
		Status   string
		ExitCode int
		Error    string
		Health   *struct{ Status string }
	} `json:"state"`
	Restarts int                      `json:"restarts"`
	Restart  string                   `json:"restart"` // the policy
	Ports    map[string][]publication `json:"ports"`   // "80/tcp"
	Networks map[string]struct {
		IPAddress         string
		GlobalIPv6Address string
	} `json:"networks"`
	User  string       `json:"user"`
	Check *healthcheck `json:"check"`
	Shell []string     `json:"shell"` // of its image, for checks
}

// containerID is what an engine calls a container; a name would mean others, now and then.
var containerID = regexp.MustCompile(`^[0-9a-f]{12,64}$`)

type publication struct{ HostIP, HostPort string }

func (c *container) health() string {
	if c.State.Health == nil || c.State.Health.Status == "none" {
		return ""
	}
	return c.State.Health.Status
}

//go:embed scripts/inspect.sh
var inspectScript string

// containers asks the engine for the containers of a sandbox, in the order of their services and numbers.
func (h *host) containers(ctx context.Context, name, owner string) ([]container, error) {
	out, err := h.run(ctx, "looking at the containers of "+name, inspectScript, name, owner)
	if err != nil {
		return nil, err
	}
	var all []container
	for line := range strings.Lines(out) {
		var c container
		err := json.Unmarshal([]byte(line), &c)
		if err == nil && !containerID.MatchString(c.ID) {
			err = fmt.Errorf("%q is no ID", c.ID)
		}
		if err != nil {
			return nil, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("host %s: the engine's word on a container of %s cannot be read: %w", h.conn, name, err))
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b container) int {
		if a.Service != b.Service {
			return strings.Compare(a.Service, b.Service)
		}
		x, _ := strconv.Atoi(a.Number) // a strange one comes first
		y, _ := strconv.Atoi(b.Number)
		return x - y
	})
	return all, nil
}

// of are the containers of one service.
func of(all []container, service string) []container {
	var out []container
	for _, c := range all {
		if c.Service == service {
			out = append(out, c)
		}
	}
	return out
}

// container is the ID of the first container of a service. A look is spared where cached is allowed and one was seen before.
func (b *box) container(ctx context.Context, t sandboxer.Target, service string, anew bool) (string, error) {
	key := b.token + "/" + service
	if !anew {
		b.e.mu.Lock()
		id := b.e.ids[key]
		b.e.mu.Unlock()
		if id != "" {
			return id, nil
		}
	}
	all, err := b.containers(ctx, b.name, t.Labels[sandboxer.LabelOwner])
	if err != nil {
		return "", err
	}
	own := of(all, service)
	if len(own) == 0 {
		if f, err := b.look(ctx, b.name); err != nil || f == nil || f.claim.Token != b.token {
			b.e.remember(b.token, nil)
			return "", errors.Join(err, b.gone(b.name))
		}
		return "", sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s on host %s: service %s has no container any more", b.name, b.conn, service))
	}
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	for _, c := range all {
		b.e.ids[b.token+"/"+c.Service] = first(of(all, c.Service)).ID
	}
	return own[0].ID, nil
}

func first(all []container) container { return all[0] }
