package sandboxer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// handleEnvelope is the version of the JSON around an adapter's state; a newer one is refused, an older one decodes for ever.
const handleEnvelope = 1

// Handle is an adapter's note to itself of what it created: opaque, versioned, secret-free and comparable with ==. It
// round-trips through JSON even when its extension is not registered. The zero Handle names nothing.
type Handle struct {
	ref     HandleRef
	version int
	state   string // compact JSON text, so that equal handles are ==
}

// HandleRef is the identity that every handle carries, and all of it that survives a lost reply.
type HandleRef struct {
	ID        ID
	Attempt   int // from 1
	Extension string
	Host      string // "" unless the adapter is Hosted
}

// Name is what the backend's resource is called: the ID for the first attempt, then "<ID>-2" and so on.
func (r HandleRef) Name() string {
	if r.Attempt <= 1 {
		return string(r.ID)
	}
	return string(r.ID) + "-" + strconv.Itoa(r.Attempt)
}

func (r HandleRef) validate() error {
	if err := r.ID.Validate(); err != nil {
		return err
	}
	if r.Attempt < 1 || r.Attempt > 999 {
		return Mark(InvalidArgument, fmt.Errorf("handle of %s: attempt %d is not between 1 and 999", r.ID, r.Attempt))
	}
	if r.Extension == "" {
		return Mark(InvalidArgument, fmt.Errorf("handle of %s names no extension", r.ID))
	}
	if !utf8.ValidString(r.Extension) || !utf8.ValidString(r.Host) {
		return Mark(InvalidArgument, fmt.Errorf("handle of %s: extension %q or host %q is not UTF-8, which JSON would change", r.ID, clip(r.Extension), clip(r.Host)))
	}
	return nil
}

// NewHandle makes a handle with the adapter's own state, which is anything that encodes as JSON and holds no secret.
// version is the adapter's own and at least 1; a later release of the adapter reads it to know what State holds.
func NewHandle(ref HandleRef, version int, state any) (Handle, error) {
	if err := ref.validate(); err != nil {
		return Handle{}, err
	}
	if version < 1 {
		return Handle{}, Mark(InvalidArgument, fmt.Errorf("handle of %s: state version %d is below 1", ref.ID, version))
	}
	text, err := json.Marshal(state)
	if err != nil {
		return Handle{}, Mark(InvalidArgument, fmt.Errorf("handle of %s: its state does not encode as JSON: %w", ref.ID, err))
	}
	return Handle{ref: ref, version: version, state: string(text)}, nil
}

// BareHandle is identity without state: what is known of a resource whose creation was never answered. Of no identity it is
// the zero Handle; one of half an identity, such as without its attempt, cannot be encoded.
func BareHandle(ref HandleRef) Handle { return Handle{ref: ref} }

// Ref returns the identity.
func (h Handle) Ref() HandleRef { return h.ref }

// HasState reports whether the adapter's state is known; without it the resource is looked up by name.
func (h Handle) HasState() bool { return h.version > 0 }

// StateVersion returns the adapter's version of the state, 0 where there is none.
func (h Handle) StateVersion() int { return h.version }

// State decodes the adapter's state. FailedPrecondition where there is none, InvalidArgument where it does not fit.
func (h Handle) State(into any) error {
	if !h.HasState() {
		return Mark(FailedPrecondition, fmt.Errorf("the handle of %q carries no state", h.ref.Name()))
	}
	if err := json.Unmarshal([]byte(h.state), into); err != nil {
		return Mark(InvalidArgument, fmt.Errorf("the handle of %q: its state (version %d) does not decode: %w", h.ref.Name(), h.version, err))
	}
	return nil
}

// IsZero reports whether h names nothing.
func (h Handle) IsZero() bool { return h == Handle{} }

// String names the resource; it does not print the state.
func (h Handle) String() string {
	if h.IsZero() {
		return "no handle"
	}
	return h.ref.Name() + " at " + h.ref.Extension
}

