package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// creation takes one record from nothing to ready, place by place.
type creation struct {
	m       *Manager
	r       *record
	first   *stop
	snap    *snapshotRecord
	targets int       // burst targets looked at so far
	slowAt  time.Time // when the first choice has had its time; zero: it has as long as it needs
	tried   []error   // why each place did not serve, in order
	own     func()    // called once an intent of it stands in the store
	begun   bool      // an attempt of this call stands in the store
	// doubtful: the last attempt was torn down by name, and nobody can look whether its backend makes it after that. Another
	// place would be a second one that is paid for.
	doubtful bool
	pending  []store.Mutation // what closes the last attempt, in the commit that opens the next or ends the sandbox
}

func (c *creation) run(ctx context.Context) error {
	if b := c.first.profile.Burst; b != nil && b.Within > 0 {
		c.slowAt = time.Now().Add(b.Within)
	}
	s := c.first
	if len(c.tried) > 0 {
		s = c.next(ctx) // it is passed over
	}
	for ; s != nil; s = c.next(ctx) {
		err := c.at(ctx, s)
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil || !c.movesOn(err) {
			break
		}
	}
	return c.fail(ctx)
}

// final reports whether err leaves the record to somebody else: to the retries of a removal, to another process, or to the
// look at a store that did not answer.
func final(err error) bool {
	var orphan *sandboxer.OrphanError
	return errors.As(err, &orphan) || errors.Is(err, errRaced) || isUnsure(err)
}

// movesOn reports whether the policy tries another place after err.
func (c *creation) movesOn(err error) bool {
	return !c.doubtful && (errors.Is(err, errSlow) || movesOn(c.first.profile.Burst, err))
}

// next finds the next place of the burst policy; those that cannot serve are noted and passed over.
func (c *creation) next(ctx context.Context) *stop {
	b := c.first.profile.Burst
	for b != nil && c.targets < len(b.To) && ctx.Err() == nil {
		t := b.To[c.targets]
		c.targets++
		s, no := c.m.burstStop(ctx, c.r.Asked, c.first.profile, t, c.snap)
		if no == nil {
			return s
		}
		c.passOver(no.profile, no.extension, no.err)
	}
	return nil
}

// passOver notes a place that cannot serve, whatever its hosts say.
func (c *creation) passOver(profile, extension string, err error) {
	c.skipped(profile, extension, "", err)
	c.tried = append(c.tried, skippedError(profile, err))
}

func skippedError(profile string, err error) error { return fmt.Errorf("%s skipped: %w", profile, err) }

func (c *creation) more() bool {
	b := c.first.profile.Burst
	return b != nil && c.targets < len(b.To)
}

// skipped notes a place where nothing was begun.
func (c *creation) skipped(profile, extension, host string, err error) {
	at := now()
	c.r.remember(attempt{Attempt: sandboxer.Attempt{
		Profile: profile, Extension: extension, Host: host, StartedAt: at, EndedAt: at,
		Code: sandboxer.CodeOf(err), Reason: err.Error(),
	}})
}

// at tries one stop, host by host.
func (c *creation) at(ctx context.Context, s *stop) error {
	failed := func(where string, err error) {
		c.tried = append(c.tried, fmt.Errorf("%s at %s%s: %w", s.profile.ID, s.ext.id, where, err))
	}
	hosts, err := c.m.places(ctx, s.ext, s.profile, s.pin)
	if err != nil {
		failed("", err)
		return err
	}
	for i, h := range hosts {
		last := i == len(hosts)-1
		err = c.on(ctx, s, h, last && !c.more())
		if err == nil || final(err) {
			return err
		}
		where := ""
		if h.ID != "" {
			where = " on " + h.ID
		}
		failed(where, err)
		if ctx.Err() != nil || errors.Is(err, errSlow) || !c.movesOn(err) || !c.clean() {
			return err
		}
	}
	return err
}

