package manager

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

const (
	kindSandbox  = "sandbox"
	kindSnapshot = "snapshot"
	kindPlace    = "place"

	tagLive  = "live"  // still looked after
	tagEnded = "ended" // kept for Config.Keep

	recordVersion = 1
)

// record is everything that is known of one sandbox. Only the holder of the sandbox's lock changes it.
type record struct {
	standing
	saved sandboxer.State // as last committed
	armed time.Time       // the expiry that the schedule knows

	V         int                      `json:"v"`
	ID        sandboxer.ID             `json:"id"`
	State     sandboxer.State          `json:"state"`
	Code      sandboxer.Code           `json:"code,omitempty"`
	Reason    string                   `json:"reason,omitempty"`
	Cause     string                   `json:"cause,omitempty"` // why it is being removed; Reason then says how that goes
	CauseCode sandboxer.Code           `json:"cause_code,omitempty"`
	Asked     asked                    `json:"-"` // these two and the recipes: see encode
	CreatedAt time.Time                `json:"created_at"`
	ReadyAt   time.Time                `json:"ready_at,omitzero"`
	ExpiresAt time.Time                `json:"expires_at,omitzero"`
	EndedAt   time.Time                `json:"ended_at,omitzero"`
	Attempts  []attempt                `json:"attempts,omitempty"`
	Reach     *sandboxer.Reachability  `json:"reach,omitempty"`
	Quote     *estimate                `json:"-"`
	Cost      *sandboxer.MeterReading  `json:"cost,omitempty"` // the last reading, once it has ended
	Cleanup   *sandboxer.CleanupReport `json:"cleanup,omitempty"`
	Stray     map[string]string        `json:"stray,omitempty"`     // the labels of a resource that the reaper found without a record
	Undying   bool                     `json:"undying,omitempty"`   // paused: the backend's own deadline does not run
	Resuming  bool                     `json:"resuming,omitempty"`  // a Resume was begun and its result is not known
	Pausing   bool                     `json:"pausing,omitempty"`   // a Pause was begun and its result is not known
	Extending time.Time                `json:"extending,omitzero"`  // an Extend up to then was begun and its result is not known
	Abandoned bool                     `json:"abandoned,omitempty"` // an operator ended it, whatever may be left
	Tries     int                      `json:"tries,omitempty"`
	NextTry   time.Time                `json:"next_try,omitzero"`
}

// asked is what makes two requests the same.
type asked struct {
	Profile      string             `json:"profile"`
	Consumer     sandboxer.Consumer `json:"consumer"`
	Inputs       sandboxer.Inputs   `json:"inputs,omitempty"`
	Host         string             `json:"host,omitempty"`
	TTL          time.Duration      `json:"ttl,omitempty"`
	FromSnapshot string             `json:"from_snapshot,omitempty"`
	Labels       map[string]string  `json:"labels,omitempty"`
	MaxCost      *sandboxer.Money   `json:"max_cost,omitempty"`

	text []byte // as JSON, once frozen
}

// freeze encodes a once and for all: several callers compare with it at the same time.
func (a asked) freeze() (asked, error) {
	o := object{b: make([]byte, 0, 256)}
	a.write(&o)
	a.text = o.b
	return a, o.err
}

func (a *asked) same(b *asked) bool { return bytes.Equal(a.text, b.text) }

// attempt is one place. What a later call needs is kept with it, so that nothing depends on the registry of today.
type attempt struct {
	sandboxer.Attempt
	Recipe   *recipe          `json:"-"` // resolved, with the inputs merged in
	Handle   sandboxer.Handle `json:"handle,omitzero"`
	Place    string           `json:"place,omitempty"`   // the host whose slot it holds
	Since    time.Time        `json:"since,omitzero"`    // a call begun no later than this may still create it
	Deadline time.Time        `json:"deadline,omitzero"` // what the backend was told
	// Billed is what its meter records say together, those of the record of the same resource before it included; Bills is
	// how many this record made.
	Billed *sandboxer.MeterReading `json:"billed,omitempty"`
	Bills  int                     `json:"bills,omitempty"`
}

