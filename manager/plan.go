package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// stop is one place that a create may go to: a resolved profile at an extension. The host is chosen when it gets there.
type stop struct {
	profile sandboxer.Profile
	ext     *extension
	pin     string
	payer   sandboxer.Payer
	quote   *estimate
	snap    *snapshotRecord // restore this
}

// skip says why a place is passed over. It becomes part of the record, and of the error when nothing else serves.
type skip struct {
	profile, extension string
	err                error
}

// firstStop resolves and checks the place that the request names. An error means that nothing was stored or created there;
// the stop beside it has the resolved profile, which may name other places, or is nil where that is not known.
func (m *Manager) firstStop(ctx context.Context, q asked, snap *snapshotRecord) (*stop, error) {
	p, err := m.cfg.Registry.Resolve(q.Profile, q.Inputs)
	if err != nil {
		return nil, err
	}
	s, err := m.check(ctx, p, q, snap)
	if err != nil {
		p.TTL = m.lifetime(q, p)
		return &stop{profile: p}, err
	}
	switch {
	case q.Host == "" || q.Host == s.pin:
	case s.pin != "":
		return s, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is on host %q, not on %q; move it with TransferSnapshot first", snap.Snap.ID, s.pin, q.Host))
	default:
		s.pin = q.Host
	}
	return s, nil
}

// bursts reports whether a create goes on to the targets of s after an error that came before anything was begun.
func (s *stop) bursts(ctx context.Context, err error) bool {
	return s != nil && s.profile.Burst != nil && len(s.profile.Burst.To) > 0 && ctx.Err() == nil && movesOn(s.profile.Burst, err)
}

// movesOn reports whether a policy, or none, tries another place after err.
func movesOn(b *sandboxer.BurstPolicy, err error) bool {
	on := []sandboxer.Code{sandboxer.ResourceExhausted, sandboxer.Unavailable}
	if b != nil && len(b.On) > 0 {
		on = b.On
	}
	return slices.Contains(on, sandboxer.CodeOf(err))
}

// burstStop resolves and checks one burst target of first.
func (m *Manager) burstStop(ctx context.Context, q asked, first sandboxer.Profile, t sandboxer.BurstTarget, snap *snapshotRecord) (*stop, *skip) {
	no := func(extension string, err error) (*stop, *skip) {
		return nil, &skip{profile: t.Profile, extension: extension, err: err}
	}
	in := sandboxer.Inputs{}
	for from, to := range t.Inputs {
		if v, ok := first.Inputs[from]; ok {
			in[to] = v
		}
	}
	p, err := m.cfg.Registry.Resolve(t.Profile, in)
	if err != nil {
		return no("", err)
	}
	x, err := m.extension(p.Extension)
	if err != nil {
		return no(p.Extension, err)
	}
	if level := isolationOf(p, x); !level.AtLeast(first.Isolation) {
		return no(p.Extension, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("isolated by %q, and %s asks for %q at least", level, first.ID, first.Isolation)))
	}
	p.TTL = first.TTL // one sandbox, one lifetime, wherever it is
	s, err := m.check(ctx, p, q, snap)
	if err != nil {
		return no(p.Extension, err)
	}
	if most := first.Burst.MaxCost; most != nil {
		if err := s.affordable(*most, "the burst policy of "+first.ID); err != nil {
			return no(p.Extension, err)
		}
	}
	return s, nil
}

// isolationOf is what a sandbox of p is sure to get at x.
func isolationOf(p sandboxer.Profile, x *extension) sandboxer.IsolationLevel {
	levels := x.manifest.Capabilities.IsolationLevels
	for _, l := range sandboxer.IsolationLevels() {
		if slices.Contains(levels, l) && l.AtLeast(p.Isolation) {
			return l
		}
	}
	return ""
}

