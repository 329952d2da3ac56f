package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// What a store takes. The limits are the same for every store, so that a record that fits one fits all.
const (
	MaxKind = 64      // bytes of a Key's Kind
	MaxID   = 512     // bytes of a Key's ID
	MaxTags = 64      // tags of one record
	MaxTag  = 256     // bytes of one tag
	MaxBody = 1 << 20 // bytes of one Body
	// MaxMutations is how many mutations one commit may hold.
	MaxMutations = 4096
)

// Validate reports what is wrong with the mutations of one commit, whatever the store holds: an InvalidArgument, and an
// [*Error] where one key is to blame. Every store's Commit begins with it.
func Validate(ms []Mutation) error {
	if len(ms) == 0 {
		return invalid(errors.New("a commit needs at least one mutation"))
	}
	if len(ms) > MaxMutations {
		return invalid(fmt.Errorf("a commit holds at most %d mutations, and this one has %d: split it", MaxMutations, len(ms)))
	}
	for i := range ms {
		if err := validate(&ms[i]); err != nil {
			return &Error{Key: ms[i].Key, Err: invalid(err)}
		}
	}
	return validateKeysOnce(ms)
}

// validateKeysOnce refuses a second mutation of a key, except that Adds add up.
func validateKeysOnce(ms []Mutation) error {
	if len(ms) == 1 {
		return nil
	}
	twice := func(i int) error {
		return &Error{Key: ms[i].Key, Err: invalid(errors.New("two mutations of one key in one commit: only Adds add up"))}
	}
	if len(ms) <= 16 { // the usual commit: comparing is cheaper than a map
		for i := range ms {
			for j := range i {
				if ms[i].Key == ms[j].Key && (ms[i].Do != Add || ms[j].Do != Add) {
					return twice(i)
				}
			}
		}
		return nil
	}
	seen := make(map[Key]Verb, len(ms))
	for i := range ms {
		if do, ok := seen[ms[i].Key]; ok && (do != Add || ms[i].Do != Add) {
			return twice(i)
		}
		seen[ms[i].Key] = ms[i].Do
	}
	return nil
}

func validate(m *Mutation) error {
	if err := m.Key.Validate(); err != nil {
		return err
	}
	if m.Expect < AnyRev {
		return fmt.Errorf("Expect %d is no Rev: use a Rev that was read, 0 for absent, or AnyRev", m.Expect)
	}
	switch m.Do {
	case Put:
		if err := validateTags(m.Tags); err != nil {
			return err
		}
		if len(m.Body) > MaxBody {
			return fmt.Errorf("a body of %d bytes: at most %d", len(m.Body), MaxBody)
		}
	case Check, Delete, Add:
		if len(m.Tags) > 0 || len(m.Body) > 0 {
			return errors.New("only a Put has Tags and Body")
		}
	default:
		return fmt.Errorf("unknown verb %d: use Check, Put, Delete or Add", m.Do)
	}
	switch {
	case m.Do != Add && (m.Delta != 0 || m.Max != 0):
		return errors.New("only an Add has Delta and Max")
	case m.Do == Add && m.Expect > 0:
		return errors.New("an Add has no Expect: it is evaluated when it is committed; use a commit of its own, or a Put")
	case m.Max < 0:
		return fmt.Errorf("a Max of %d: use 0 for no limit", m.Max)
	}
	return nil
}

// Validate reports what keeps k from naming a record.
func (k Key) Validate() error {
	switch {
	case k.Kind == "":
		return errors.New("the key has no Kind")
	case k.ID == "":
		return errors.New("the key has no ID")
	case len(k.Kind) > MaxKind:
		return fmt.Errorf("a Kind of %d bytes: at most %d", len(k.Kind), MaxKind)
	case len(k.ID) > MaxID:
		return fmt.Errorf("an ID of %d bytes: at most %d", len(k.ID), MaxID)
	case strings.IndexByte(k.Kind, 0) >= 0 || strings.IndexByte(k.ID, 0) >= 0:
		return errors.New("the key holds a NUL byte")
	}
	return nil
}

func validateTags(tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%d tags: at most %d", len(tags), MaxTags)
	}
	for i, tag := range tags {
		switch {
		case tag == "":
			return errors.New("an empty tag")
		case len(tag) > MaxTag:
			return fmt.Errorf("a tag of %d bytes: at most %d", len(tag), MaxTag)
		case strings.IndexByte(tag, 0) >= 0:
			return errors.New("a tag holds a NUL byte")
		}
		for _, other := range tags[:i] {
			if tag == other {
				return fmt.Errorf("tag %q is there twice", tag)
			}
		}
	}
	return nil
}

// Validate reports what is wrong with a query: an InvalidArgument. Every store's Scan begins with it.
func (q Query) Validate() error {
	switch {
	case q.Kind == "":
		return invalid(errors.New("a scan needs the Kind of the records"))
	case q.Limit < 0:
		return invalid(fmt.Errorf("a Limit of %d: use 0 for all", q.Limit))
	}
	for _, s := range []string{q.Kind, q.Prefix, q.After, q.Tag} {
		if strings.IndexByte(s, 0) >= 0 {
			return invalid(errors.New("the query holds a NUL byte"))
		}
	}
	return nil
}

func invalid(err error) error { return sandboxer.Refused(sandboxer.InvalidArgument, err) }