// current is the attempt that has, or may have, a resource; nil where none was begun.
func (r *record) current() *attempt {
	for i := len(r.Attempts) - 1; i >= 0; i-- {
		if r.Attempts[i].N > 0 {
			return &r.Attempts[i]
		}
	}
	return nil
}

func (r *record) lastN() int {
	if a := r.current(); a != nil {
		return a.N
	}
	return 0
}

func (r *record) ended() bool {
	return r.State == sandboxer.StateGone || r.State == sandboxer.StateFailed
}

// pending is what was asked of the backend and whose result is not known. It is stored before it is asked for.
type pending struct {
	pausing, resuming bool
	extending         time.Time
}

func (r *record) pending() pending { return pending{r.Pausing, r.Resuming, r.Extending} }

func (r *record) setPending(p pending) {
	r.Pausing, r.Resuming, r.Extending = p.pausing, p.resuming, p.extending
}

// endsAt takes in when the backend ends r by itself, by its own word: never, where that is zero. What an Extend of which nobody
// knows asked for may still come.
func (r *record) endsAt(end time.Time) {
	r.Reach.ExpiresAt = end.Round(0).UTC()
	if end.IsZero() || !end.Before(r.Extending) {
		r.Extending = time.Time{}
	}
}

func (r *record) tags() []string {
	tags := make([]string, 1, 4)
	tags[0] = tagLive
	if r.ended() {
		tags[0] = tagEnded
	}
	if t := r.Asked.Consumer.Tenant; t != "" {
		tags = append(tags, tenantTag(t))
	}
	if a := r.current(); a != nil && a.Host != "" {
		tags = append(tags, hostTag(a.Host))
	}
	return tags
}

func hostTag(id string) string { return "host=" + id }

// tenantTag indexes a tenant; one whose name is longer than a tag stands there as its digest.
func tenantTag(tenant string) string {
	tag := "tenant=" + tenant
	if len(tag) <= store.MaxTag {
		return tag
	}
	sum := sha256.Sum256([]byte(tenant))
	return "tenant-sha256=" + hex.EncodeToString(sum[:])
}

func (r *record) status() sandboxer.SandboxStatus {
	s := sandboxer.SandboxStatus{
		ID: r.ID, Profile: r.Asked.Profile, State: r.State, Reason: r.Reason, Consumer: r.Asked.Consumer,
		Labels: r.Asked.Labels, CreatedAt: r.CreatedAt, ReadyAt: r.ReadyAt, ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt,
		Cleanup: r.Cleanup, Tries: r.Tries, NextTry: r.NextTry,
	}
	if r.Quote != nil {
		s.Quote = &r.Quote.MeterQuote
	}
	if r.State == sandboxer.StateReady || r.State == sandboxer.StatePaused {
		s.Reachability = r.Reach
	}
	if a := r.current(); a != nil {
		s.Extension, s.Host, s.Payer = a.Extension, a.Host, a.Payer
	}
	for i := range r.Attempts {
		s.Attempts = append(s.Attempts, r.Attempts[i].Attempt)
	}
	return s
}

func sandboxKey(id sandboxer.ID) store.Key { return store.Key{Kind: kindSandbox, ID: string(id)} }

// load reads the record of id; NotFound where there is none.
func (m *Manager) load(ctx context.Context, id sandboxer.ID) (*record, error) {
	got, err := m.cfg.Store.Get(ctx, sandboxKey(id))
	if err != nil {
		return nil, err
	}
	if got[0].Rev == 0 {
		return nil, sandboxer.Mark(sandboxer.NotFound, fmt.Errorf("no sandbox is called %s; its record may have been dropped %v after its end", id, m.cfg.Keep))
	}
	return decodeRecord(got[0])
}
