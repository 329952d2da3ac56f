package adaptertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// spy stands between a Manager and the extension, so that trials see what the Manager asked for and what it was answered,
// and can take an answer away. Everything optional is reached through Unwrap.
type spy struct {
	sandboxer.Extension
	s     *suite
	hooks *hooks

	mu   sync.Mutex
	seen map[string]*sighting // by the resource's name
}

// Unwrap shows what the extension can do besides.
func (w *spy) Unwrap() sandboxer.Extension { return w.Extension }

// sighting is what passed by about one resource.
type sighting struct {
	req           *sandboxer.ProvisionRequest
	target        sandboxer.Target
	reach         sandboxer.Reachability
	made          sandboxer.Handle // as the extension returned it, whether or not the Manager got it
	provision     time.Duration
	ready         time.Duration
	provisionings int
}

func (w *spy) at(name string) *sighting {
	if w.seen[name] == nil {
		w.seen[name] = &sighting{}
	}
	return w.seen[name]
}

// saw returns what was seen of name; the zero sighting where nothing was.
func (w *spy) saw(name string) sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.at(name)
}

// Provision passes on, and loses the reply where a trial wants that.
func (w *spy) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	lose := w.hooks.loses(req.ID)
	asked := *req
	if lose {
		// Nothing of what is known before the reply survives either.
		asked.Checkpoint = func(context.Context, sandboxer.Handle) error { return nil }
	}
	begun := time.Now()
	h, err := w.Extension.Provision(ctx, &asked)
	w.s.note("Provision", err)
	w.s.note("Provision", h)
	w.mu.Lock()
	seen := w.at(req.Name)
	kept := *req
	seen.req, seen.made, seen.provision = &kept, h, time.Since(begun)
	seen.provisionings++
	w.mu.Unlock()
	if lose && err == nil {
		return sandboxer.Handle{}, sandboxer.Mark(sandboxer.Unknown, errLost)
	}
	return h, err
}

var errLost = errors.New("the connection broke before the reply arrived")

// WaitReady passes on.
func (w *spy) WaitReady(ctx context.Context, t sandboxer.Target) (sandboxer.Reachability, error) {
	begun := time.Now()
	r, err := w.Extension.WaitReady(ctx, t)
	w.s.note("WaitReady", err)
	w.s.note("WaitReady", r)
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.at(t.Handle.Ref().Name())
	seen.target, seen.reach, seen.ready = t, r, time.Since(begun)
	return r, err
}

// Teardown passes on.
func (w *spy) Teardown(ctx context.Context, t sandboxer.Target) (sandboxer.CleanupReport, error) {
	rep, err := w.Extension.Teardown(ctx, t)
	w.s.note("Teardown", err)
	w.s.note("Teardown", rep)
	return rep, err
}

// hooks let a trial into the calls that a Manager makes about one sandbox.
type hooks struct {
	mu     sync.Mutex
	lost   map[sandboxer.ID]bool
	around map[hookKey]sandboxer.Interceptor
}

type hookKey struct {
	op sandboxer.Op
	id sandboxer.ID
}

// lose makes the reply of every Provision of id get lost.
func (h *hooks) lose(id sandboxer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == nil {
		h.lost = map[sandboxer.ID]bool{}
	}
	h.lost[id] = true
}

func (h *hooks) loses(id sandboxer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost[id]
}

// on puts f around every call op about id.
func (h *hooks) on(op sandboxer.Op, id sandboxer.ID, f sandboxer.Interceptor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.around == nil {
		h.around = map[hookKey]sandboxer.Interceptor{}
	}
	h.around[hookKey{op, id}] = f
}

func (h *hooks) intercept(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
	h.mu.Lock()
	f := h.around[hookKey{c.Op, c.ID}]
	h.mu.Unlock()
	if f == nil {
		return next(ctx)
	}
	return f(ctx, c, next)
}
