package manager_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// simulate runs f in a bubble of virtual time, beside other tests.
func simulate(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// world is one backend, one store, and a journal of the calls and commits that a Manager makes on them.
type world struct {
	t       testing.TB
	backend *fake.Backend
	store   *spy
	journal *journal

	caps     []sandboxer.Capability
	adapters []sandboxer.Adapter
	hosts    []sandboxer.Host
	profiles []sandboxer.Profile
	yaml     map[string]string
	cfg      manager.Config
}

// plain is what most tests need of a backend: no second opinions, so that the journal holds what the test is about.
var plain = []sandboxer.Capability{sandboxer.CapExec, sandboxer.CapFiles}

// newWorld makes a world whose backend has caps. What a test wants otherwise it sets before open.
func newWorld(t testing.TB, caps ...sandboxer.Capability) *world {
	t.Helper()
	if len(caps) == 0 {
		caps = plain
	}
	j := &journal{}
	w := &world{t: t, backend: fake.New(), journal: j, caps: caps, yaml: map[string]string{}}
	w.store = &spy{Store: store.Memory(), journal: j, durable: true}
	w.cfg.ReapInterval = -1
	return w
}

// withHosts makes the backend's sandboxes placed on hosts.
func (w *world) withHosts(hosts ...sandboxer.Host) *world {
	w.hosts = hosts
	return w
}

func (w *world) registry() *registry.Registry {
	w.t.Helper()
	adapters := w.adapters
	if adapters == nil {
		adapters = []sandboxer.Adapter{w.backend.Adapter(w.caps...)}
	}
	adapters = slices.Clone(adapters)
	adapters[0].Hosted = len(w.hosts) > 0
	opts := []registry.Option{registry.WithAdapters(adapters...), registry.WithProfiles(w.profiles...)}
	for _, name := range slices.Sorted(maps.Keys(w.yaml)) {
		opts = append(opts, registry.WithYAML(name, []byte(w.yaml[name])))
	}
	reg, err := registry.New(opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return reg
}

// config is the configuration of the world's Manager.
func (w *world) config() manager.Config {
	w.t.Helper()
	cfg := w.cfg
	cfg.Registry, cfg.Store, cfg.Hosts = w.registry(), w.store, w.hosts
	cfg.Interceptors = append(slices.Clone(w.cfg.Interceptors), w.journal.intercept)
	return cfg
}

// open makes a Manager that is closed with the test.
func (w *world) open() *manager.Manager {
	w.t.Helper()
	m, err := manager.New(context.Background(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	return m
}

// wantLive checks what exists at the backend.
func (w *world) wantLive(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.backend.Live(), cmpEmpty); diff != "" {
		w.t.Errorf("live at the backend (-want +got):\n%s", diff)
	}
}

// wantJournal checks what happened since the last look, and forgets it.
func (w *world) wantJournal(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.journal.take(), cmpEmpty); diff != "" {
		w.t.Errorf("calls and commits (-want +got):\n%s", diff)
	}
}

var cmpEmpty = cmp.Transformer("nil", func(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
})

// journal is the order of calls and commits.
type journal struct {
	mu    sync.Mutex
	lines []string
	calls []sandboxer.Call
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.lines
	j.lines = nil
	return out
}

func (j *journal) intercept(ctx context.Context, c sandboxer.Call, next func(context.Context) error) error {
	j.mu.Lock()
	j.calls = append(j.calls, c)
	j.mu.Unlock()
	where := ""
	if c.ID != "" {
		where = " " + sandboxer.HandleRef{ID: c.ID, Attempt: c.Attempt}.Name()
	}
	if c.Host != "" {
		where += " on " + c.Host
	}
	j.add(string(c.Op) + where)
	return next(ctx)
}

// commits returns only the commits of the journal so far.
func (j *journal) commits() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.lines), func(l string) bool { return !strings.HasPrefix(l, "commit ") })
}

func ask(id sandboxer.ID) sandboxer.CreateRequest {
	return sandboxer.CreateRequest{ID: id, Profile: "profile.fake", Consumer: sandboxer.Consumer{ID: "tests"}}
}

// created makes a sandbox that must succeed.
func created(t testing.TB, m *manager.Manager, req sandboxer.CreateRequest) *manager.Sandbox {
	t.Helper()
	sb, err := m.Create(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return sb
}

// status reads the status of a sandbox that must be on record.
func status(t testing.TB, m *manager.Manager, id sandboxer.ID) sandboxer.SandboxStatus {
	t.Helper()
	sb, err := m.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sb.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantState(t testing.TB, m *manager.Manager, id sandboxer.ID, want sandboxer.State) {
	t.Helper()
	if s := status(t, m, id); s.State != want {
		t.Errorf("%s is %s (%s), want %s", id, s.State, s.Reason, want)
	}
}

// wantCode checks the code of an error, and that the Manager wrapped it as its callers are promised.
func wantCode(t testing.TB, err error, want sandboxer.Code) {
	t.Helper()
	if got := sandboxer.CodeOf(err); got != want {
		t.Errorf("code %q of %v, want %q", got, err, want)
	}
	var e *sandboxer.Error
	if err != nil && !errors.As(err, &e) {
		t.Errorf("%T is no *sandboxer.Error: %v", err, err)
	}
}

// wantText checks that an error tells what it should.
func wantText(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q is missing in: %v", p, err)
		}
	}
}

// pass lets virtual time pass, and waits until nothing moves any more.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time
	synctest.Wait()
}
