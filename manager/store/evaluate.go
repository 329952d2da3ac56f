package store

import (
	"fmt"
	"math"

	"github.com/sand-boxer/sandboxer"
)

// Change is what a commit does to one record.
type Change struct {
	Before Record // Rev 0: there was none
	After  Record // Rev 0: there is none any more
}

// Evaluate decides one commit for the author of a store: given what stands now, either all that has to be written, or
// the reason why nothing may be. The mutations have passed [Validate]; current returns the record that stands, with
// Rev 0 where there is none; next is the Rev that the commit gets if anything changes. A commit that only checks, or that
// deletes what is not there, returns no changes and uses no Rev.
//
// The caller must see to it that nothing changes between current's answer and the writing of the changes. The Tags and
// Body of a Put are handed on, not copied.
func Evaluate(next int64, ms []Mutation, current func(Key) (Record, error)) ([]Change, error) {
	changes := make([]Change, 0, len(ms))
	for i := range ms {
		m := &ms[i]
		if m.Do == Add && addedBefore(ms[:i], m.Key) {
			continue // its Delta is in the first one's total
		}
		before, err := current(m.Key)
		if err != nil {
			return nil, err
		}
		after := before
		after.Key, after.Rev = m.Key, next
		switch m.Do {
		case Put:
			after.Tags, after.Body = m.Tags, m.Body
		case Add:
			if after.N, err = add(before.N, ms[i:], m.Key); err != nil {
				return nil, &Error{Key: m.Key, Err: err}
			}
		default:
			after = Record{Key: m.Key}
		}
		if m.Do != Add && m.Expect != AnyRev && m.Expect != before.Rev {
			return nil, &Error{Key: m.Key, Err: conflict(m.Expect, before.Rev)}
		}
		if m.Do != Check && before.Rev|after.Rev != 0 {
			changes = append(changes, Change{Before: before, After: after})
		}
	}
	return changes, nil
}

func addedBefore(ms []Mutation, k Key) bool {
	for i := range ms {
		if ms[i].Key == k {
			return true
		}
	}
	return false
}

// add evaluates all Adds of k together: their total against the smallest Max, so that their order does not matter.
func add(n int64, ms []Mutation, k Key) (int64, error) {
	var total, limit int64
	for i := range ms {
		m := &ms[i]
		if m.Key != k {
			continue
		}
		sum := total + m.Delta
		if (sum > total) != (m.Delta > 0) && m.Delta != 0 {
			return 0, overflow(total, m.Delta)
		}
		total = sum
		if m.Max > 0 && (limit == 0 || m.Max < limit) {
			limit = m.Max
		}
	}
	if (total > 0 && n > math.MaxInt64-total) || (total < 0 && n < math.MinInt64-total) {
		return 0, overflow(n, total)
	}
	if total > 0 && limit > 0 && n+total > limit {
		return 0, sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("%d and %d more would pass the limit of %d", n, total, limit))
	}
	return n + total, nil
}

func overflow(n, delta int64) error {
	return sandboxer.Refused(sandboxer.ResourceExhausted, fmt.Errorf("%d and %d more does not fit a counter", n, delta))
}

func conflict(want, have int64) error {
	var err error
	switch {
	case want == 0:
		err = fmt.Errorf("it exists already, at rev %d", have)
	case have == 0:
		err = fmt.Errorf("it is gone; rev %d was expected", want)
	default:
		err = fmt.Errorf("it changed meanwhile: at rev %d, not %d; read it again", have, want)
	}
	return sandboxer.Refused(sandboxer.Aborted, err)
}
