package manager

import (
	"sync"
	"time"
)

// job says what is due at an instant.
type job uint8

const (
	jobExpire   job = iota // a sandbox's time is over
	jobRetry               // a removal is to be tried again
	jobSnapshot            // a snapshot's time is over, or its removal is to be tried again
)

// entry is one instant of one sandbox; small, because there may be millions. An entry that no longer holds is not removed:
// whoever handles it reads the record and sees.
type entry struct {
	at  int64 // Unix nanoseconds
	id  string
	job job
}

// maxWorkers bounds how many due jobs run at once. They mostly wait for backends.
const maxWorkers = 64

// schedule is one heap and one timer for everything that is due later, and a bounded pool for what is due now.
type schedule struct {
	handle func(job, string)
	group  *sync.WaitGroup

	mu      sync.Mutex
	heap    []entry
	timer   *time.Timer
	timerAt int64
	workers int
	stopped bool
}

func newSchedule(group *sync.WaitGroup, handle func(job, string)) *schedule {
	return &schedule{handle: handle, group: group}
}

// add arms an entry.
func (s *schedule) add(at time.Time, j job, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.push(entry{at: at.UnixNano(), id: id, job: j})
	s.wake()
}

// stop ends the timer and keeps workers from taking more. The group waits for those that run.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.heap = nil
	if s.timer != nil {
		s.timer.Stop()
	}
}

// wake starts workers for what is due and sets the timer to what is next. With s.mu held.
func (s *schedule) wake() {
	if s.stopped || len(s.heap) == 0 {
		return
	}
	wait := s.heap[0].at - time.Now().UnixNano()
	if wait <= 0 {
		if s.workers < maxWorkers {
			s.workers++
			s.group.Add(1)
			go s.worker()
		}
		return
	}
	switch {
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Duration(wait), s.fire)
	case s.timerAt != s.heap[0].at:
		s.timer.Reset(time.Duration(wait))
	}
	s.timerAt = s.heap[0].at
}

func (s *schedule) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timerAt = 0
	s.wake()
}

// worker handles due entries until there are none, and calls in another worker while there are more.
func (s *schedule) worker() {
	defer s.group.Done()
	left := false
	defer func() {
		if !left { // a call ended the goroutine
			s.mu.Lock()
			s.leave()
			s.mu.Unlock()
		}
	}()
	for {
		s.mu.Lock()
		if s.stopped || len(s.heap) == 0 || s.heap[0].at > time.Now().UnixNano() {
			left = true
			s.leave()
			s.mu.Unlock()
			return
		}
		e := s.pop()
		s.wake()
		s.mu.Unlock()
		s.handle(e.job, e.id)
	}
}

// leave takes a worker out. With s.mu held.
func (s *schedule) leave() {
	s.workers--
	s.timerAt = 0
	s.wake()
}

func (s *schedule) push(e entry) {
	s.heap = append(s.heap, e)
	for i := len(s.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if s.heap[parent].at <= s.heap[i].at {
			return
		}
		s.heap[parent], s.heap[i] = s.heap[i], s.heap[parent]
		i = parent
	}
}

func (s *schedule) pop() entry {
	top := s.heap[0]
	last := len(s.heap) - 1
	s.heap[0] = s.heap[last]
	s.heap[last] = entry{}
	s.heap = s.heap[:last]
	for i := 0; ; {
		least := 2*i + 1
		if least >= last {
			return top
		}
		if right := least + 1; right < last && s.heap[right].at < s.heap[least].at {
			least = right
		}
		if s.heap[i].at <= s.heap[least].at {
			return top
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}
