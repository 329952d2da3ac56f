package composessh

import (
	"context"
	_ "embed" // for the script
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Find returns the handle of what a lost Provision or Restore made, also where it did not get to the end: WaitReady says so
// then. A request that was begun less than some seconds ago may still reach the host; later it is refused there.
func (e *extension) Find(ctx context.Context, req *sandboxer.ProvisionRequest, since time.Time) (sandboxer.Handle, error) {
	if err := checkName(req.Name); err != nil {
		return sandboxer.Handle{}, err
	}
	h, err := e.host(ctx, req.Host, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	f, err := h.look(ctx, req.Name)
	switch {
	case err != nil:
		return sandboxer.Handle{}, err
	case f == nil:
		if left := time.Until(since.Add(claimWindow + 2*time.Second)); left > 0 {
			return sandboxer.Handle{}, &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: left, Err: fmt.Errorf("a request to make %s may still be on its way to host %s", req.Name, h.conn)}
		}
		return sandboxer.Handle{}, h.gone(req.Name)
	case !f.claim.ours(req.Labels):
		return sandboxer.Handle{}, h.gone(req.Name)
	case f.removing:
		return sandboxer.Handle{}, &sandboxer.Error{Code: sandboxer.Unknown, RetryAfter: time.Second, Err: fmt.Errorf("sandbox %s on host %s is being removed", req.Name, h.conn)}
	}
	return req.Handle(stateVersion, state{Root: h.root, Token: f.claim.Token})
}

//go:embed scripts/list.sh
var listScript string

// List yields the sandboxes of this extension on a host: those that have a directory, and those of which only containers,
// networks or volumes are left.
func (e *extension) List(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Instance, error] {
	return func(yield func(sandboxer.Instance, error) bool) {
		h, err := e.host(ctx, q.Host, q.Secret)
		if err != nil {
			yield(sandboxer.Instance{}, err)
			return
		}
		out, err := h.run(ctx, "listing the sandboxes", watchStart+listScript, q.Labels[sandboxer.LabelOwner], watchText())
		if err != nil {
			yield(sandboxer.Instance{}, err)
			return
		}
		all, err := e.instances(h, q.Host, out)
		for _, in := range all {
			if matches(in.Labels, q.Labels) && !yield(in, nil) {
				return
			}
		}
		if err != nil {
			yield(sandboxer.Instance{}, err)
		}
	}
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// instances reads what list.sh prints. The error says that some of it could not be read.
func (e *extension) instances(h *host, on sandboxer.Host, text string) ([]sandboxer.Instance, error) {
	var out []sandboxer.Instance
	var failed error
	seen := map[string]bool{}
	paused, claims, rest := map[string]bool{}, []string{}, [][]string{}
	var current []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "sandbox":
			current = nil
		case line == "end" && len(current) == 0: // it went away meanwhile
		case line == "end":
			claims = append(claims, strings.Join(current, "\n"))
		case strings.HasPrefix(line, "thing\t"):
			var f []string // name, owner, id, extension, created, state
			if err := json.Unmarshal([]byte(line[len("thing\t"):]), &f); err != nil || len(f) != 6 {
				continue // no engine writes that
			}
			rest = append(rest, f)
			if f[5] == "paused" {
				paused[f[0]] = true
			}
		default:
			current = append(current, line)
		}
	}
	for _, text := range claims {
		f, err := parseFound(text)
		if err != nil {
			failed = fmt.Errorf("host %s: a claim: %w", h.conn, err)
			continue
		}
		seen[f.claim.Name] = true
		if f.claim.Extension != e.id {
			continue
		}
		in, err := h.instance(&f, paused[f.claim.Name])
		if err != nil {
			failed = err
			continue
		}
		out = append(out, in)
	}
	for _, f := range rest {
		if seen[f[0]] || f[3] != e.id {
			continue
		}
		seen[f[0]] = true
		if in, ok := remains(f, on); ok {
			out = append(out, in)
		}
	}
	return out, failed
}

// remains is a sandbox of which only parts are left; the labels of one of them say which.
func remains(f []string, on sandboxer.Host) (sandboxer.Instance, bool) {
	ref := sandboxer.HandleRef{ID: sandboxer.ID(f[2]), Attempt: 1, Extension: f[3], Host: on.ID}
	if n, ok := strings.CutPrefix(f[0], f[2]+"-"); ok {
		attempt, err := strconv.Atoi(n)
		if err != nil {
			return sandboxer.Instance{}, false
		}
		ref.Attempt = attempt
	}
	if ref.Name() != f[0] || ref.ID.Validate() != nil {
		return sandboxer.Instance{}, false
	}
	in := sandboxer.Instance{
		Handle: sandboxer.BareHandle(ref), State: sandboxer.StateUnknown,
		Labels: map[string]string{sandboxer.LabelID: f[2], sandboxer.LabelName: f[0], sandboxer.LabelOwner: f[1]},
	}
	// Engines write times in several ways; without one that can be read the reaper leaves it alone.
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 -0700 MST", "2006-01-02 15:04:05.999999999 -0700 MST"} {
		if at, err := time.Parse(layout, f[4]); err == nil {
			in.CreatedAt = at.UTC()
			break
		}
	}
	return in, true
}

func (h *host) instance(f *found, paused bool) (sandboxer.Instance, error) {
	handle, err := sandboxer.NewHandle(f.claim.ref(), stateVersion, state{Root: h.root, Token: f.claim.Token})
	if err != nil {
		return sandboxer.Instance{}, fmt.Errorf("host %s: claim on %s: %w", h.conn, f.claim.Name, err)
	}
	in := sandboxer.Instance{Handle: handle, State: sandboxer.StateReady, Labels: maps.Clone(f.claim.Labels), CreatedAt: f.claim.CreatedAt, ExpiresAt: f.claim.ExpiresAt}
	switch {
	case f.removing:
		in.State = sandboxer.StateTearingDown
	case f.stack == nil:
		in.State = sandboxer.StateProvisioning
	case paused:
		in.State = sandboxer.StatePaused
	}
	return in, nil
}

// Inspect looks one sandbox up.
func (e *extension) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	h, st, err := e.at(ctx, t.Host, t.Secret, t.Handle)
	if err != nil {
		return sandboxer.Instance{}, err
	}
	name := t.Handle.Ref().Name()
	f, err := h.look(ctx, name)
	switch {
	case err != nil:
		return sandboxer.Instance{}, err
	case f == nil || !f.claim.ours(t.Labels) || st.Token != "" && f.claim.Token != st.Token:
		e.remember(st.Token, nil)
		return sandboxer.Instance{}, h.gone(name)
	}
	all, err := h.containers(ctx, name, t.Labels[sandboxer.LabelOwner])
	if err != nil {
		return sandboxer.Instance{}, err
	}
	paused := slices.ContainsFunc(all, func(c container) bool { return c.State.Status == "paused" })
	return h.instance(f, paused)
}