type handleJSON struct {
	ID           ID              `json:"sandbox_id"`
	Host         string          `json:"host,omitempty"`
	Extension    string          `json:"extension"`
	Attempt      int             `json:"attempt"`
	V            int             `json:"v"`
	StateVersion int             `json:"state_version,omitempty"`
	State        json.RawMessage `json:"state,omitempty"`
}

// MarshalJSON writes {"sandbox_id", "host", "extension", "attempt", "v", "state_version", "state"}; the zero Handle is null.
// A handle that could not be read again, such as a bare one of no extension, is an InvalidArgument.
func (h Handle) MarshalJSON() ([]byte, error) {
	if h.IsZero() {
		return []byte("null"), nil
	}
	if err := h.ref.validate(); err != nil {
		return nil, err
	}
	if !plainJSON(h.ref.Host) || !plainJSON(h.ref.Extension) {
		return json.Marshal(handleJSON{
			ID: h.ref.ID, Host: h.ref.Host, Extension: h.ref.Extension, Attempt: h.ref.Attempt,
			V: handleEnvelope, StateVersion: h.version, State: json.RawMessage(h.state),
		})
	}
	// The same, without the reflection: a handle is written with every record. Its state is compact and escaped already.
	b := make([]byte, 0, 128+len(h.ref.ID)+len(h.ref.Host)+len(h.ref.Extension)+len(h.state))
	b = append(append(append(b, `{"sandbox_id":"`...), h.ref.ID...), '"')
	if h.ref.Host != "" {
		b = append(append(append(b, `,"host":"`...), h.ref.Host...), '"')
	}
	b = append(append(append(b, `,"extension":"`...), h.ref.Extension...), '"')
	b = strconv.AppendInt(append(b, `,"attempt":`...), int64(h.ref.Attempt), 10)
	b = strconv.AppendInt(append(b, `,"v":`...), handleEnvelope, 10)
	if h.version != 0 {
		b = strconv.AppendInt(append(b, `,"state_version":`...), int64(h.version), 10)
	}
	if h.state != "" {
		b = append(append(b, `,"state":`...), h.state...)
	}
	return append(b, '}'), nil
}

// plainJSON reports whether s stands in JSON as it is.
func plainJSON(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// UnmarshalJSON reads any handle of this or an older release. A newer one is a FailedPrecondition, garbage an
// InvalidArgument; h is then left as it was.
func (h *Handle) UnmarshalJSON(b []byte) error {
	if string(bytes.TrimSpace(b)) == "null" {
		*h = Handle{}
		return nil
	}
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Mark(InvalidArgument, fmt.Errorf("not a sandbox handle: %w", err))
	}
	if head.V > handleEnvelope {
		return Mark(FailedPrecondition, fmt.Errorf("the handle is of format %d, written by a newer release; this one reads up to %d: upgrade sandboxer", head.V, handleEnvelope))
	}
	if head.V < 1 {
		return Mark(InvalidArgument, fmt.Errorf("not a sandbox handle: \"v\" is %d", head.V))
	}
	var j handleJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return Mark(InvalidArgument, fmt.Errorf("not a sandbox handle: %w", err))
	}
	out := Handle{ref: HandleRef{ID: j.ID, Attempt: j.Attempt, Extension: j.Extension, Host: j.Host}}
	if err := out.ref.validate(); err != nil {
		return err
	}
	if (j.StateVersion > 0) != (len(j.State) > 0) || j.StateVersion < 0 {
		return Mark(InvalidArgument, fmt.Errorf("the handle of %s has a state version of %d and %d bytes of state: one without the other", j.ID, j.StateVersion, len(j.State)))
	}
	if j.StateVersion > 0 {
		// Through Marshal again, so that however a tool spaced or escaped it, equal handles compare equal.
		text, err := json.Marshal(j.State)
		if err != nil {
			return Mark(InvalidArgument, fmt.Errorf("the handle of %s: %w", j.ID, err))
		}
		out.version, out.state = j.StateVersion, string(text)
	}
	*h = out
	return nil
}
