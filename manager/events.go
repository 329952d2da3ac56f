package manager

import (
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// Event is a sandbox that came into another state, or, with Missed, the note that the reader was too slow.
type Event struct {
	At        time.Time          `json:"at"`
	ID        sandboxer.ID       `json:"id"`
	Consumer  sandboxer.Consumer `json:"consumer"`
	Profile   string             `json:"profile"`
	Extension string             `json:"extension"`
	Host      string             `json:"host,omitempty"`
	Was       sandboxer.State    `json:"was,omitempty"` // "" for a new sandbox
	State     sandboxer.State    `json:"state"`
	Reason    string             `json:"reason,omitempty"`
	Missed    int                `json:"missed,omitempty"` // this many events were dropped here; nothing else is set
}

// eventsKept is how many events wait for a slow reader before the oldest are dropped.
const eventsKept = 256

// Subscription receives events until it, or the Manager, is closed.
type Subscription struct {
	filter Filter
	out    chan Event
	wake   chan struct{}
	done   chan struct{}
	once   sync.Once
	from   *broadcast

	mu     sync.Mutex
	queue  []Event
	missed int
}

// Events is closed when the subscription ends. What happened before that and was not read by then is dropped.
func (s *Subscription) Events() <-chan Event { return s.out }

// Close ends the subscription. Closing again does nothing.
func (s *Subscription) Close() {
	s.from.mu.Lock()
	delete(s.from.subs, s)
	s.from.mu.Unlock()
	s.end()
}

func (s *Subscription) end() { s.once.Do(func() { close(s.done) }) }

func (s *Subscription) put(e Event) {
	s.mu.Lock()
	if len(s.queue) == eventsKept {
		s.queue = s.queue[1:]
		s.missed++
	}
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Subscription) take() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missed > 0 {
		e := Event{At: now(), Missed: s.missed}
		s.missed = 0
		return e, true
	}
	if len(s.queue) == 0 {
		return Event{}, false
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e, true
}

func (s *Subscription) pump() {
	defer close(s.out)
	for {
		e, ok := s.take()
		if !ok {
			select {
			case <-s.wake:
				continue
			case <-s.done:
				return
			}
		}
		select {
		case s.out <- e:
		case <-s.done:
			return
		}
	}
}

// broadcast hands events to subscriptions.
type broadcast struct {
	mu     sync.RWMutex
	subs   map[*Subscription]struct{}
	pumps  sync.WaitGroup
	closed bool
}

func newBroadcast() *broadcast { return &broadcast{subs: map[*Subscription]struct{}{}} }

func (b *broadcast) close() {
	b.mu.Lock()
	b.closed = true
	for s := range b.subs {
		s.end()
	}
	b.mu.Unlock()
	b.pumps.Wait()
}

// Subscribe reports every change of state that f matches, from its return on; Filter.States matches the new state. A reader
// that falls more than 256 events behind loses the oldest and is told how many, in an Event with Missed.
func (m *Manager) Subscribe(f Filter) *Subscription {
	b := m.events
	s := &Subscription{filter: f, out: make(chan Event), wake: make(chan struct{}, 1), done: make(chan struct{}), from: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.end()
		close(s.out)
		return s
	}
	b.subs[s] = struct{}{}
	b.pumps.Go(s.pump)
	return s
}

// publish tells the subscriptions about the state of r.
func (m *Manager) publish(r *record) {
	b := m.events
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.subs) == 0 {
		return
	}
	e := Event{At: now(), ID: r.ID, Profile: r.Asked.Profile, Was: r.saved, State: r.State, Reason: r.Reason}
	if a := r.current(); a != nil {
		e.Extension, e.Host = a.Extension, a.Host
	}
	for s := range b.subs {
		if s.filter.matches(r) {
			e.Consumer = own.Consumer(r.Asked.Consumer) // each reader's own
			s.put(e)
		}
	}
}
