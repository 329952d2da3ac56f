package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
)

// bill is the meter record of what a has cost and is in none yet, for the outbox. It belongs into the commit that stores r.
func (m *Manager) bill(ctx context.Context, r *record, a *attempt, reading *sandboxer.MeterReading) ([]store.Mutation, error) {
	if reading == nil {
		return nil, nil
	}
	sound, err := plausible(*reading, a.StartedAt, now())
	if err != nil {
		m.cfg.Logger.WarnContext(ctx, "a meter's reading contradicts itself; its total is billed, marked as an estimate", "extension", a.Extension, "sandbox", a.id(r), "error", err)
	}
	r.Cost = &sound
	if m.cfg.Meter == nil {
		return nil, nil
	}
	rest, all, err := unbilled(a.Billed, sound)
	if err != nil {
		m.cfg.Logger.WarnContext(ctx, "a meter contradicts what is billed already", "extension", a.Extension, "sandbox", a.id(r), "error", err)
	}
	if a.Billed != nil && !rest.To.After(rest.From) && rest.Total.Nanos() == 0 {
		return nil, nil
	}
	since := keyTime(a.StartedAt) // its ID, and so its name, may be used again once its record is dropped
	if r.Stray != nil {
		since = string(r.ID) // which is made of when it was created, and where
	}
	a.Billed = &all
	a.Bills++
	out, err := metering.Outbox(metering.Record{
		Key: fmt.Sprintf("%s/%s/%d", a.Name, since, a.Bills), Sandbox: a.id(r), Attempt: a.N, Profile: a.Profile,
		Extension: a.Extension, Host: a.Host, Consumer: r.Asked.Consumer, Payer: a.Payer, From: rest.From, To: rest.To,
		Lines: rest.Lines, Total: rest.Total, Final: true, Estimated: rest.Estimated,
	})
	if err != nil {
		return nil, err
	}
	return []store.Mutation{out}, nil
}

// keyTime is a time as a part of a key.
func keyTime(t time.Time) string { return t.UTC().Format("20060102T150405.000000000Z") }

// plausible makes a reading of a sandbox that was begun at start one that can be stored and believed: what cannot be is
// replaced, the reading says that it is an estimate, and the error says why. Its Total is never changed, but for one that was
// forgotten.
func plausible(r sandboxer.MeterReading, start, now time.Time) (sandboxer.MeterReading, error) {
	var odd []error
	from, to := r.From.Round(0).UTC(), r.To.Round(0).UTC()
	if !datable(from) || !datable(to) || to.Before(from) || from.After(now.Add(clockSkew)) {
		odd = append(odd, fmt.Errorf("it is of %v to %v", r.From, r.To))
		from, to = start, start
		if now.After(start) {
			to = now
		}
	}
	r.From, r.To = from, to
	if len(r.Lines) > 0 {
		sum, err := sandboxer.SumLines(r.Lines)
		c := 0
		if err == nil {
			c, err = sum.Cmp(r.Total)
		}
		if err != nil {
			odd = append(odd, err)
		} else if c != 0 {
			odd = append(odd, fmt.Errorf("its total is %v, and its lines add up to %v", r.Total, sum))
		}
		if err == nil && r.Total.IsZero() {
			r.Total = sum
		}
	}
	if r.Total.Nanos() < 0 {
		odd = append(odd, fmt.Errorf("its total is %v", r.Total))
	}
	r.Estimated = r.Estimated || len(odd) > 0
	return r, errors.Join(odd...)
}

// datable reports whether t is a time that a backend can mean, and that JSON can hold.
func datable(t time.Time) bool { return !t.IsZero() && t.Year() >= 1 && t.Year() <= 9999 }

// unbilled is what a cumulative reading says beyond what was billed before, and what is billed when that is. Both together
// are exactly the reading, with two exceptions. Less than was billed is given back only where that was an estimate and this
// is none. What is in another currency cannot be told apart: all of it is billed. The error explains either.
func unbilled(billed *sandboxer.MeterReading, now sandboxer.MeterReading) (rest, all sandboxer.MeterReading, err error) {
	if billed == nil {
		return now, now, nil
	}
	rest, all = now, now
	if rest.From.Before(billed.To) {
		rest.From = billed.To
	}
	if rest.To.Before(rest.From) {
		rest.To, all.To = rest.From, rest.From
	}
	if rest.Total, err = now.Total.Sub(billed.Total); err != nil {
		rest.Total, rest.Estimated = now.Total, true
		return rest, all, err
	}
	if rest.Total.Nanos() < 0 && (now.Estimated || !billed.Estimated) {
		err = fmt.Errorf("%v is less than %v, which is billed", now.Total, billed.Total)
		all.Total, all.Lines = billed.Total, billed.Lines
		rest.Total, rest.Lines, rest.Estimated = sandboxer.Money{}, nil, true
		return rest, all, err
	}
	rest.Lines = lessLines(now.Lines, billed.Lines)
	if sum, err := sandboxer.SumLines(rest.Lines); err != nil || sum.Nanos() != rest.Total.Nanos() {
		rest.Lines = nil // its total says it
	}
	return rest, all, nil
}

// lessLines is what lines count beyond billed, item by item; nil where billed has something that they have not.
func lessLines(lines, billed []sandboxer.MeterLine) []sandboxer.MeterLine {
	type kind struct {
		item, unit string
		price      sandboxer.Money
	}
	less := map[kind]sandboxer.MeterLine{}
	for _, b := range billed {
		k := kind{b.Item, b.Unit, b.UnitPrice}
		if _, twice := less[k]; twice {
			return nil
		}
		less[k] = b
	}
	var out []sandboxer.MeterLine
	for _, l := range lines {
		k := kind{l.Item, l.Unit, l.UnitPrice}
		if b, ok := less[k]; ok {
			delete(less, k)
			amount, err := l.Amount.Sub(b.Amount)
			if err != nil || amount.Nanos() < 0 || b.Micros < 0 || l.Micros < b.Micros {
				return nil
			}
			l.Micros, l.Amount = l.Micros-b.Micros, amount
		}
		if l.Micros != 0 || l.Amount.Nanos() != 0 {
			out = append(out, l)
		}
	}
	if len(less) > 0 {
		return nil
	}
	return out
}
