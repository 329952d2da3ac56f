// Package store is where a Manager keeps its intents and records. Host applications open one (boltstore.Open, or Memory)
// and hand it to manager.Config; only the manager and the metering package understand what is in it. Authors of other
// stores prove theirs with storetest.
package store

import (
	"context"
	"iter"
)

// Store is a small transactional record store. Safe for concurrent use. An error for which sandboxer.IsRefused reports
// true changed nothing.
type Store interface {
	// Commit applies all mutations or none and is durable when it returns. Not applied: Aborted (a Rev differs) or
	// ResourceExhausted (an Add would pass Max), an *Error naming the Key; InvalidArgument: the mutations themselves are
	// wrong (see Validate); Canceled or DeadlineExceeded: ctx had ended before it began; and everything else that is
	// Refused, a full disk or a closed store. Any other error: unknown, read back. Once begun it ignores ctx. When it has
	// returned it keeps nothing of ms: the caller uses the memory again.
	//
	// rev is the Rev of everything that it put or added to, above all that were given out before. A commit that changes
	// nothing, because it only checks or deletes what is not there, returns the latest Rev.
	Commit(ctx context.Context, ms ...Mutation) (rev int64, err error)
	// Get returns one record for each key, in order and from one consistent view; an absent one has Rev 0. What is
	// returned is the caller's own.
	Get(ctx context.Context, keys ...Key) ([]Record, error)
	// Scan yields the matching records in the order of their IDs, compared byte by byte. Each record is one that was
	// committed; records written while a long scan runs may or may not be seen. The scan holds no lock while the caller
	// works on a record. An error is yielded once, behind the records before it, and ends the scan: InvalidArgument for a
	// query that means nothing, the code of ctx when that ends.
	Scan(ctx context.Context, q Query) iter.Seq2[Record, error]
	// Info describes the store. It is the same for as long as the store exists.
	Info(ctx context.Context) (Info, error)
}

// Claimer is a Store that at most one Manager works with at a time. The stores of this module are; another may be, too.
type Claimer interface {
	// Claim is FailedPrecondition while somebody else has claimed the store. release gives it free.
	Claim() (release func(), err error)
}

// Key names a record. Kinds: sandbox snapshot place session counter outbox.
type Key struct{ Kind, ID string }

func (k Key) String() string { return k.Kind + "/" + k.ID }

// Record is one stored record.
type Record struct {
	Key  Key
	Rev  int64    // set by the store; never reused, not even after Delete
	Tags []string // few, exactly indexed: "live", "tenant=…", "host=…"
	Body []byte
	N    int64 // counters
}

// Verb is what a Mutation does.
type Verb uint8

// The verbs.
const (
	Check  Verb = iota + 1 // nothing, but the commit fails unless Expect stands
	Put                    // write Tags and Body; N stays
	Delete                 // remove, N as well; with AnyRev an absent record is fine
	Add                    // add Delta to N of a counter, which begins at 0; Tags and Body stay
)

// AnyRev as Mutation.Expect accepts whatever stands.
const AnyRev int64 = -1

// Mutation is one change. One commit holds at most one mutation of a key, except that Adds of a key add up: their total is
// what is evaluated, against the smallest Max.
type Mutation struct {
	Do     Verb
	Key    Key
	Expect int64 // Check, Put, Delete: the Rev that must stand; 0 absent, AnyRev
	Tags   []string
	Body   []byte
	Delta  int64 // Add: evaluated when committed, so that counters never collide
	Max    int64 // Add: what N may not pass; 0: no limit. Only a positive Delta is refused
}

// Query selects records for Scan.
type Query struct {
	Kind   string // required
	Prefix string // of the ID
	After  string // only IDs behind this one, for paging
	Tag    string // "": all
	Limit  int    // 0: all
}

// Info describes a store.
type Info struct {
	ID      string // minted with the store: at most 32 lower-case letters and digits, part of every LabelOwner
	Durable bool   // survives the process
	Shared  bool   // several processes may use it at once
}

// Error says which mutation kept a commit from being applied.
type Error struct {
	Key Key
	Err error // carries the code
}

func (e *Error) Error() string { return e.Key.String() + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
