package manager

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// recall keeps what many creates have in common, with its text: recipes of profiles that are used as they stand, and what
// they cost.
type recall struct {
	known sync.Map
	count atomic.Int64
}

// maxRecalled bounds it: times to live are the callers' to choose.
const maxRecalled = 2000

type (
	recipeKey struct {
		profile string
		ttl     time.Duration
	}
	quoteKey struct {
		extension, profile string
		ttl                time.Duration
	}
)

// recipe is what an attempt at s keeps of its profile. Of a profile that is used as it stands it is made once.
func (c *recall) recipe(s *stop, plain bool) *recipe {
	key := recipeKey{s.profile.ID, s.profile.TTL}
	if plain {
		if known, ok := c.known.Load(key); ok {
			return known.(*recipe)
		}
	}
	p := &recipe{Profile: s.profile}
	p.Burst, p.Requires = nil, nil // decided by now
	if _, err := once(&p.text, &p.Profile); err == nil && plain {
		c.keep(key, p)
	}
	return p
}

// quote returns the estimate of q, the one that was made before where that says the same.
func (c *recall) quote(extension string, p *sandboxer.Profile, q sandboxer.MeterQuote) *estimate {
	key := quoteKey{extension, p.ID, p.TTL}
	known, ok := c.known.Load(key)
	if ok && known.(*estimate).same(&q) {
		return known.(*estimate)
	}
	e := &estimate{MeterQuote: q}
	if _, err := once(&e.text, &e.MeterQuote); err == nil && !ok {
		c.keep(key, e)
	}
	return e
}

func (c *recall) keep(key, v any) {
	if c.count.Add(1) <= maxRecalled {
		c.known.Store(key, v)
	}
}

func (e *estimate) same(q *sandboxer.MeterQuote) bool {
	return e.Total == q.Total && e.For == q.For && e.PriceList == q.PriceList && slices.Equal(e.Lines, q.Lines)
}
