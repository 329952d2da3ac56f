package manager

import (
	"encoding/json"
	"fmt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// recipe is a resolved profile, and estimate a quote. Neither changes once it is made, so that each is encoded once,
// however often the record is stored: a create stores it twice, and encoding is most of what it costs.
type recipe struct {
	sandboxer.Profile
	text []byte
}

type estimate struct {
	sandboxer.MeterQuote
	text []byte
}

func once(text *[]byte, v any) ([]byte, error) {
	if *text == nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		*text = b
	}
	return *text, nil
}

// envelope is the JSON of a record: its fields, and the parts that never change in front of them.
type envelope struct {
	Asked   *asked                `json:"asked"`
	Quote   *sandboxer.MeterQuote `json:"quote,omitempty"`
	Recipes []*sandboxer.Profile  `json:"recipes"` // of each attempt; null for a place that was skipped
	*record
}

// encode appends to b what envelope reads. It puts the parts together itself: encoding/json would read them all again.
func (r *record) encode(b []byte) ([]byte, error) {
	o := object{b: b}
	o.open()
	o.raw("asked", r.Asked.text)
	if r.Quote != nil {
		text, err := once(&r.Quote.text, &r.Quote.MeterQuote)
		if err != nil {
			return nil, err
		}
		o.raw("quote", text)
	}
	o.key("recipes")
	o.b = append(o.b, '[')
	for i := range r.Attempts {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		text := []byte("null")
		if p := r.Attempts[i].Recipe; p != nil {
			var err error
			if text, err = once(&p.text, &p.Profile); err != nil {
				return nil, err
			}
		}
		o.b = append(o.b, text...)
	}
	o.b = append(o.b, ']')
	r.members(&o)
	o.close()
	return o.b, o.err
}

// members writes the fields of r as their tags say. A test compares it with encoding/json, so that no field is forgotten.
func (r *record) members(o *object) {
	o.num("v", int64(r.V))
	o.str("id", string(r.ID))
	o.str("state", string(r.State))
	o.strIf("code", string(r.Code))
	o.strIf("reason", r.Reason)
	o.strIf("cause", r.Cause)
	o.strIf("cause_code", string(r.CauseCode))
	o.time("created_at", r.CreatedAt)
	o.timeIf("ready_at", r.ReadyAt)
	o.timeIf("expires_at", r.ExpiresAt)
	o.timeIf("ended_at", r.EndedAt)
	if len(r.Attempts) > 0 {
		o.key("attempts")
		o.b = append(o.b, '[')
		for i := range r.Attempts {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			r.Attempts[i].write(o)
		}
		o.b = append(o.b, ']')
	}
	if r.Reach != nil {
		o.key("reach")
		writeReachability(o, r.Reach)
	}
	if r.Cost != nil {
		o.any("cost", r.Cost)
	}
	if r.Cleanup != nil {
		o.any("cleanup", r.Cleanup)
	}
	if len(r.Stray) > 0 {
		o.any("stray", r.Stray)
	}
	o.trueIf("undying", r.Undying)
	o.trueIf("resuming", r.Resuming)
	o.trueIf("pausing", r.Pausing)
	o.timeIf("extending", r.Extending)
	o.trueIf("abandoned", r.Abandoned)
	o.numIf("tries", int64(r.Tries))
	o.timeIf("next_try", r.NextTry)
}

func (a *attempt) write(o *object) {
	o.open()
	o.numIf("n", int64(a.N))
	o.strIf("name", a.Name)
	o.str("profile", a.Profile)
	o.str("extension", a.Extension)
	o.strIf("host", a.Host)
	if a.Payer != (sandboxer.Payer{}) {
		o.any("payer", a.Payer)
	}
	o.timeIf("started_at", a.StartedAt)
	o.timeIf("ended_at", a.EndedAt)
	o.strIf("code", string(a.Code))
	o.strIf("reason", a.Reason)
	if !a.Handle.IsZero() {
		if text, err := a.Handle.MarshalJSON(); err == nil {
			o.raw("handle", text)
		} else {
			o.fail("handle", err)
		}
	}
	o.strIf("place", a.Place)
	o.timeIf("since", a.Since)
	o.timeIf("deadline", a.Deadline)
	if a.Billed != nil {
		o.any("billed", a.Billed)
	}
	o.numIf("bills", int64(a.Bills))
	o.close()
}

func writeReachability(o *object, r *sandboxer.Reachability) {
	o.open()
	o.strIf("ssh", r.SSH)
	o.strIf("remote_dir", r.RemoteDir)
	o.strIf("host", r.Host)
	o.strIf("compose_project", r.ComposeProject)
	if len(r.Endpoints) > 0 {
		o.any("endpoints", r.Endpoints)
	}
	o.timeIf("expires_at", r.ExpiresAt)
	o.close()
}

// write writes what makes two requests the same.
func (a *asked) write(o *object) {
	o.open()
	o.str("profile", a.Profile)
	o.key("consumer")
	o.open()
	o.str("id", a.Consumer.ID)
	o.strIf("tenant", a.Consumer.Tenant)
	o.strIf("run", a.Consumer.Run)
	if len(a.Consumer.Labels) > 0 {
		o.any("labels", a.Consumer.Labels)
	}
	o.close()
	if len(a.Inputs) > 0 {
		o.any("inputs", a.Inputs)
	}
	o.strIf("host", a.Host)
	o.numIf("ttl", int64(a.TTL))
	o.strIf("from_snapshot", a.FromSnapshot)
	if len(a.Labels) > 0 {
		o.any("labels", a.Labels)
	}
	if a.MaxCost != nil {
		o.any("max_cost", a.MaxCost)
	}
	o.close()
}

func decodeRecord(sr store.Record) (*record, error) {
	r := &record{}
	e := envelope{Asked: &r.Asked, record: r}
	if err := json.Unmarshal(sr.Body, &e); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s does not decode: %w", sr.Key.ID, err))
	}
	if r.V > recordVersion {
		return nil, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("the record of %s is of format %d, written by a newer release: upgrade sandboxer", r.ID, r.V))
	}
	if r.V < 1 || string(r.ID) != sr.Key.ID || r.current() == nil || e.Asked == nil || len(e.Recipes) != len(r.Attempts) {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s is incomplete", sr.Key.ID))
	}
	var err error
	if r.Asked, err = r.Asked.freeze(); err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s: %w", sr.Key.ID, err))
	}
	if e.Quote != nil {
		r.Quote = &estimate{MeterQuote: *e.Quote}
	}
	for i, p := range e.Recipes {
		switch {
		case p != nil:
			r.Attempts[i].Recipe = &recipe{Profile: *p}
		case r.Attempts[i].N > 0:
			return nil, sandboxer.Mark(sandboxer.Internal, fmt.Errorf("the record of %s lacks the recipe of attempt %d", r.ID, r.Attempts[i].N))
		}
	}
	r.rev, r.saved = sr.Rev, r.State
	if r.State == sandboxer.StateReady || r.State == sandboxer.StatePaused {
		r.armed = r.ExpiresAt
	}
	return r, nil
}
