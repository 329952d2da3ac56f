package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/registry"
)

// suite is what the trials of one Run share.
type suite struct {
	cfg      Config
	profile  sandboxer.Profile
	host     sandboxer.Host
	hosted   bool
	manifest registry.Manifest
	caps     []sandboxer.Capability
	one, two *side    // two adapter instances over one backend, each with its own Manager, store and owner
	before   []string // what was live when the suite began
	canary   *canary

	goroutines goleak.Option // those that ran before
	closed     bool

	shareOnce sync.Once
	share     *box
	shareErr  error
	serial    sync.Mutex
	count     int
}

// side is one adapter instance and the Manager over it.
type side struct {
	m     *manager.Manager
	owner string // the value of LabelOwner on everything that it makes
	spy   *spy
	hooks *hooks
}

// open reads the adapter's documents; connect then builds both sides.
func open(tb testing.TB, cfg Config) (*suite, error) {
	s := &suite{cfg: cfg.withDefaults()}
	if why := cfg.problem(); why != "" {
		return nil, errors.New(why)
	}
	s.canary = newCanary(cfg.Secrets)
	s.profile = cfg.Profile(tb)
	a := cfg.Adapter(tb)
	s.hosted = a.Hosted
	if a.Hosted && cfg.Host == nil {
		return nil, errors.New("the adapter is Hosted: give Config.Host")
	}
	if cfg.Host != nil {
		s.host = cfg.Host(tb)
	}
	reg, err := registry.New(registry.WithAdapters(a), registry.WithProfiles(s.profile))
	if err != nil {
		return nil, fmt.Errorf("the adapter's manifest and profiles cannot be registered: %w", err)
	}
	if s.manifest, err = reg.Manifest(s.profile.Extension); err != nil {
		return nil, fmt.Errorf("Config.Profile: %w", err)
	}
	ext, err := a.New(context.Background(), sandboxer.Settings{
		ExtensionID: s.manifest.ID, Config: s.manifest.Config, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("the adapter's New failed: %w", err)
	}
	s.caps = sandboxer.Capabilities(ext)
	if c, ok := sandboxer.As[interface{ Close() error }](ext); ok {
		if err := c.Close(); err != nil {
			return nil, fmt.Errorf("closing the extension failed: %w", err)
		}
	}
	return s, nil
}

func (s *suite) connect(tb testing.TB) error {
	s.before = s.liveNames(tb)
	var err error
	if s.one, err = s.newSide(tb, "adaptertest"); err != nil {
		return err
	}
	s.two, err = s.newSide(tb, "adaptertest")
	return err
}

// newSide makes a Manager over a fresh adapter. The stores differ, and with them the owners.
func (s *suite) newSide(tb testing.TB, owner string) (*side, error) {
	a := s.cfg.Adapter(tb)
	d := &side{hooks: &hooks{}}
	build := a.New
	a.New = func(ctx context.Context, st sandboxer.Settings) (sandboxer.Extension, error) {
		ext, err := build(ctx, st)
		if err != nil || ext == nil {
			return nil, err
		}
		w := &spy{Extension: giving{ext}, s: s, hooks: d.hooks, seen: map[string]*sighting{}}
		if st.ExtensionID == s.profile.Extension {
			d.spy = w
		}
		return w, nil
	}
	reg, err := registry.New(registry.WithAdapters(a), registry.WithProfiles(s.profile))
	if err != nil {
		return nil, err
	}
	remembers := store.Memory()
	info, err := remembers.Info(context.Background())
	if err != nil {
		return nil, err
	}
	d.owner = owner + "." + info.ID
	cfg := manager.Config{
		Registry: reg, Store: remembers, Secrets: s.canary, Owner: owner, Logger: slog.New(s.canary),
		TeardownTimeout: s.cfg.Within, RecoverTimeout: s.cfg.Within, ReadyTimeout: s.cfg.Within, ReapInterval: -1,
		Interceptors: []sandboxer.Interceptor{d.hooks.intercept},
	}
	if s.host.ID != "" {
		cfg.Hosts = []sandboxer.Host{s.host}
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Within)
	defer cancel()
	if d.m, err = manager.New(ctx, cfg); err != nil {
		return nil, fmt.Errorf("no Manager can be made with this adapter: %w", err)
	}
	return d, nil
}

// can reports whether the adapter has a capability.
func (s *suite) can(c sandboxer.Capability) bool { return slices.Contains(s.caps, c) }

// unique returns a name that no other trial uses.
func (s *suite) unique(stem string) string {
	s.serial.Lock()
	defer s.serial.Unlock()
	s.count++
	return fmt.Sprintf("%s-%d", stem, s.count)
}

func (s *suite) consumer() sandboxer.Consumer {
	return sandboxer.Consumer{ID: "adaptertest", Tenant: s.cfg.Tenant, Run: "conformance"}
}

// note keeps what the adapter said for the search for secrets.
func (s *suite) note(where string, said any) {
	if said == nil {
		return
	}
	if err, ok := said.(error); ok {
		s.canary.heard(where+" (error)", err.Error())
		return
	}
	s.canary.heardJSON(where, said)
}

// liveNames is what exists at the backend as Config.Live sees it.
func (s *suite) liveNames(tb testing.TB) []string {
	if s.cfg.Live == nil {
		return nil
	}
	return s.cfg.Live(tb)
}

// close removes what the trials share and closes both Managers.
func (s *suite) close(ctx context.Context) error {
	s.closed = true
	var errs []error
	for _, d := range []*side{s.one, s.two} {
		if d != nil {
			errs = append(errs, within(ctx, s.cfg.Within*2, "Manager.Close", d.m.Close))
		}
	}
	return errors.Join(errs...)
}

func within(ctx context.Context, most time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("%s had not returned after %v", what, most)
	}
}

