package manager_test

import (
	"context"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// TestPauseKeepsTheTime: a pause stops the backend's clock, not ours.
func TestPauseKeepsTheTime(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPause, sandboxer.CapInspect)
		m := w.open()
		sb := created(t, m, ask("a"))
		ctx := context.Background()
		if err := sb.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		if err := sb.Pause(ctx); err != nil {
			t.Errorf("pausing what is paused: %v", err)
		}
		_, err := sb.Output(ctx, "true")
		wantCode(t, err, sandboxer.FailedPrecondition)
		wantText(t, err, "paused", "Resume")
		if s := status(t, m, "a"); s.State != sandboxer.StatePaused || s.Reachability == nil {
			t.Errorf("status %+v", s)
		}
		pass(time.Hour + 5*time.Second)
		wantState(t, m, "a", sandboxer.StateGone)
		w.wantLive()
		wantCode(t, sb.Resume(ctx), sandboxer.FailedPrecondition)
	})
}

// TestUnknownPause: a pause or a resume whose reply is lost is looked up; what is so is on record.
func TestUnknownPause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op     sandboxer.Op
		effect fake.Effect
		err    error
		want   sandboxer.State
	}{
		"pause, done":         {sandboxer.OpPause, fake.After, errLost, sandboxer.StatePaused},
		"pause, not done":     {sandboxer.OpPause, fake.Before, errLost, sandboxer.StateReady},
		"pause, refused":      {sandboxer.OpPause, fake.Before, errBusy, sandboxer.StateReady},
		"resume, done":        {sandboxer.OpResume, fake.After, errLost, sandboxer.StateReady},
		"resume, not done":    {sandboxer.OpResume, fake.Before, errLost, sandboxer.StatePaused},
		"resume, refused":     {sandboxer.OpResume, fake.Before, errBusy, sandboxer.StatePaused},
		"resume, disappeared": {sandboxer.OpResume, fake.Before, nil, sandboxer.StateGone},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, sandboxer.CapPause, sandboxer.CapInspect, sandboxer.CapExec)
				m := w.open()
				sb := created(t, m, ask("a"))
				do := sb.Pause
				if c.op == sandboxer.OpResume {
					if err := sb.Pause(context.Background()); err != nil {
						t.Fatal(err)
					}
					do = sb.Resume
				}
				if c.err != nil {
					w.backend.Fail(fake.Fault{Op: c.op, Err: c.err, Effect: c.effect, Times: 1})
				} else {
					w.backend.Vanish("a")
				}
				if err := do(context.Background()); err == nil {
					t.Error("no error")
				}
				wantState(t, m, "a", c.want)
				if c.want == sandboxer.StateGone {
					return
				}
				if err := do(context.Background()); err != nil {
					t.Errorf("a second time: %v", err)
				}
				if c.op == sandboxer.OpResume {
					if _, err := sb.Exec(context.Background(), sandboxer.ExecRequest{Command: []string{"true"}}); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestPauseInDoubt: while it is not known whether a sandbox runs, neither Pause nor Resume answers from the record, and
// somebody looks again. It was seen to fail where the record alone decided whether there is something to do: each returned
// nil, and asked nobody, and the sandbox went on as it was.
func TestPauseInDoubt(t *testing.T) {
	t.Parallel()
	lost := sandboxer.Mark(sandboxer.Unavailable, errLost)
	both := []sandboxer.Capability{sandboxer.CapPause, sandboxer.CapInspect, sandboxer.CapExec}
	for name, c := range map[string]struct {
		caps   []sandboxer.Capability
		resume bool // what was lost; the opposite is called after it
		after  time.Duration
		found  sandboxer.State // what is on record by then
		err    error           // of the opposite call
		then   sandboxer.State // what is on record after it
	}{
		"a resume":                              {caps: both, resume: true, found: sandboxer.StatePaused, then: sandboxer.StatePaused},
		"a resume, looked at again":             {caps: both, resume: true, after: time.Minute, found: sandboxer.StateReady, then: sandboxer.StatePaused},
		"a resume, and nobody can look":         {caps: []sandboxer.Capability{sandboxer.CapPause, sandboxer.CapExec}, resume: true, after: time.Minute, found: sandboxer.StatePaused, then: sandboxer.StatePaused},
		"a resume, and then a refusal":          {caps: both, resume: true, found: sandboxer.StatePaused, err: errBusy, then: sandboxer.StatePaused},
		"a pause":                               {caps: both, found: sandboxer.StateReady, then: sandboxer.StateReady},
		"a pause, looked at again":              {caps: both, after: time.Minute, found: sandboxer.StatePaused, then: sandboxer.StateReady},
		"a pause, and nobody can look":          {caps: []sandboxer.Capability{sandboxer.CapPause, sandboxer.CapExec}, after: time.Minute, found: sandboxer.StateReady, then: sandboxer.StateReady},
		"a pause, and then a refusal to resume": {caps: both, found: sandboxer.StateReady, err: errBusy, then: sandboxer.StateReady},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				w := newWorld(t, c.caps...)
				m := w.open()
				ctx := context.Background()
				sb := created(t, m, ask("a"))
				op, do, other, opposite := sandboxer.OpPause, sb.Pause, sandboxer.OpResume, sb.Resume
				if c.resume {
					if err := sb.Pause(ctx); err != nil {
						t.Fatal(err)
					}
					op, do, other, opposite = sandboxer.OpResume, sb.Resume, sandboxer.OpPause, sb.Pause
				}
				w.backend.Fail(fake.Fault{Op: op, Err: lost, Effect: fake.After, Times: 1})
				w.backend.Fail(fake.Fault{Op: sandboxer.OpInspect, Err: lost, Times: 1})
				wantCode(t, do(ctx), sandboxer.Unavailable)
				pass(c.after)
				wantState(t, m, "a", c.found)
				if c.err != nil {
					w.backend.Fail(fake.Fault{Op: other, Err: c.err, Times: 1})
					if err := opposite(ctx); !sandboxer.IsRefused(err) {
						t.Errorf("refused: %v", err)
					}
				}
				asked := w.backend.Count(other)
				if err := opposite(ctx); err != nil {
					t.Error(err)
				}
				if w.backend.Count(other) == asked {
					t.Errorf("%s returned nil, and asked nobody", other)
				}
				wantState(t, m, "a", c.then)
				if _, err := sb.Output(ctx, "true"); (err == nil) != (c.then == sandboxer.StateReady) {
					t.Errorf("a command: %v", err)
				}
			})
		})
	}
}

