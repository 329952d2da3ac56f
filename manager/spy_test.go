package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// spy is a store that writes down what is committed, and fails when told to.
type spy struct {
	store.Store
	journal *journal
	durable bool // says that it survives the process, so that Close leaves everything as it is

	mu    sync.Mutex
	wrong []wrong
	blind bool   // nothing can be read
	blink int    // nothing can be read so many times
	look  func() // called before each read
}

// wrong makes commits fail whose description begins with Point.
type wrong struct {
	Point   string // "commit ready"
	Skip    int    // how many pass before it begins
	Times   int    // 0: for ever
	Applied bool   // the commit is applied, and its reply lost
	Err     error
	Blinds  bool   // nothing can be read from then on
	Blinks  bool   // the next read fails
	Before  func() // called before the commit
}

func (s *spy) Info(ctx context.Context) (store.Info, error) {
	i, err := s.Store.Info(ctx)
	i.Durable = i.Durable || s.durable
	return i, err
}

func (s *spy) fail(w wrong) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Times == 0 {
		w.Times = -1
	}
	s.wrong = append(s.wrong, w)
}

// beforeReads has f called before each read from now on.
func (s *spy) beforeReads(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look = f
}

func (s *spy) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong, s.blind = nil, false
}

func (s *spy) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	s.mu.Lock()
	blind := s.blind || s.blink > 0
	s.blink = max(0, s.blink-1)
	look := s.look
	s.mu.Unlock()
	if look != nil {
		look()
	}
	if blind {
		return nil, errDisk
	}
	return s.Store.Get(ctx, keys...)
}

func (s *spy) match(line string) *wrong {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.wrong {
		w := &s.wrong[i]
		if w.Times == 0 || !strings.HasPrefix(line, w.Point) {
			continue
		}
		if w.Skip--; w.Skip < 0 {
			w.Times--
			s.blind = s.blind || w.Blinds
			if w.Blinks {
				s.blink = 1
			}
			hit := *w
			return &hit
		}
	}
	return nil
}

func (s *spy) Commit(ctx context.Context, ms ...store.Mutation) (int64, error) {
	line := describe(ms)
	s.journal.add(line)
	w := s.match(line)
	if w == nil {
		return s.Store.Commit(ctx, ms...)
	}
	if w.Before != nil {
		w.Before()
	}
	if w.Err == nil {
		return s.Store.Commit(ctx, ms...)
	}
	if w.Applied {
		if _, err := s.Store.Commit(ctx, ms...); err != nil {
			return 0, err
		}
	}
	return 0, w.Err
}

// describe puts a commit into words: "commit ready a", "commit provisioning a +h1", "commit gone a -h1 bill a/1".
func describe(ms []store.Mutation) string {
	line := "commit"
	for _, m := range ms {
		switch {
		case m.Do == store.Delete:
			line += " drop " + m.Key.String()
		case m.Do == store.Add:
			line += fmt.Sprintf(" %s%s", map[bool]string{true: "+", false: "-"}[m.Delta > 0], m.Key.ID)
		case m.Key.Kind == "sandbox" && m.Do == store.Put:
			var r struct {
				State sandboxer.State `json:"state"`
			}
			_ = json.Unmarshal(m.Body, &r) // "" says enough
			line += " " + string(r.State) + " " + m.Key.ID
		case m.Key.Kind == "snapshot" && m.Do == store.Put:
			var r struct {
				Snap struct {
					Status string `json:"status"`
				} `json:"snap"`
			}
			_ = json.Unmarshal(m.Body, &r) // "" says enough
			line += " snapshot " + r.Snap.Status + " " + m.Key.ID
		case m.Key.Kind == "outbox":
			line += " bill " + m.Key.ID
		}
	}
	return line
}

// errDisk is what a disk says that nobody understands.
var errDisk = sandboxer.Mark(sandboxer.Unavailable, errors.New("input/output error"))

// errFull is a full disk.
var errFull = sandboxer.Refused(sandboxer.Unavailable, errors.New("no space left on device"))
