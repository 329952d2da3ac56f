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

// encode writes what envelope reads. It puts the parts together itself: encoding/json would read them all again.
func (r *record) encode() ([]byte, error) {
	fields, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	size := len(fields) + len(r.Asked.text) + 64
	var quote []byte
	if r.Quote != nil {
		if quote, err = once(&r.Quote.text, &r.Quote.MeterQuote); err != nil {
			return nil, err
		}
		size += len(quote)
	}
	recipes := make([][]byte, len(r.Attempts))
	for i := range r.Attempts {
		recipes[i] = []byte("null")
		if p := r.Attempts[i].Recipe; p != nil {
			if recipes[i], err = once(&p.text, &p.Profile); err != nil {
				return nil, err
			}
		}
		size += len(recipes[i]) + 1
	}
	b := make([]byte, 0, size)
	b = append(append(b, `{"asked":`...), r.Asked.text...)
	if quote != nil {
		b = append(append(b, `,"quote":`...), quote...)
	}
	b = append(b, `,"recipes":[`...)
	for i, p := range recipes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p...)
	}
	return append(append(b, "],"...), fields[1:]...), nil
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
