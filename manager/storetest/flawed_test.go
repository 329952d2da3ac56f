package storetest

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// flawed is a store made of the model, with one flaw.
type flawed struct {
	flaw flaw
	id   string

	mu     sync.RWMutex
	m      *model
	before *model // as it was one commit ago
	failed bool   // the last commit
	gets   int
	ever   map[store.Key][]string // every tag that a record ever had
}

type flaw string

var ids struct {
	sync.Mutex
	n int
}

func newFlawed(f flaw) *flawed {
	s := &flawed{flaw: f, m: newModel(), before: newModel(), ever: make(map[store.Key][]string), id: "same"}
	if f != "all stores have one ID" {
		ids.Lock()
		defer ids.Unlock()
		ids.n++
		s.id = "id" + string(rune('a'+ids.n%26)) + string(rune('a'+ids.n/26%26)) + string(rune('a'+ids.n/676%26))
	}
	return s
}

// yield lets the other callers in.
func yield() {
	for range 20 {
		runtime.Gosched()
	}
}

func refuse(code sandboxer.Code, k store.Key) error {
	return &store.Error{Key: k, Err: sandboxer.Refused(code, errors.New("refused"))}
}

func (s *flawed) Commit(ctx context.Context, ms ...store.Mutation) (int64, error) {
	if err := ctx.Err(); err != nil && s.flaw != "an ended context commits" {
		return 0, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if s.flaw == "what comes before a wrong mutation is applied" {
		for i := range ms {
			if err := store.Validate(ms[i : i+1]); err != nil {
				_, _ = s.commit(ms[:i])
			}
		}
	}
	if err := store.Validate(ms); err != nil {
		return 0, err
	}
	switch s.flaw {
	case "Expect is ignored":
		ms = slices.Clone(ms)
		for i := range ms {
			if ms[i].Do != store.Add {
				ms[i].Expect = store.AnyRev
			}
		}
	case "Expect is compared before the lock is taken":
		s.mu.RLock()
		code, _ := s.m.clone().commit(ms)
		s.mu.RUnlock()
		yield()
		if code == "" {
			ms = slices.Clone(ms)
			for i := range ms {
				if ms[i].Do != store.Add {
					ms[i].Expect = store.AnyRev
				}
			}
		}
	case "counters collide":
		if !s.mu.TryLock() {
			return 0, refuse(sandboxer.Aborted, ms[0].Key)
		}
		yield()
		s.mu.Unlock()
	case "bodies over 64 KiB are refused":
		for _, mu := range ms {
			if len(mu.Body) > 64<<10 {
				return 0, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("too large"))
			}
		}
	}
	return s.commit(ms)
}

func (s *flawed) commit(ms []store.Mutation) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.m
	switch s.flaw {
	case "Get is sometimes late", "a restart forgets the last commit", "a conflict fails the next commit too",
		"only the last Add of a key counts":
		before = s.m.clone()
	}
	code, keys := s.m.commit(ms)
	if s.flaw == "a conflict fails the next commit too" && s.failed && len(keys) == 0 {
		s.m, s.failed = before, false
		return 0, refuse(sandboxer.Aborted, ms[0].Key)
	}
	if len(keys) > 0 {
		if s.failed = true; s.flaw == "what comes before a conflict is applied" {
			for i := range ms {
				if c, _ := s.m.commit(ms[i : i+1]); c != "" {
					break
				}
			}
		}
		if code == "" {
			code = sandboxer.Aborted
		}
		if s.flaw == "a conflict names no key" {
			return 0, sandboxer.Refused(code, errors.New("refused"))
		}
		return 0, refuse(code, keys[0])
	}
	s.before = before
	for _, mu := range ms {
		s.spoil(mu, before.records[mu.Key])
	}
	if s.flaw == "Commit returns another Rev" {
		return s.m.rev + 1, nil
	}
	return s.m.rev, nil
}

