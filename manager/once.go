package manager

import (
	"encoding/json"

	"github.com/sand-boxer/sandboxer"
)

// The parts of a record that never change are encoded once, however often the record is stored: a create stores it twice,
// and encoding is most of what it costs.

// recipe is a resolved profile.
type recipe struct {
	sandboxer.Profile
	text []byte
}

// MarshalJSON encodes the profile once.
func (r *recipe) MarshalJSON() ([]byte, error) { return once(&r.text, &r.Profile) }

// UnmarshalJSON decodes a profile.
func (r *recipe) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &r.Profile) }

// estimate is a quote.
type estimate struct {
	sandboxer.MeterQuote
	text []byte
}

// MarshalJSON encodes the quote once.
func (e *estimate) MarshalJSON() ([]byte, error) { return once(&e.text, &e.MeterQuote) }

// UnmarshalJSON decodes a quote.
func (e *estimate) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &e.MeterQuote) }

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
