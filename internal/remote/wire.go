// Package remote serves an extension from one process to another over HTTP on the loopback interface. The crash tests use
// it: their backend has to outlive the process whose death they watch. It carries the calls of a sandbox's life and of its
// snapshots; what flows in them it carries whole, and connections it does not.
package remote

import (
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// request is what any call may carry.
type request struct {
	Provision *provision                 `json:"provision,omitempty"`
	Target    *target                    `json:"target,omitempty"`
	Profile   *sandboxer.Profile         `json:"profile,omitempty"`
	Snapshot  *sandboxer.Snapshot        `json:"snapshot,omitempty"`
	Take      *sandboxer.SnapshotRequest `json:"take,omitempty"`
	Command   []string                   `json:"command,omitempty"`
	Path      string                     `json:"path,omitempty"`
	Port      int                        `json:"port,omitempty"`
	Bytes     []byte                     `json:"bytes,omitempty"`
	Host      sandboxer.Host             `json:"host,omitzero"`
	Labels    map[string]string          `json:"labels,omitempty"`
	When      time.Time                  `json:"when,omitzero"`
	For       time.Duration              `json:"for,omitempty"`
	Until     time.Time                  `json:"until,omitzero"`
	To        *sandboxer.Snapshot        `json:"to,omitempty"`
	ToHost    sandboxer.Host             `json:"to_host,omitzero"`
}

// opMove is MoveSnapshot, which interceptors see as an import.
const opMove sandboxer.Op = "move-snapshot"

// provision is a ProvisionRequest without its functions.
type provision struct {
	ID        sandboxer.ID       `json:"id"`
	Attempt   int                `json:"attempt"`
	Name      string             `json:"name"`
	Profile   sandboxer.Profile  `json:"profile"`
	Inputs    sandboxer.Inputs   `json:"inputs,omitempty"`
	Host      sandboxer.Host     `json:"host,omitzero"`
	Consumer  sandboxer.Consumer `json:"consumer"`
	Labels    map[string]string  `json:"labels,omitempty"`
	ExpiresAt time.Time          `json:"expires_at,omitzero"`
}

// target is a Target without its functions.
type target struct {
	Handle    sandboxer.Handle   `json:"handle"`
	Host      sandboxer.Host     `json:"host,omitzero"`
	Inputs    sandboxer.Inputs   `json:"inputs,omitempty"`
	Consumer  sandboxer.Consumer `json:"consumer"`
	Labels    map[string]string  `json:"labels,omitempty"`
	ExpiresAt time.Time          `json:"expires_at,omitzero"`
}

// reply is what any call may return.
type reply struct {
	Handle    sandboxer.Handle        `json:"handle,omitzero"`
	Reach     sandboxer.Reachability  `json:"reach,omitzero"`
	Report    sandboxer.CleanupReport `json:"report,omitzero"`
	Instance  sandboxer.Instance      `json:"instance,omitzero"`
	Instances []sandboxer.Instance    `json:"instances,omitempty"`
	Snapshot  sandboxer.Snapshot      `json:"snapshot,omitzero"`
	Snapshots []sandboxer.Snapshot    `json:"snapshots,omitempty"`
	Quote     sandboxer.MeterQuote    `json:"quote,omitzero"`
	Reading   sandboxer.MeterReading  `json:"reading,omitzero"`
	Lines     []sandboxer.MeterLine   `json:"lines,omitempty"`
	When      time.Time               `json:"when,omitzero"`
	Bytes     []byte                  `json:"bytes,omitempty"`
	Exec      sandboxer.ExecResult    `json:"exec,omitzero"`
	Endpoint  sandboxer.Endpoint      `json:"endpoint,omitzero"`
	Failed    *failure                `json:"failed,omitempty"`
}

// failure carries an error's class as well as its text.
type failure struct {
	Code       sandboxer.Code `json:"code"`
	Refused    bool           `json:"refused,omitempty"`
	RetryAfter time.Duration  `json:"retry_after,omitempty"`
	Text       string         `json:"text"`
}

func failed(err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{Code: sandboxer.CodeOf(err), Refused: sandboxer.IsRefused(err), RetryAfter: sandboxer.RetryAfterOf(err), Text: err.Error()}
}

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return &sandboxer.Error{Code: f.Code, NothingDone: f.Refused, RetryAfter: f.RetryAfter, Err: errors.New(f.Text)}
}

func toProvision(r *sandboxer.ProvisionRequest) *provision {
	return &provision{ID: r.ID, Attempt: r.Attempt, Name: r.Name, Profile: r.Profile, Inputs: r.Inputs, Host: r.Host,
		Consumer: r.Consumer, Labels: r.Labels, ExpiresAt: r.ExpiresAt}
}

func (p *provision) request() *sandboxer.ProvisionRequest {
	return &sandboxer.ProvisionRequest{ID: p.ID, Attempt: p.Attempt, Name: p.Name, Profile: p.Profile, Inputs: p.Inputs,
		Host: p.Host, Consumer: p.Consumer, Labels: p.Labels, ExpiresAt: p.ExpiresAt}
}

func toTarget(t sandboxer.Target) *target {
	return &target{Handle: t.Handle, Host: t.Host, Inputs: t.Inputs, Consumer: t.Consumer, Labels: t.Labels, ExpiresAt: t.ExpiresAt}
}

func (t *target) target() sandboxer.Target {
	return sandboxer.Target{Handle: t.Handle, Host: t.Host, Inputs: t.Inputs, Consumer: t.Consumer, Labels: t.Labels, ExpiresAt: t.ExpiresAt}
}

// unknownOp is the answer to a call that this package does not carry.
func unknownOp(op string) error {
	return sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("call %q is not carried", op))
}
