package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/crash"
	"github.com/sand-boxer/sandboxer/registry"
)

// extension is a configured backend, built.
type extension struct {
	id       string
	ext      sandboxer.Extension // nil: not on this platform, see why
	why      error
	hosted   bool
	manifest registry.Manifest
	caps     []sandboxer.Capability
	pays     []sandboxer.SecretRef // the credentials in its configuration; the first decides who pays
}

func (x *extension) can(c sandboxer.Capability) bool { return slices.Contains(x.caps, c) }

// buildExtensions builds every manifest's extension and checks that what is declared is so.
func (m *Manager) buildExtensions(ctx context.Context) error {
	var problems []error
	for man := range m.cfg.Registry.Manifests() {
		x, err := m.build(ctx, man)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", man.ID, err))
			continue
		}
		m.extensions[man.ID] = x
	}
	for p := range m.cfg.Registry.Profiles() {
		problems = append(problems, m.checkRequires(p)...)
	}
	return sandboxer.Refused(sandboxer.InvalidArgument, errors.Join(problems...))
}

func (m *Manager) build(ctx context.Context, man registry.Manifest) (*extension, error) {
	a, err := m.cfg.Registry.Adapter(man.Handler)
	if err != nil {
		return nil, err
	}
	x := &extension{id: man.ID, hosted: a.Hosted, manifest: man, pays: credentials(a, man.Config)}
	x.ext, err = a.New(ctx, sandboxer.Settings{
		ExtensionID: man.ID, Config: man.Config, Logger: m.cfg.Logger.With(slog.String("extension", man.ID)),
	})
	if errors.Is(err, sandboxer.Unsupported) {
		// One set of manifests serves several platforms; what cannot work here refuses creates, not the whole Manager.
		x.ext, x.why = nil, err
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	if x.ext == nil {
		return nil, errors.New("its adapter's New returned neither an extension nor an error")
	}
	x.caps = sandboxer.Capabilities(x.ext)
	if err := x.check(); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// check compares what is declared with what is so.
func (x *extension) check() error {
	if err := checkFeatures(x.manifest.Capabilities.Features, x.caps); err != nil {
		return err
	}
	if x.manifest.Capabilities.PricingModel == sandboxer.PricingMetered && !x.can(sandboxer.CapMeter) {
		return errors.New("pricing_model is metered, but the extension is no Meterer: nothing could be accounted for")
	}
	return nil
}

// close lets go of what the extension holds, where it asks for that.
func (x *extension) close() error {
	c, ok := sandboxer.As[io.Closer](x.ext)
	if !ok {
		return nil
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("%s: %w", x.id, err)
	}
	return nil
}

func checkFeatures(declared, real []sandboxer.Capability) error {
	if declared == nil {
		return nil
	}
	var missing, undeclared []string
	for _, c := range declared {
		if !slices.Contains(real, c) {
			missing = append(missing, string(c))
		}
	}
	for _, c := range real {
		if !slices.Contains(declared, c) {
			undeclared = append(undeclared, string(c))
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Errorf("capabilities.features declares %s, which the extension cannot do", strings.Join(missing, ", "))
	case len(undeclared) > 0:
		return fmt.Errorf("capabilities.features does not declare %s, which the extension can do", strings.Join(undeclared, ", "))
	}
	return nil
}

// checkRequires refuses profiles whose extension, or whose burst targets' extensions, lack what the profile requires.
func (m *Manager) checkRequires(p sandboxer.Profile) []error {
	var problems []error
	check := func(where, extensionID string) {
		x := m.extensions[extensionID]
		if x == nil || x.ext == nil {
			return
		}
		for _, c := range p.Requires {
			if !x.can(c) {
				problems = append(problems, fmt.Errorf("%s requires %q, which %s%s cannot do", p.ID, c, extensionID, where))
			}
		}
	}
	check("", p.Extension)
	if p.Burst != nil {
		for _, t := range p.Burst.To {
			if target, err := m.cfg.Registry.Profile(t.Profile); err == nil {
				check(" (its burst target "+t.Profile+")", target.Extension)
			}
		}
	}
	return problems
}

// extension finds a usable extension. A missing one is Unavailable: it may be configured again tomorrow.
func (m *Manager) extension(id string) (*extension, error) {
	x := m.extensions[id]
	switch {
	case x == nil:
		return nil, sandboxer.Refused(sandboxer.Unavailable, fmt.Errorf("extension %q is not registered; add its adapter and manifest to the registry", id))
	case x.ext == nil:
		return nil, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("extension %s does not work here: %w", id, x.why))
	}
	return x, nil
}

// as finds a capability of x, or says that it is missing.
func as[T any](x *extension, c sandboxer.Capability) (T, error) {
	v, ok := sandboxer.As[T](x.ext)
	if !ok {
		return v, sandboxer.Refused(sandboxer.Unsupported, fmt.Errorf("%s has no capability %q; it has: %s", x.id, c, joinCaps(x.caps)))
	}
	return v, nil
}

func joinCaps(caps []sandboxer.Capability) string {
	if len(caps) == 0 {
		return "none"
	}
	s := make([]string, len(caps))
	for i, c := range caps {
		s[i] = string(c)
	}
	return strings.Join(s, ", ")
}

// call makes one call of an extension, through the interceptors. What they wait for is not counted into its limit.
func (m *Manager) call(ctx context.Context, c sandboxer.Call, f func(context.Context) error) error {
	f = m.limit(c.Op, f)
	if len(m.cfg.Interceptors) > 0 {
		f = m.intercepted(c, f)
	}
	debug := m.cfg.Logger.Enabled(ctx, slog.LevelDebug)
	var begun time.Time
	if debug {
		begun = time.Now()
	}
	crash.Point("call", string(c.Op), "before")
	err := m.contained(ctx, c, f)
	crash.Point("call", string(c.Op), "after")
	if !debug {
		return err
	}
	attrs := []any{"op", c.Op, "extension", c.Extension, "host", c.Host, "sandbox", c.ID, "attempt", c.Attempt, "consumer", c.Consumer.ID, "took", time.Since(begun)}
	if err != nil {
		attrs = append(attrs, "code", sandboxer.CodeOf(err), "error", err)
	}
	m.cfg.Logger.DebugContext(ctx, "call", attrs...)
	return err
}

// contained makes a panic of an adapter, or of an interceptor, an error like any other: what it had made by then is removed,
// and everything else that the program has goes on.
func (m *Manager) contained(ctx context.Context, c sandboxer.Call, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.cfg.Logger.ErrorContext(ctx, "a call panicked", "op", c.Op, "extension", c.Extension, "host", c.Host, "sandbox", c.ID,
				"consumer", c.Consumer.ID, "panic", p, "stack", string(debug.Stack()))
			err = sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s of %s panicked: %v; this is a bug of its adapter, or of an interceptor (the log has the stack)", c.Op, c.Extension, p))
		}
	}()
	return f(ctx)
}

// intercepted wraps f in the interceptors, the first outermost. A success without a call is none: nobody removed anything.
func (m *Manager) intercepted(c sandboxer.Call, f func(context.Context) error) func(context.Context) error {
	var called atomic.Bool
	call := f
	f = func(ctx context.Context) error {
		called.Store(true)
		return call(ctx)
	}
	for _, icept := range slices.Backward(m.cfg.Interceptors) {
		inner := f
		f = func(ctx context.Context) error { return icept(ctx, c, inner) }
	}
	return func(ctx context.Context) error {
		err := f(ctx)
		if err == nil && !called.Load() {
			err = sandboxer.Mark(sandboxer.Internal, fmt.Errorf("an interceptor answered %s without calling next; it may only fail so", c.Op))
		}
		return err
	}
}

func callOf(op sandboxer.Op, r *record, a *attempt) sandboxer.Call {
	return sandboxer.Call{Op: op, Extension: a.Extension, Host: a.Host, ID: a.id(r), Attempt: a.N, Profile: a.Profile, Consumer: r.Asked.Consumer}
}
