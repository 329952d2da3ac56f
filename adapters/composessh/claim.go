package composessh

import (
	"context"
	"crypto/rand"
	_ "embed" // for the script
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// claim says whose a name is on a host. It is written before anything else of the sandbox and goes after everything else.
type claim struct {
	V         int               `json:"v"`
	Name      string            `json:"name"`
	ID        sandboxer.ID      `json:"id"`
	Attempt   int               `json:"attempt"`
	Extension string            `json:"extension"`
	Host      string            `json:"host,omitempty"`
	Token     string            `json:"token"` // tells it from an earlier or later sandbox of the same name
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

const claimVersion = 1

func (c *claim) ref() sandboxer.HandleRef {
	return sandboxer.HandleRef{ID: c.ID, Attempt: c.Attempt, Extension: c.Extension, Host: c.Host}
}

func (c *claim) ours(labels map[string]string) bool {
	want := labels[sandboxer.LabelOwner]
	return want == "" || c.Labels[sandboxer.LabelOwner] == want
}

// state is what a handle holds.
type state struct {
	Root  string `json:"root"` // where the sandbox lies on its host, also when the configuration has changed
	Token string `json:"token"`
}

const stateVersion = 1

// stateOf reads a handle's state; the zero state for a bare handle.
func stateOf(h sandboxer.Handle) (state, error) {
	var st state
	if !h.HasState() {
		return st, nil
	}
	if h.StateVersion() > stateVersion {
		return st, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the handle of %s has state version %d; this release knows up to %d", h.Ref().Name(), h.StateVersion(), stateVersion))
	}
	if err := h.State(&st); err != nil {
		return st, err
	}
	if !safePath.MatchString(st.Root) || !strings.HasPrefix(st.Root, "/") || st.Token == "" {
		return st, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the handle of %s is not of this extension", h.Ref().Name()))
	}
	return st, nil
}

// found is what a host says of a sandbox.
type found struct {
	claim    *claim
	removing bool
	alone    bool   // the watch of its root does not run
	stack    *stack // nil: it is not complete
}

//go:embed scripts/claim.sh
var claimScript string

// claimWindow is how long a request to claim a name is good for on its host. Later, what is absent stays absent.
const claimWindow = 10 * time.Second

// claim takes the name for a request, or finds who has it. made reports that it is new.
func (h *host) claim(ctx context.Context, req *sandboxer.ProvisionRequest) (f found, made bool, err error) {
	c := &claim{
		V: claimVersion, Name: req.Name, ID: req.ID, Attempt: req.Attempt, Extension: req.Profile.Extension, Host: req.Host.ID,
		Token: strings.ToLower(rand.Text()), Labels: maps.Clone(req.Labels), CreatedAt: time.Now().UTC().Round(0), ExpiresAt: req.ExpiresAt.UTC().Round(0),
	}
	text, err := json.Marshal(c)
	if err != nil {
		return f, false, sandboxer.Refused(sandboxer.Internal, err)
	}
	latest := time.Now().Add(h.ahead + claimWindow).Unix()
	out, err := h.run(ctx, "claiming "+req.Name, watchStart+claimScript, req.Name, req.Labels[sandboxer.LabelOwner], string(text), strconv.FormatInt(latest, 10),
		seconds(req.ExpiresAt), watchText())
	if err != nil {
		return f, false, err
	}
	first, rest, _ := strings.Cut(out, "\n")
	switch first {
	case "late":
		h.forget() // perhaps its clock was set
		return f, false, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("host %s took more than %v to take a request, or its clock has jumped; try again", h.conn, claimWindow))
	case "fenced":
		return f, false, &sandboxer.Error{Code: sandboxer.Unavailable, NothingDone: true, RetryAfter: fenceTime,
			Err: fmt.Errorf("%s was torn down on host %s a moment ago; use another name, or try again in %v", req.Name, h.conn, fenceTime)}
	case "new":
		made = true
		_, rest, _ = strings.Cut(rest, "\n") // "have"
	}
	f, err = parseFound(rest)
	if err != nil {
		return f, false, fmt.Errorf("host %s: claim on %s: %w", h.conn, req.Name, err)
	}
	return f, made, nil
}

// seconds is how long from now until t, for a host whose clock may differ from ours; "" for no end.
func seconds(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(max(1, int64(time.Until(t)/time.Second)+1), 10)
}

// parseFound reads a claim, and then perhaps "removing" and the facts of a stack.
func parseFound(text string) (found, error) {
	var f found
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case line == "removing":
			f.removing = true
		case line == "unwatched":
			f.alone = true
		case f.claim == nil:
			c := new(claim)
			if err := json.Unmarshal([]byte(line), c); err != nil || c.V > claimVersion || c.V < 1 || c.Token == "" {
				return found{}, sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it cannot be read, so nobody knows whose sandbox it is; repair or remove it"))
			}
			f.claim = c
		default:
			s := new(stack)
			if err := json.Unmarshal([]byte(line), s); err != nil {
				return found{}, sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("what is noted of its stack cannot be read"))
			}
			f.stack = s
		}
	}
	if f.claim == nil {
		return found{}, sandboxer.Mark(sandboxer.Unknown, errors.New("the host did not say what it is"))
	}
	return f, nil
}

