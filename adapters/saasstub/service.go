package saasstub

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Service is the pretended service: all that exists, in memory. Safe for concurrent use.
type Service struct {
	mu        sync.Mutex
	sandboxes map[place]*sandbox
	snapshots map[place]*snapshot
	ended     map[place]*sandbox // for their meters
	serial    int
}

// NewService returns one where nothing exists.
func NewService() *Service {
	return &Service{sandboxes: map[place]*sandbox{}, snapshots: map[place]*snapshot{}, ended: map[place]*sandbox{}}
}

// place is what tells resources apart: each extension is an account of its own.
type place struct{ extension, name string }

type sandbox struct {
	ref       sandboxer.HandleRef
	serial    int
	key       string // version of the key that it was made with
	labels    map[string]string
	resources sandboxer.Resources
	inputs    inputs
	created   time.Time
	expires   time.Time
	ended     time.Time
	paused    time.Time // zero while it runs
	idle      time.Duration
	metered   time.Time // the latest moment that a reading has shown
}

type snapshot struct {
	sandboxer.Snapshot
	key    string
	inputs inputs
}

// Live returns the names of all sandboxes and, as "snapshot/<id>", of all snapshots, sorted. A sandbox whose lifetime is
// over is listed until a call notices.
func (s *Service) Live() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for p := range s.sandboxes {
		out = append(out, p.name)
	}
	for p := range s.snapshots {
		out = append(out, "snapshot/"+p.name)
	}
	slices.Sort(out)
	return out
}

// Metadata returns the metadata of the sandbox called name, and whether there is one.
func (s *Service) Metadata(name string) (map[string]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, sbx := range s.sandboxes {
		if p.name == name {
			return maps.Clone(sbx.inputs.Metadata), true
		}
	}
	return nil, false
}

// get returns the sandbox at p that exists now; s.mu is held. One whose lifetime is over ends on the way.
func (s *Service) get(p place, now time.Time) *sandbox {
	sbx := s.sandboxes[p]
	if sbx != nil && !sbx.expires.IsZero() && !now.Before(sbx.expires) {
		s.end(p, sbx.expires)
		return nil
	}
	return sbx
}

// end removes the sandbox at p and keeps what its meter needs; s.mu is held.
func (s *Service) end(p place, at time.Time) {
	sbx := s.sandboxes[p]
	delete(s.sandboxes, p)
	sbx.ended = later(at, sbx.metered) // a clock that went back takes nothing off the bill
	s.ended[p] = sbx
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (s *Service) next() int {
	s.serial++
	return s.serial
}

// ours reports whether what carries labels belongs to who asks with want; a call without an owner matches by name alone.
func ours(labels, want map[string]string) bool {
	owner := want[sandboxer.LabelOwner]
	return owner == "" || labels[sandboxer.LabelOwner] == owner
}

func contains(labels, want map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}