// check finds everything that speaks against p, without creating or storing anything.
func (m *Manager) check(ctx context.Context, p sandboxer.Profile, q asked, snap *snapshotRecord) (*stop, error) {
	x, err := m.extension(p.Extension)
	if err != nil {
		return nil, err
	}
	p.TTL = m.lifetime(q, p)
	s := &stop{profile: p, ext: x, snap: snap}
	if snap != nil {
		if snap.Snap.Extension != x.id {
			return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s was taken by %s and cannot be restored by %s (%s)", snap.Snap.ID, snap.Snap.Extension, x.id, p.ID))
		}
		if _, err := as[sandboxer.Snapshotter](x, sandboxer.CapSnapshot); err != nil {
			return nil, err
		}
		s.pin = snap.Snap.Host // "" where there are no hosts
	}
	if s.quote, err = m.quote(ctx, x, &s.profile); err != nil {
		return nil, err
	}
	if q.MaxCost != nil {
		if err := s.affordable(*q.MaxCost, "CreateRequest.MaxCost"); err != nil {
			return nil, err
		}
	}
	if snap != nil { // bought with the key that the snapshot belongs to
		s.payer = snap.Snap.Payer
		return s, nil
	}
	s.payer, err = m.payer(ctx, x, q.Consumer)
	return s, err
}

// lifetime is the request's, then the profile's, then the Manager's.
func (m *Manager) lifetime(q asked, p sandboxer.Profile) time.Duration {
	switch {
	case q.TTL != 0:
		return q.TTL
	case p.TTL != 0:
		return p.TTL
	}
	return m.cfg.DefaultTTL
}

// quote prices p over its lifetime, or over an hour where it has none; nil where nobody bills.
func (m *Manager) quote(ctx context.Context, x *extension, p *sandboxer.Profile) (*estimate, error) {
	meter, ok := sandboxer.As[sandboxer.Meterer](x.ext)
	if !ok {
		return nil, nil
	}
	d := p.TTL
	if d <= 0 {
		d = time.Hour
	}
	var q sandboxer.MeterQuote
	err := m.call(ctx, sandboxer.Call{Op: sandboxer.OpEstimateCost, Extension: x.id, Profile: p.ID}, func(ctx context.Context) (err error) {
		q, err = meter.EstimateCost(ctx, own.Profile(*p), d)
		return err
	})
	if err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), fmt.Errorf("the cost of %s cannot be estimated: %w", p.ID, err))
	}
	return m.recipes.quote(x.id, p, q), nil
}

// affordable refuses a place that costs more than who allows, or whose cost has no end.
func (s *stop) affordable(most sandboxer.Money, who string) error {
	q := s.quote
	if q == nil {
		return nil
	}
	if s.profile.TTL == sandboxer.NoTTL {
		return sandboxer.Refused(sandboxer.BudgetExceeded, fmt.Errorf("a sandbox of %s without a time to live has no greatest cost, and %s allows %v; set CreateRequest.TTL", s.profile.ID, who, most))
	}
	c, err := q.Total.Cmp(most)
	if err != nil {
		return err
	}
	if c > 0 {
		return sandboxer.Refused(sandboxer.BudgetExceeded, fmt.Errorf("it would cost %v over %v, and %s allows %v", q.Total, q.For, who, most))
	}
	return nil
}

// Quote is what a sandbox would cost at one place it could go to.
type Quote struct {
	Profile, Extension, Host string
	sandboxer.MeterQuote            // zero where nobody bills
	Skipped                  string // why a create would not go there; "": it would
}