// clean reports whether nothing is left of what was begun so far.
func (c *creation) clean() bool {
	return c.r.State == "" || c.r.State == sandboxer.StateFailed || c.r.State == stateBetween
}

// stateBetween marks a record in memory whose last attempt is closed and whose next is not open. It is never stored.
const stateBetween sandboxer.State = "between attempts"

// on tries one host. Where the attempt's name was taken as an ID in the last moment, the next name is.
func (c *creation) on(ctx context.Context, s *stop, h sandboxer.Host, last bool) error {
	err := errNameTaken
	for tries := 0; errors.Is(err, errNameTaken) && tries < 10; tries++ {
		err = c.attempt(ctx, s, h, last)
	}
	return err
}

// errNameTaken: an ID that is the attempt's name, or whose attempt's name is this ID, came into the store meanwhile.
var errNameTaken = sandboxer.Refused(sandboxer.Aborted, errors.New("other sandboxes take the names of its attempts; try again, with an ID of NewID"))

// attempt opens one attempt at one host and makes it ready.
func (c *creation) attempt(ctx context.Context, s *stop, h sandboxer.Host, last bool) error {
	guards, n, err := c.number(ctx)
	if err != nil {
		return err
	}
	a := attempt{
		Attempt: sandboxer.Attempt{
			N: n, Name: sandboxer.HandleRef{ID: c.r.ID, Attempt: n}.Name(), Profile: s.profile.ID,
			Extension: s.ext.id, Host: h.ID, Payer: s.payer, StartedAt: now(),
		},
		Recipe: c.m.recipes.recipe(s, s == c.first && len(c.r.Asked.Inputs) == 0), Place: h.ID,
	}
	var expires time.Time
	if s.profile.TTL > 0 {
		expires = a.StartedAt.Add(s.profile.TTL)
		a.Deadline = expires.Add(margin)
	}
	before := *c.r
	t := &try{c: c, s: s, host: h, a: c.r.remember(a), last: last}
	if err := t.preflight(ctx); err != nil {
		c.r.Attempts = before.Attempts
		c.skipped(s.profile.ID, s.ext.id, h.ID, err)
		return err
	}
	muts := append(guards, takePlace(h)...)
	muts = append(muts, c.pending...)
	c.r.State, c.r.Code, c.r.Reason, c.r.CauseCode, c.r.Cause = sandboxer.StateProvisioning, "", "", "", ""
	c.r.EndedAt, c.r.Quote, c.r.ExpiresAt = time.Time{}, s.quote, expires
	if c.r.CreatedAt.IsZero() {
		c.r.CreatedAt = a.StartedAt
	}
	point := "C1"
	if c.begun {
		point = "A"
	}
	if err := c.m.save(ctx, point, c.r, muts...); err != nil {
		known, saved := c.r.standing, c.r.saved
		*c.r = before
		c.r.standing, c.r.saved = known, saved
		return c.notOpened(s, h, err)
	}
	c.pending = nil
	c.begun = true
	c.own()
	return t.run(ctx)
}

// notOpened explains why the intent could not be stored.
func (c *creation) notOpened(s *stop, h sandboxer.Host, err error) error {
	var se *store.Error
	switch {
	case errors.As(err, &se) && se.Key.Kind == kindPlace && errors.Is(err, sandboxer.ResourceExhausted):
		full := sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("host %s is full (%d sandboxes)", h.ID, h.MaxSandboxes))
		c.skipped(s.profile.ID, s.ext.id, h.ID, full)
		return full
	case se != nil && se.Key.Kind == kindSandbox && se.Key != sandboxKey(c.r.ID) && errors.Is(err, sandboxer.Aborted):
		return errNameTaken
	case errors.Is(err, sandboxer.Aborted):
		return errRaced
	}
	return sandboxer.Refused(codeOr(err, sandboxer.Unavailable), fmt.Errorf("nothing was created, because the intent could not be stored: %w", err))
}

// maxNumber is how many attempts one sandbox may have: their numbers are in names of three digits.
const maxNumber = 999

