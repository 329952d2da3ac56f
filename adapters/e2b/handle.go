package e2b

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const stateVersion = 1

// state is what a handle holds. All of it but E2B's ID is also stamped on the sandbox, so that a handle that is found again
// equals the one that was made. The access token of a sandbox is a secret and is asked for again when needed.
type state struct {
	Sandbox string `json:"sandbox"` // E2B's ID
	purchase
}

// purchase is what was bought.
type purchase struct {
	Key     string    `json:"key,omitempty"`        // version of the key that bought it
	Created time.Time `json:"created,omitzero"`     // when it was asked for
	Timeout int64     `json:"timeout,omitempty"`    // seconds until E2B ends it by itself, as granted at creation
	CPU     int64     `json:"cpu_millis,omitempty"` // as the profile says
	Memory  int64     `json:"memory,omitempty"`     // bytes, as the profile says
}

func (p purchase) deadline() time.Time {
	if p.Timeout == 0 {
		return time.Time{}
	}
	return p.Created.Add(time.Duration(p.Timeout) * time.Second)
}

// sandboxID is what an ID of E2B looks like. It becomes part of paths and host names, and comes from the network.
var sandboxID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,99}$`)

// stateOf reads the handle of t. FailedPrecondition where there is none, or where a newer release wrote it.
func stateOf(t sandboxer.Target) (state, error) {
	var s state
	switch {
	case t.Handle.IsZero():
		return s, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("the target has no handle"))
	case t.Handle.StateVersion() > stateVersion:
		return s, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("the handle of %s is of version %d, written by a newer release; this one reads up to %d: upgrade", t.Handle.Ref().Name(), t.Handle.StateVersion(), stateVersion))
	}
	if err := t.Handle.State(&s); err != nil {
		return s, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if !sandboxID.MatchString(s.Sandbox) {
		return s, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the handle of %s names no sandbox of E2B", t.Handle.Ref().Name()))
	}
	return s, nil
}

// Metadata of our own, beside the labels that are stamped.
const (
	labelExtension = sandboxer.ReservedLabelPrefix + "extension" // tells apart extensions that share a team and a handler
	labelPurchase  = sandboxer.ReservedLabelPrefix + "e2b"       // a purchase, as JSON
)

// metadata is what is stamped on a sandbox at E2B. Everybody in the team can read it.
func (e *extension) metadata(labels map[string]string, p purchase) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[labelExtension], out[labelPurchase] = e.id, string(compactJSON(p))
	return out
}

// labelsOf returns the labels that were stamped with the metadata.
func labelsOf(metadata map[string]string) map[string]string {
	out := maps.Clone(metadata)
	delete(out, labelExtension)
	delete(out, labelPurchase)
	return out
}

// compactJSON encodes values that always encode.
func compactJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// attemptOf finds the number of the attempt in a name: "<ID>" is the first, "<ID>-2" the second.
func attemptOf(id, name string) (int, bool) {
	if name == id {
		return 1, id != ""
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, id+"-"))
	ref := sandboxer.HandleRef{ID: sandboxer.ID(id), Attempt: n}
	return n, err == nil && n > 1 && n < 1000 && ref.Name() == name
}

// described is a sandbox as E2B's control plane shows it.
type described struct {
	SandboxID       string            `json:"sandboxID"`
	TemplateID      string            `json:"templateID"`
	Metadata        map[string]string `json:"metadata"`
	State           string            `json:"state"`
	StartedAt       time.Time         `json:"startedAt"`
	EndAt           time.Time         `json:"endAt"`
	CPUCount        int64             `json:"cpuCount"`
	MemoryMB        int64             `json:"memoryMB"`
	EnvdVersion     string            `json:"envdVersion"`
	EnvdAccessToken string            `json:"envdAccessToken"`
	Domain          string            `json:"domain"`

	left time.Duration // until EndAt when E2B answered, up to a second too much
	sent time.Time     // when it was asked
}

// inOurTime moves the times of d, which are of E2B's clock, to this machine's where the two differ.
func (d *described) inOurTime(rep *reply) {
	now := rep.clock()
	if now.IsZero() {
		now = rep.sent
	}
	d.left, d.sent = d.EndAt.Sub(now), rep.sent
	ahead := rep.ahead()
	d.StartedAt, d.EndAt = d.StartedAt.Add(-ahead), d.EndAt.Add(-ahead)
}

func (d *described) paused() bool { return d.State == "paused" }

// handle makes the handle of a sandbox that was found. False: it is not one that this extension stamped.
func (e *extension) handle(d *described, key string) (sandboxer.Handle, bool) {
	id, name := d.Metadata[sandboxer.LabelID], d.Metadata[sandboxer.LabelName]
	n, ok := attemptOf(id, name)
	if ext := d.Metadata[labelExtension]; !ok || (ext != "" && ext != e.id) || !sandboxID.MatchString(d.SandboxID) {
		return sandboxer.Handle{}, false
	}
	s := state{Sandbox: d.SandboxID}
	if json.Unmarshal([]byte(d.Metadata[labelPurchase]), &s.purchase) != nil {
		s.purchase = purchase{Key: key, Created: d.StartedAt.UTC(), CPU: d.CPUCount * 1000, Memory: d.MemoryMB << 20}
	}
	h, err := sandboxer.NewHandle(sandboxer.HandleRef{ID: sandboxer.ID(id), Attempt: n, Extension: e.id}, stateVersion, s)
	return h, err == nil
}

// saw notes that the key now in use sees a sandbox that another one bought: both belong to one team.
func (e *extension) saw(s state, key string) {
	if s.Key == key {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sameTeam) > 1000 {
		clear(e.sameTeam)
	}
	e.sameTeam[[2]string{s.Key, key}] = true
}

// gone reports whether "not found" under the key in use means that a sandbox does not exist. E2B answers the same for a
// sandbox of another team.
func (e *extension) gone(s state, key string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.Key == "" || key == s.Key || e.sameTeam[[2]string{s.Key, key}]
}

// notVisible is the error for a sandbox that is not found under another key than the one that bought it.
func notVisible(s state, err error) error {
	return sandboxer.Mark(sandboxer.Unauthenticated, fmt.Errorf("%s is not visible with the key in use, which is not the one (version %s) that it was bought with, so it may still run; give that team's key back, or wait until E2B's own deadline has passed: %w", s.Sandbox, s.Key, err))
}