// Estimate prices req at every place that it could go to, in the order in which they would be tried. It creates and stores
// nothing. The errors are those of Create for a request that cannot be served anywhere.
func (m *Manager) Estimate(ctx context.Context, req sandboxer.CreateRequest) ([]Quote, error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return nil, wrap("estimate", nil, err)
	}
	defer done()
	q, err := m.asked(req)
	if err != nil {
		return nil, wrap("estimate", nil, err)
	}
	unlimited := q
	unlimited.MaxCost = nil // a place that is too dear is listed, with its price
	snap, release, err := m.restoring(ctx, q)
	if err != nil {
		return nil, wrap("estimate", nil, err)
	}
	defer release()
	var out []Quote
	var tried []error
	passed := func(profile, extension string, err error) {
		out = append(out, Quote{Profile: profile, Extension: extension, Skipped: err.Error()})
		tried = append(tried, skippedError(profile, err))
	}
	first, err := m.firstStop(ctx, unlimited, snap)
	if err == nil {
		out, err = m.quotesAt(ctx, first, q)
	}
	if err != nil {
		if !first.bursts(ctx, err) {
			return nil, wrap("estimate", nil, err)
		}
		passed(first.profile.ID, first.profile.Extension, err)
	}
	if b := first.profile.Burst; b != nil {
		for _, t := range b.To {
			s, no := m.burstStop(ctx, unlimited, first.profile, t, snap)
			if no != nil {
				passed(no.profile, no.extension, no.err)
				continue
			}
			more, err := m.quotesAt(ctx, s, q)
			if err != nil {
				passed(t.Profile, s.ext.id, err)
				continue
			}
			out = append(out, more...)
		}
	}
	if len(tried) == len(out) {
		return nil, wrap("estimate", nil, (&creation{tried: tried}).explain(ctx))
	}
	return out, nil
}

func (m *Manager) quotesAt(ctx context.Context, s *stop, q asked) ([]Quote, error) {
	hosts, err := m.places(ctx, s.ext, s.profile, s.pin)
	if err != nil {
		return nil, err
	}
	full, err := m.full(ctx, hosts)
	if err != nil {
		return nil, err
	}
	var out []Quote
	for i, h := range hosts {
		e := Quote{Profile: s.profile.ID, Extension: s.ext.id, Host: h.ID}
		if full[i] != nil {
			e.Skipped = full[i].Error()
		}
		if s.quote != nil {
			e.MeterQuote = s.quote.MeterQuote
			e.Lines = slices.Clone(e.Lines) // the caller's own
		}
		if q.MaxCost != nil {
			if err := s.affordable(*q.MaxCost, "CreateRequest.MaxCost"); err != nil {
				e.Skipped = err.Error()
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// asked validates a request and keeps what makes it the same as another.
func (m *Manager) asked(req sandboxer.CreateRequest) (asked, error) {
	var problems []error
	if req.Profile == "" {
		problems = append(problems, errors.New("CreateRequest.Profile is empty; name one of the registry's profiles"))
	}
	if req.ID != "" {
		problems = append(problems, req.ID.Validate())
	}
	problems = append(problems, req.Consumer.Validate(), sandboxer.ValidateLabels(req.Labels))
	if req.TTL < 0 && req.TTL != sandboxer.NoTTL {
		problems = append(problems, fmt.Errorf("CreateRequest.TTL is negative: %v; sandboxer.NoTTL is none", req.TTL))
	}
	if req.TTL > 0 && req.TTL < minTTL {
		problems = append(problems, fmt.Errorf("CreateRequest.TTL is %v; a time.Duration counts nanoseconds: did you mean %d*time.Second?", req.TTL, int64(req.TTL)))
	}
	if req.TTL > maxTTL {
		problems = append(problems, fmt.Errorf("CreateRequest.TTL is %v; the longest is %v, and sandboxer.NoTTL is none", req.TTL, maxTTL))
	}
	if err := errors.Join(problems...); err != nil {
		return asked{}, sandboxer.Refused(sandboxer.InvalidArgument, err)
	}
	q, err := asked{
		Profile: req.Profile, Consumer: req.Consumer, Inputs: req.Inputs, Host: req.Host, TTL: req.TTL,
		FromSnapshot: req.FromSnapshot, Labels: req.Labels, MaxCost: req.MaxCost,
	}.freeze()
	if err != nil {
		return q, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("CreateRequest.Inputs hold something that does not encode as JSON: %w", err))
	}
	return q, nil
}

// minTTL is below every time to live that anybody means.
const minTTL = time.Millisecond

const maxTTL = 10 * 365 * 24 * time.Hour