// number picks the next attempt's number. Its name must be no other sandbox's ID, and the ID no other's attempt: the
// commit that opens it checks what is read here.
func (c *creation) number(ctx context.Context) ([]store.Mutation, int, error) {
	var guards []store.Mutation
	n := c.r.lastN() + 1
	if base, k, ok := attemptName(c.r.ID); ok && n == 1 {
		got, err := c.m.cfg.Store.Get(ctx, sandboxKey(base))
		if err != nil {
			return nil, 0, err
		}
		if got[0].Rev != 0 {
			other, err := decodeRecord(got[0])
			if err != nil {
				return nil, 0, err
			}
			if other.had(k) {
				return nil, 0, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the ID %s is the name of the attempt %d of sandbox %s; use another", c.r.ID, k, base))
			}
		}
		guards = append(guards, store.Mutation{Do: store.Check, Key: sandboxKey(base), Expect: got[0].Rev})
	}
	for ; n > 1; n++ {
		if n > maxNumber {
			return nil, 0, sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("%d attempts were made; use a new ID", maxNumber))
		}
		taken := sandboxKey(sandboxer.ID(sandboxer.HandleRef{ID: c.r.ID, Attempt: n}.Name()))
		got, err := c.m.cfg.Store.Get(ctx, taken)
		if err != nil {
			return nil, 0, err
		}
		if got[0].Rev == 0 {
			guards = append(guards, store.Mutation{Do: store.Check, Key: taken, Expect: 0})
			break
		}
	}
	return guards, n, nil
}

// attemptName reports whether id reads like the name of an attempt of another sandbox.
func attemptName(id sandboxer.ID) (base sandboxer.ID, n int, ok bool) {
	i := strings.LastIndexByte(string(id), '-')
	if i <= 0 {
		return "", 0, false
	}
	digits := id[i+1:]
	if len(digits) < 1 || len(digits) > 3 || digits[0] == '0' {
		return "", 0, false // among them all of NewID, at once
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		n = 10*n + int(c-'0')
	}
	if n < 2 || id[:i].Validate() != nil {
		return "", 0, false
	}
	return id[:i], n, true
}

// fail stores the end of a creation that no place could serve, and explains it.
func (c *creation) fail(ctx context.Context) error {
	err := c.explain(ctx)
	if !c.begun {
		return err
	}
	c.r.State, c.r.Code, c.r.Reason, c.r.EndedAt = sandboxer.StateFailed, sandboxer.CodeOf(err), err.Error(), now()
	if saveErr := c.m.save(ctx, "T2", c.r, c.pending...); saveErr != nil {
		return errors.Join(err, fmt.Errorf("nothing is left of it, but that could not be stored, and is tried again: %w", saveErr))
	}
	return err
}

// explain makes one error of all places. Its code is the first's: what the caller would have to mend or to wait for.
func (c *creation) explain(ctx context.Context) error {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		return sandboxer.Mark(codeOr(cause, sandboxer.CodeOf(ctx.Err())), fmt.Errorf("the create was given up, and nothing is left of it: %w", cause))
	}
	if len(c.tried) == 1 {
		return errors.Unwrap(c.tried[0])
	}
	first := c.tried[0]
	all := &sandboxer.Error{Code: sandboxer.CodeOf(first), NothingDone: true, RetryAfter: sandboxer.RetryAfterOf(first)}
	lines := make([]string, len(c.tried))
	for i, err := range c.tried {
		lines[i] = err.Error()
		all.NothingDone = all.NothingDone && sandboxer.IsRefused(err)
	}
	all.Err = &noPlace{lines: lines, errs: c.tried}
	return all
}

// noPlace lists why each place did not serve.
type noPlace struct {
	lines []string
	errs  []error
}

func (e *noPlace) Error() string   { return "no place could serve: " + strings.Join(e.lines, "; ") }
func (e *noPlace) Unwrap() []error { return e.errs }
