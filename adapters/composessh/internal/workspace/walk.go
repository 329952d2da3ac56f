package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sand-boxer/sandboxer"
)

const (
	maxWalkers = 8    // directories that are read at the same time
	maxDepth   = 1000 // each level may hold a file descriptor
)

// local is what is here.
type local struct {
	lists   []list // sorted by path, so that a directory comes before what is in it
	skipped []string
	scopes  map[string]*scope // what is ignored where; nil when nothing is
}

// held is a directory that is open as long as somebody needs it.
type held struct {
	root tree
	refs atomic.Int32 // the caller's is not counted
	own  bool
}

func (h *held) release() {
	if h.refs.Add(-1) == 0 && h.own {
		_ = h.root.Close() // read only
	}
}

// job is a directory that is to be read: base in parent.
type job struct {
	parent *held
	base   string
	path   string
	scope  *scope
	depth  int
}

// walk reads a tree with several workers, the newest job first, so that few directories are open at a time.
type walk struct {
	failed func()
	stop   func() bool
	wg     sync.WaitGroup

	mu     sync.Mutex
	cond   *sync.Cond
	jobs   []job
	active int // jobs that are being worked on
	err    error
	out    local // lists are in an order in which a directory comes before what is in it
}

// startWalk begins to list everything below root that is not ignored. It needs wait to be called. failed is called when it
// cannot go on.
func startWalk(ctx context.Context, root tree, rules *rules, failed func()) *walk {
	w := &walk{failed: failed}
	w.cond = sync.NewCond(&w.mu)
	if rules != nil {
		w.out.scopes = map[string]*scope{}
	}
	top := &held{root: root}
	top.refs.Add(1)
	w.jobs = []job{{parent: top, base: ".", scope: rules.top()}}
	w.stop = context.AfterFunc(ctx, func() { w.fail(ctx.Err()) })
	// The host is asked at the same time, which takes longer: where it is this machine, it needs room too.
	for range min(max(runtime.GOMAXPROCS(0)/2, 1), maxWalkers) {
		w.wg.Go(w.work)
	}
	return w
}

// wait returns what is here once it is known, sorted by path.
func (w *walk) wait() (*local, error) {
	w.wg.Wait()
	w.stop()
	w.mu.Lock() // the end of the context may be noticed right now
	defer w.mu.Unlock()
	for _, j := range w.jobs { // after an error
		j.parent.release()
	}
	w.jobs = nil
	if w.err != nil {
		return nil, w.err
	}
	slices.SortFunc(w.out.lists, func(a, b list) int { return strings.Compare(a.path, b.path) })
	slices.Sort(w.out.skipped)
	w.out.dropWeak()
	return &w.out, nil
}

// follow yields lists while they are found, each after that of the directory it lies in. It ends early after an error,
// which wait returns.
func (w *walk) follow(yield func(*list) bool) {
	for i := 0; ; i++ {
		w.mu.Lock()
		for i == len(w.out.lists) && w.err == nil && (w.active > 0 || len(w.jobs) > 0) {
			w.cond.Wait()
		}
		if w.err != nil || i == len(w.out.lists) {
			w.mu.Unlock()
			return
		}
		l := w.out.lists[i]
		w.mu.Unlock()
		if !yield(&l) {
			return
		}
	}
}

func (w *walk) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = classify(err)
		w.failed()
	}
	w.cond.Broadcast()
}

func (w *walk) work() {
	for {
		w.mu.Lock()
		for len(w.jobs) == 0 && w.active > 0 && w.err == nil {
			w.cond.Wait()
		}
		if len(w.jobs) == 0 || w.err != nil {
			w.mu.Unlock()
			return
		}
		j := w.jobs[len(w.jobs)-1]
		w.jobs = w.jobs[:len(w.jobs)-1]
		w.active++
		w.mu.Unlock()

		found, more, skipped, sc, err := w.read(j)
		j.parent.release()
		if err != nil {
			w.fail(err)
		}
		w.mu.Lock()
		w.active--
		w.jobs = append(w.jobs, more...)
		if found != nil || j.path == "" {
			w.out.lists = append(w.out.lists, list{j.path, found})
		}
		w.out.skipped = append(w.out.skipped, skipped...)
		if w.out.scopes != nil && sc != nil {
			w.out.scopes[j.path] = sc
		}
		w.cond.Broadcast()
		w.mu.Unlock()
	}
}

// read lists one directory. One that has gone meanwhile is none.
func (w *walk) read(j job) (found []entry, more []job, skipped []string, sc *scope, err error) {
	if j.depth > maxDepth {
		return nil, nil, nil, nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%q lies more than %d directories deep", clip(j.path), maxDepth))
	}
	fail := func(name string, err error) ([]entry, []job, []string, *scope, error) {
		for _, m := range more {
			m.parent.release()
		}
		switch at := join(j.path, name); {
		case at == "": // a tree that is not there is no empty one
			err = fmt.Errorf("%q: %w", ".", err)
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		default:
			err = fmt.Errorf("%q: %w", clip(at), err)
		}
		return nil, nil, nil, nil, err
	}
	root, err := j.parent.root.sub(j.base)
	if err != nil {
		return fail("", err)
	}
	h := &held{root: root, own: true}
	h.refs.Add(1)
	defer h.release()
	dir, err := root.folder()
	if err != nil {
		return fail("", err)
	}
	defer func() { _ = dir.Close() }() // read only
	names, err := dir.names()
	if err != nil {
		return fail("", err)
	}
	if sc, err = j.scope.enter(root, j.path); err != nil {
		return fail("", err)
	}
	found = make([]entry, 0, len(names))
	for _, base := range names {
		e, ok, err := dir.stat(base)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fail(base, err)
		}
		verdict := sc.judge(base, e.kind == kindDir)
		switch {
		case verdict == ignored:
			continue
		case !ok:
			skipped = append(skipped, join(j.path, base))
			continue
		case e.kind == kindDir:
			e.weak = verdict == descend
			h.refs.Add(1)
			more = append(more, job{h, base, join(j.path, base), sc.below(base), j.depth + 1})
		}
		found = append(found, e)
	}
	return found, more, skipped, sc, nil
}

// dropWeak leaves out ignored directories in which there is nothing else.
func (l *local) dropWeak() {
	filled := map[string]bool{}
	kept := l.lists[:0:0]
	for i := len(l.lists) - 1; i >= 0; i-- {
		li := &l.lists[i]
		li.entries = slices.DeleteFunc(li.entries, func(e entry) bool {
			return e.weak && !filled[join(li.path, e.name)]
		})
		if len(li.entries) > 0 {
			filled[li.path] = true
		}
		kept = append(kept, *li)
	}
	slices.Reverse(kept)
	l.lists = kept
}

// classify gives an error of this machine's disk its code. Nothing was changed anywhere.
func classify(err error) error {
	switch {
	case err == nil || sandboxer.CodeOf(err) != sandboxer.Unknown:
		return err
	case errors.Is(err, fs.ErrPermission):
		return sandboxer.Mark(sandboxer.PermissionDenied, err)
	case errors.Is(err, fs.ErrNotExist):
		return sandboxer.Mark(sandboxer.NotFound, err)
	}
	return err
}

// clip keeps a message readable.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