// spoil applies the flaws that show in the records.
func (s *flawed) spoil(mu store.Mutation, before store.Record) {
	r, there := s.m.records[mu.Key]
	if there {
		s.ever[mu.Key] = append(s.ever[mu.Key], mu.Tags...)
	}
	switch {
	case mu.Do == store.Put && s.flaw == "bodies are shared with the caller":
		r.Body = mu.Body
	case mu.Do == store.Put && s.flaw == "Put sets N to 0":
		r.N = 0
	case mu.Do == store.Add && s.flaw == "only the last Add of a key counts":
		r.N = before.N + mu.Delta
	case mu.Do == store.Add && s.flaw == "a counter stops at 4":
		r.N = min(r.N, 4)
	case mu.Do == store.Delete && s.flaw == "a Rev is free again after Delete":
		s.m.rev = 0
		for _, other := range s.m.records {
			s.m.rev = max(s.m.rev, other.Rev)
		}
	}
	if there {
		s.m.records[mu.Key] = r
	}
}

func (s *flawed) Get(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, sandboxer.Refused(sandboxer.CodeOf(err), err)
	}
	if s.flaw == "Get sorts its answers" {
		slices.SortFunc(keys, func(a, b store.Key) int { return len(a.ID) - len(b.ID) })
	}
	var out []store.Record
	if s.flaw != "Get reads key by key" {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	from := s.m
	if s.gets++; s.flaw == "Get is sometimes late" && s.gets%5 == 0 {
		from = s.before
	}
	for _, k := range keys {
		if s.flaw == "Get reads key by key" {
			s.mu.RLock()
		}
		r := from.get(k)
		if s.flaw != "bodies are shared with the caller" {
			r.Body, r.Tags = slices.Clone(r.Body), slices.Clone(r.Tags)
		}
		out = append(out, r)
		if s.flaw == "Get reads key by key" {
			s.mu.RUnlock()
			yield()
		}
	}
	return out, nil
}

func (s *flawed) Scan(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := q.Validate()
		if ctx.Err() != nil {
			err = sandboxer.Refused(sandboxer.CodeOf(ctx.Err()), ctx.Err())
		}
		if err != nil {
			if s.flaw != "a bad query finds nothing" {
				yield(store.Record{}, err)
			}
			return
		}
		s.mu.RLock()
		page := s.scan(q)
		if s.flaw == "Scan holds its lock" {
			defer s.mu.RUnlock()
		} else {
			s.mu.RUnlock()
		}
		for _, r := range page {
			r.Body, r.Tags = slices.Clone(r.Body), slices.Clone(r.Tags)
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *flawed) scan(q store.Query) []store.Record {
	limit, after := q.Limit, q.After
	switch s.flaw {
	case "After includes its ID":
		q.After = ""
		q.Limit = 0
		page := slices.DeleteFunc(s.m.scan(q), func(r store.Record) bool { return r.Key.ID < after })
		if limit > 0 && len(page) > limit {
			page = page[:limit]
		}
		return page
	case "old tags are still indexed":
		tag := q.Tag
		q.Tag = ""
		return slices.DeleteFunc(s.m.scan(q), func(r store.Record) bool { return tag != "" && !slices.Contains(s.ever[r.Key], tag) })
	case "a scan ends after 1000 records":
		if page := s.m.scan(q); len(page) > 1000 {
			return page[:1000]
		}
	case "Limit is applied before After":
		q.After, q.Limit = "", 0
		page := s.m.scan(q)
		if limit > 0 && len(page) > limit+400 {
			page = page[:limit+400]
		}
		return slices.DeleteFunc(page, func(r store.Record) bool { return after != "" && r.Key.ID <= after })
	}
	return s.m.scan(q)
}

func (s *flawed) Info(ctx context.Context) (store.Info, error) {
	return store.Info{ID: s.id, Durable: true}, ctx.Err()
}

// reopen is what a restart leaves of a flawed store.
func (s *flawed) reopen() *flawed {
	next := newFlawed(s.flaw)
	next.m, next.before, next.ever, next.id = s.m.clone(), s.before.clone(), s.ever, s.id
	switch s.flaw {
	case "a restart forgets counters":
		for k, r := range next.m.records {
			r.N = 0
			next.m.records[k] = r
		}
	case "a restart forgets the last commit":
		next.m = s.before.clone()
	case "a restart makes a new ID":
		next.id += "x"
	}
	return next
}