// TestPauseInDoubtAfterRestart: the next process looks until it knows, also where the backend does not answer as it begins. It
// was seen to fail where a pause was on record only once it was answered: the kept were looked at once, and never again.
func TestPauseInDoubtAfterRestart(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPause, sandboxer.CapInspect)
		p := &process{}
		sb := created(t, w.start(p), ask("a"))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpPause, Hang: true, Effect: fake.After, Times: 1})
		go func() { _ = sb.Pause(ctx) }()
		pass(time.Second)
		p.kill()
		w.backend.Heal()
		w.backend.Fail(fake.Fault{Op: sandboxer.OpInspect, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Times: 5})
		m := w.open()
		pass(time.Second)
		wantState(t, m, "a", sandboxer.StateReady)
		pass(2 * time.Minute)
		wantState(t, m, "a", sandboxer.StatePaused)
	})
}

// TestPauseInDoubtHasNoEnd: the backend does not end what is paused, so that nobody is given up for its deadline while it is
// not known whether a pause came about. It was seen to fail where a pause was on record only once it was answered.
func TestPauseInDoubtHasNoEnd(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPause)
		m := w.open()
		sb := created(t, m, ask("a"))
		w.backend.Fail(fake.Fault{Op: sandboxer.OpPause, Err: errLost, Effect: fake.After, Times: 1})
		if err := sb.Pause(context.Background()); err == nil {
			t.Error("no error")
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpTeardown, Err: errLost})
		pass(3 * time.Hour)
		wantState(t, m, "a", sandboxer.StateOrphaned)
		w.backend.Heal()
		pass(20 * time.Minute)
		wantState(t, m, "a", sandboxer.StateGone)
	})
}

// later is a backend that gives a sandbox two hours more when it is resumed.
type later struct{ sandboxer.Extension }

func (x later) Unwrap() sandboxer.Extension { return x.Extension }

func (x later) Inspect(ctx context.Context, t sandboxer.Target) (sandboxer.Instance, error) {
	i, _ := sandboxer.As[sandboxer.Inspector](x.Extension)
	in, err := i.Inspect(ctx, t)
	in.ExpiresAt = in.ExpiresAt.Add(2 * time.Hour)
	return in, err
}

// TestFoundResumedEndsAsItsBackendSays: what is found to run again after a resume whose reply was lost has the end that its
// backend shows. It was seen to fail where the end from before the pause stayed on record.
func TestFoundResumedEndsAsItsBackendSays(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapPause, sandboxer.CapInspect)
		a := w.backend.Adapter(w.caps...)
		build := a.New
		a.New = func(ctx context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			ext, err := build(ctx, s)
			return later{ext}, err
		}
		w.adapters = []sandboxer.Adapter{a}
		m := w.open()
		ctx := context.Background()
		sb := created(t, m, ask("a"))
		before := status(t, m, "a")
		if err := sb.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		w.backend.Fail(fake.Fault{Op: sandboxer.OpResume, Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Effect: fake.After, Times: 1})
		wantCode(t, sb.Resume(ctx), sandboxer.Unavailable)
		s := status(t, m, "a")
		if want := before.Reachability.ExpiresAt.Add(2 * time.Hour); s.State != sandboxer.StateReady || !s.Reachability.ExpiresAt.Equal(want) {
			t.Errorf("%s, and ends natively at %v, want %v", s.State, s.Reachability.ExpiresAt, want)
		}
		if !s.ExpiresAt.Equal(before.ExpiresAt) {
			t.Errorf("ends at %v, want %v as before", s.ExpiresAt, before.ExpiresAt)
		}
	})
}