// newRequest is what the Manager would ask for, for a sandbox that it does not know.
func (t *trial) newRequest() *sandboxer.ProvisionRequest {
	t.Helper()
	req := *t.shared().req
	req.ID, req.Attempt = sandboxer.NewID(), 1
	req.Name = string(req.ID)
	req.Labels = maps.Clone(req.Labels)
	req.Labels[sandboxer.LabelID], req.Labels[sandboxer.LabelName] = req.Name, req.Name
	req.ExpiresAt = time.Now().Add(time.Hour).Round(0).UTC()
	req.Checkpoint = func(context.Context, sandboxer.Handle) error { return nil }
	return &req
}

// byName is the target of a sandbox of which only the name is known.
func byName(req *sandboxer.ProvisionRequest) sandboxer.Target {
	return targetOf(req, sandboxer.BareHandle(req.Ref()))
}

func targetOf(req *sandboxer.ProvisionRequest, h sandboxer.Handle) sandboxer.Target {
	return sandboxer.Target{
		Handle: h, Host: req.Host, Inputs: req.Inputs, Consumer: req.Consumer, Labels: req.Labels,
		ExpiresAt: req.ExpiresAt, Secret: req.Secret,
	}
}

// sweep removes by name, at the end of the trial, whatever req may have made.
func (t *trial) sweep(req *sandboxer.ProvisionRequest) {
	t.Cleanup(func() {
		err := t.certain(func() error {
			_, err := do(t, "Teardown by name", func(ctx context.Context) (sandboxer.CleanupReport, error) {
				return t.s.one.spy.Extension.Teardown(ctx, byName(req))
			})
			return err
		})
		if err != nil && !t.Failed() {
			t.Errorf("%s could not be torn down by name: %v", req.Name, err)
		}
	})
}

// provision makes a sandbox by calling the extension directly, and removes it at the end of the trial.
func (t *trial) provision(ext sandboxer.Extension, req *sandboxer.ProvisionRequest) sandboxer.Handle {
	t.Helper()
	t.sweep(req)
	h, err := do(t, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return ext.Provision(ctx, req) })
	t.ok("Provision", err)
	return h
}

func containing(all []string, name string) []string {
	var out []string
	for _, s := range all {
		if strings.Contains(s, name) {
			out = append(out, s)
		}
	}
	return out
}
