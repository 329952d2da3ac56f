package manager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// spot is what answers, or does not, for itself: an extension, or one of its hosts.
type spot struct{ extension, host string }

func (a *attempt) spot() spot { return spot{a.Extension, a.Host} }

// bySpot collects work that waits for backends. Spots are worked on beside each other, so that one that is dead keeps no
// other waiting; and once a call of a spot went unanswered the rest of its work is left for another time.
type bySpot struct {
	each int // how much of one spot's work is done at once
	work map[spot][]func(context.Context) error
}

func newBySpot(each int) *bySpot {
	return &bySpot{each: each, work: map[spot][]func(context.Context) error{}}
}

func (b *bySpot) add(s spot, f func(context.Context) error) { b.work[s] = append(b.work[s], f) }

// run does all the work and joins its errors.
func (b *bySpot) run(ctx context.Context) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, work := range b.work {
		all.Go(func() {
			one := &parallel{slots: make(chan struct{}, b.each)}
			for _, f := range work {
				one.do(func() error {
					if ctx.Err() != nil || one.unanswered() {
						return nil
					}
					return f(ctx)
				})
			}
			if err := one.wait(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// busySpots keeps backends that do not answer from holding all who remove what is due: of such a spot only a few removals run
// at once, until one is answered or some time has passed.
type busySpots struct {
	mu sync.Mutex
	at map[spot]*busySpot
}

type busySpot struct {
	running    int
	silentTill time.Time
}

const (
	silentMost = 4                // removals at once where nobody answers
	silentFor  = 2 * time.Minute  // behind one that was not answered
	spotPause  = 30 * time.Second // how long, and up to twice that, a removal waits for another look
)

// enter counts a removal in, unless the spot has as many as it may.
func (b *busySpots) enter(s spot) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = map[spot]*busySpot{}
	}
	at := b.at[s]
	if at == nil {
		at = &busySpot{}
		b.at[s] = at
	}
	if at.running >= silentMost && time.Now().Before(at.silentTill) {
		return false
	}
	at.running++
	return true
}

// leave counts it out, with what became of it.
func (b *busySpots) leave(s spot, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at[s]
	at.running--
	switch {
	case unanswered(err):
		at.silentTill = time.Now().Add(silentFor)
	case err == nil:
		at.silentTill = time.Time{}
	}
	if at.running == 0 && at.silentTill.IsZero() {
		delete(b.at, s)
	}
}

// unanswered reports whether a function failed because nobody answered.
func (p *parallel) unanswered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.errs, unanswered)
}

func unanswered(err error) bool {
	return errors.Is(err, sandboxer.DeadlineExceeded) || errors.Is(err, sandboxer.Unavailable)
}

// byName orders what a reap reports, whichever backend answered first.
func byName(a, b Reaped) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Extension, b.Extension), cmp.Compare(a.Host, b.Host))
}
