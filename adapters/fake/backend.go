package fake

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const shardCount = 64

// Backend is where the sandboxes of its adapters live. Safe for concurrent use. It starts no goroutine of its own: what
// runs is a command, and ends with it or with its sandbox.
type Backend struct {
	seed      maphash.Seed
	shards    [shardCount]shard
	uid       atomic.Int64
	behaviour atomic.Pointer[Behaviour]
	quirks    atomic.Pointer[map[Quirk]bool]
	onExec    atomic.Pointer[ExecFunc]
	revoked   sync.Map // key version → true
	capacity  sync.Mutex
	faults    faults
	journal   journal
	metering  sync.Map // extensions that meter: only their sandboxes are remembered when they are gone

	mu        sync.Mutex // of what is below
	snapshots map[key]*snapshot
	meters    map[key]reading // of sandboxes that are gone, where their extension meters
	kept      []Kept          // snapshots that are gone, where their extension meters
}

// New returns an empty backend that keeps every rule of the contract.
func New() *Backend {
	b := &Backend{seed: maphash.MakeSeed(), snapshots: map[key]*snapshot{}, meters: map[key]reading{}}
	for i := range b.shards {
		b.shards[i].byKey = map[key]*sandbox{}
	}
	b.Behave(Behaviour{})
	b.quirks.Store(&map[Quirk]bool{})
	return b
}

// key is where a resource is: two extensions are two accounts, two hosts are two machines.
type key struct{ extension, host, name string }

type shard struct {
	mu    sync.RWMutex
	byKey map[key]*sandbox
}

func (b *Backend) shard(k key) *shard {
	return &b.shards[maphash.String(b.seed, k.name)%shardCount]
}

// sandbox is one resource. Times are in Unix nanoseconds, 0 where there is none. Its shard's lock guards it.
type sandbox struct {
	key     key
	id      sandboxer.ID
	attempt int
	uid     int64
	payer   string // version of the key that it was made with
	labels  labels
	cpu     int64 // thousandths of a CPU
	memory  int64 // bytes

	created int64
	appears int64 // before this nobody sees it
	expires int64
	goneAt  int64 // a teardown that reported success too early

	paused      bool
	pausedAt    int64
	pausedTotal int64

	world *world // made when first needed
}

func (s *sandbox) ref() sandboxer.HandleRef {
	return sandboxer.HandleRef{ID: s.id, Attempt: s.attempt, Extension: s.key.extension, Host: s.key.host}
}

// state is what a handle says of a sandbox.
type state struct {
	UID int64 `json:"uid"`
}

const stateVersion = 1

func (s *sandbox) handle() (sandboxer.Handle, error) {
	return sandboxer.NewHandle(s.ref(), stateVersion, state{UID: s.uid})
}

// labels are kept as a slice: a map for each of a hundred thousand sandboxes is much.
type labels []label
type label struct{ key, value string }

func newLabels(m map[string]string) labels {
	if len(m) == 0 {
		return nil
	}
	out := make(labels, 0, len(m))
	for k, v := range m {
		out = append(out, label{k, v})
	}
	return out
}

func (l labels) get(k string) string {
	for _, x := range l {
		if x.key == k {
			return x.value
		}
	}
	return ""
}

func (l labels) toMap() map[string]string {
	m := make(map[string]string, len(l))
	for _, x := range l {
		m[x.key] = x.value
	}
	return m
}

func (l labels) match(want map[string]string) bool {
	for k, v := range want {
		if l.get(k) != v {
			return false
		}
	}
	return true
}

// ours reports whether what carries l belongs to who asks with want; a call without an owner matches by name alone.
func (l labels) ours(want map[string]string) bool {
	owner := want[sandboxer.LabelOwner]
	return owner == "" || l.get(sandboxer.LabelOwner) == owner
}

// over reports whether s has ended by itself: its lifetime is over, or its late teardown has happened.
func (s *sandbox) over(now int64) bool {
	return s.expires != 0 && now >= s.expires || s.goneAt != 0 && now >= s.goneAt
}

// get returns the sandbox at k that exists now, whether or not it is visible yet; sh is locked for writing. What has ended
// by itself is removed on the way.
func (b *Backend) get(sh *shard, k key, now int64) *sandbox {
	s := sh.byKey[k]
	if s == nil {
		return nil
	}
	if s.over(now) {
		b.remove(sh, s, now)
		return nil
	}
	return s
}

// remove ends s; sh is locked for writing. Its commands are told to stop but not waited for.
func (b *Backend) remove(sh *shard, s *sandbox, now int64) *world {
	if s.expires != 0 && s.expires < now {
		now = s.expires
	}
	if b.metered(s.key.extension) {
		b.mu.Lock()
		b.meters[s.key] = s.reading(now)
		b.mu.Unlock()
	}
	if sh.byKey[s.key] == s {
		delete(sh.byKey, s.key)
	}
	if s.world != nil {
		s.world.end()
	}
	return s.world
}

// Live returns the names of all sandboxes that exist and, as "snapshot/<id>", of all stored snapshots, sorted. Not empty at
// the end of a test: a leak. A sandbox whose native lifetime is over does not exist; one that has yet to appear does.
func (b *Backend) Live() []string {
	now := time.Now().UnixNano()
	var out []string
	b.each(now, func(s *sandbox) { out = append(out, s.key.name) })
	b.mu.Lock()
	for k := range b.snapshots {
		if b.stored(k, now) != nil {
			out = append(out, "snapshot/"+k.name)
		}
	}
	b.mu.Unlock()
	slices.Sort(out)
	return out
}

// each calls f for every sandbox that exists, under its shard's lock.
func (b *Backend) each(now int64, f func(*sandbox)) {
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.RLock()
		for _, s := range sh.byKey {
			if !s.over(now) {
				f(s)
			}
		}
		sh.mu.RUnlock()
	}
}

// Plant puts a resource at the backend that no adapter of this test made: a neighbour's, another store's, or one without
// any labels. It is there to be left alone; [Backend.Live] shows it.
func (b *Backend) Plant(extension, host, name string, labels map[string]string) {
	k := key{extension, host, name}
	ref := refOf(name)
	s := &sandbox{key: k, id: ref.ID, attempt: ref.Attempt, uid: b.uid.Add(1), labels: newLabels(labels), created: time.Now().UnixNano()}
	sh := b.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.byKey[k] = s
}

// Vanish takes a sandbox away behind everybody's back, as a backend's operator or a power cut would. It reports whether
// one of that name existed.
func (b *Backend) Vanish(name string) bool {
	found := false
	now := time.Now().UnixNano()
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		for k, s := range sh.byKey {
			if k.name == name {
				found = true
				b.remove(sh, s, now)
			}
		}
		sh.mu.Unlock()
	}
	return found
}
