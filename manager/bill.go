package manager

import (
	"context"
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
	r.Cost = reading
	if m.cfg.Meter == nil {
		return nil, nil
	}
	rest, all, err := unbilled(a.Billed, *reading)
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
		rest.Lines = totalLine(rest.Total)
	}
	return rest, all, nil
}

// totalLine stands for lines that are not known, or not kept: they add up to the total.
func totalLine(total sandboxer.Money) []sandboxer.MeterLine {
	if total.Nanos() == 0 {
		return nil
	}
	return []sandboxer.MeterLine{{Item: "total", Unit: "record", Micros: 1_000_000, UnitPrice: total, Amount: total}}
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