const lookScript = `
at=$ROOT/$1
[ -e "$at/claim.json" ] || { echo absent; exit 0; }
cat "$at/claim.json" || exit 1
[ ! -e "$at/removing" ] || echo removing
watched || echo unwatched
[ ! -e "$at/up" ] || cat "$at/up"
`

// look reads the claim on a name; nil where nobody has claimed it. After a restart of the host it starts the watch again.
func (h *host) look(ctx context.Context, name string) (*found, error) {
	out, err := h.run(ctx, "looking for "+name, lookScript, name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(out, "absent") {
		return nil, nil
	}
	f, err := parseFound(out)
	if err != nil {
		return nil, fmt.Errorf("host %s: claim on %s: %w", h.conn, name, err)
	}
	if f.alone {
		if _, err := h.run(ctx, "starting the watch", watchStart+`start_watch "$1"`, watchText()); err != nil {
			h.e.log.WarnContext(ctx, "the watch of a host does not run", "host", h.conn.String(), "error", err)
		}
	}
	return &f, nil
}

// box is a sandbox for one call.
type box struct {
	*host
	name  string
	token string
	*stack
}

// open finds a sandbox that is complete and ours. Where it was seen before, it asks nothing of the host.
func (e *extension) open(ctx context.Context, t sandboxer.Target) (*box, error) {
	h, st, err := e.at(ctx, t.Host, t.Secret, t.Handle)
	if err != nil {
		return nil, err
	}
	name := t.Handle.Ref().Name()
	b := &box{host: h, name: name, token: st.Token}
	if st.Token != "" {
		e.mu.Lock()
		b.stack = e.stacks[st.Token]
		e.mu.Unlock()
		if b.stack != nil {
			return b, nil
		}
	}
	f, err := h.look(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case f == nil || !f.claim.ours(t.Labels) || st.Token != "" && st.Token != f.claim.Token:
		return nil, h.gone(name)
	case f.removing:
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s on host %s is being removed", name, h.conn))
	case f.stack == nil:
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("sandbox %s on host %s was never completed; tear it down", name, h.conn))
	}
	b.stack, b.token = f.stack, f.claim.Token
	e.remember(b.token, b.stack)
	return b, nil
}

// at is the host of a handle, with the root that the handle names.
func (e *extension) at(ctx context.Context, on sandboxer.Host, secret sandboxer.SecretFunc, handle sandboxer.Handle) (*host, state, error) {
	st, err := stateOf(handle)
	if err != nil {
		return nil, st, err
	}
	if err := checkName(handle.Ref().Name()); err != nil {
		return nil, st, err
	}
	h, err := e.host(ctx, on, secret)
	if err != nil {
		return nil, st, err
	}
	if st.Root != "" && st.Root != h.root {
		p := *h.probe
		p.root = st.Root
		h.probe = &p
	}
	return h, st, nil
}

func checkName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\x00\n ") {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%q is no name of a sandbox", name))
	}
	return nil
}

func (h *host) gone(name string) error {
	return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no sandbox %s on host %s", name, h.conn))
}

func (e *extension) remember(token string, s *stack) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s == nil {
		delete(e.stacks, token)
		delete(e.owners, token)
		maps.DeleteFunc(e.ids, func(key, _ string) bool { return strings.HasPrefix(key, token+"/") })
		return
	}
	e.stacks[token] = s
}
