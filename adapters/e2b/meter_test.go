//go:build unix

package e2b_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

func micros(t *testing.T, r *rig, x sandboxer.Target) int64 {
	t.Helper()
	got, err := as[sandboxer.Meterer](t, r).MeterActual(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return got.Lines[0].Micros
}

// TestForeignKeyBehindARefusedOne: where the key that bought a sandbox is refused, and the source then gives one of another team, "not found" under that one says
// nothing. It was seen to fail when the key that was fetched first is taken for the one that was used.
func TestForeignKeyBehindARefusedOne(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Keys: map[string]string{canaryKey: "one", otherTeam: "two"}})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	s.Revoke(canaryKey)
	target.Secret = func(ctx context.Context, _ sandboxer.SecretRef) (sandboxer.Secret, error) {
		if _, refused := sandboxer.RefusedKey(ctx); refused {
			return version([]byte(otherTeam)), nil
		}
		return version([]byte(canaryKey)), nil
	}
	_, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
	if errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Inspect says that it is gone: %v", err)
	}
	if m, err := as[sandboxer.Meterer](t, r).MeterActual(t.Context(), target); m.Final {
		t.Errorf("its meter has ended: %+v, %v", m, err)
	}
	rep, err := r.Teardown(t.Context(), target)
	if err == nil {
		t.Errorf("Teardown says that it is gone: %+v; live %q", rep, s.Live())
	}
}

// TestForeignKeyEndsNoMeter: the same through a Manager: the time until the sandbox really ends is billed.
func TestForeignKeyEndsNoMeter(t *testing.T) {
	t.Parallel()
	h := newHouse(t, map[string]string{platformKey: "platform", acmeKey: "acme", acmeNewKey: "another team"})
	m, closeAll := h.open()
	defer closeAll()
	h.keys(acmeKey)
	sb := h.create(m)
	h.keys(acmeNewKey, acmeKey)
	h.s.Revoke(acmeKey)
	if _, err := sb.Teardown(t.Context()); sandboxer.CodeOf(err) != sandboxer.Unauthenticated {
		t.Errorf("error is %v, want Unauthenticated", err)
	}
	time.Sleep(time.Second)
	h.s.SetKey(acmeKey, "acme")
	if _, err := sb.Teardown(t.Context()); err != nil || len(h.s.Live()) > 0 {
		t.Errorf("%v; live %q", err, h.s.Live())
	}
	if rd, err := sb.Meter(t.Context()); err != nil || rd.To.Sub(rd.From) < time.Second {
		t.Errorf("it ran for more than a second, and %v are billed: %v", rd.To.Sub(rd.From), err)
	}
}

// TestResumeReplyLost: the meter of a sandbox that was resumed runs, also where the reply was lost. It was seen to fail when E2B's "was running" is
// believed of the time before the first try.
func TestResumeReplyLost(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	micros(t, r, target)
	p := as[sandboxer.Pauser](t, r)
	if err := p.Pause(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes/*/connect", Times: 1, Lose: true})
	if _, err := p.Resume(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	a := micros(t, r, target)
	time.Sleep(1500 * time.Millisecond)
	b := micros(t, r, target)
	if b <= a {
		t.Errorf("it runs, and the meter stands still: %d, %d", a, b)
	}
}

// TestPauseReplyLost: the meter of a sandbox that is seen to be paused stands still. It was seen to fail on a meter that never looks again.
func TestPauseReplyLost(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	micros(t, r, target)
	s.Fail(e2btest.Fault{Match: "POST /sandboxes/*/pause", Times: 4, Lose: true})
	if err := as[sandboxer.Pauser](t, r).Pause(t.Context(), target); err == nil || sandboxer.IsRefused(err) {
		t.Errorf("error is %v, want one that is no refusal", err)
	}
	in, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
	if err != nil || in.State != sandboxer.StatePaused {
		t.Fatal(in.State, err)
	}
	a := micros(t, r, target)
	time.Sleep(1500 * time.Millisecond)
	b := micros(t, r, target)
	if b > a {
		t.Errorf("it is paused, Inspect says so, and the meter goes on: %d, %d", a, b)
	}
}

// TestPauseCancelled: the same through a Manager, where the caller gave up.
func TestPauseCancelled(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	m := managed(t, s, nil)
	sb, err := m.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Meter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.Fail(e2btest.Fault{Match: "POST /sandboxes/*/pause", Times: 1, Lose: true, Do: func() { time.AfterFunc(20*time.Millisecond, cancel) }})
	_ = sb.Pause(ctx) // cancelled or not
	st, err := sb.Status(t.Context())
	if err != nil || st.State != sandboxer.StatePaused {
		t.Fatalf("it is %s, %v", st.State, err)
	}
	a, _ := sb.Meter(t.Context())
	time.Sleep(2 * time.Second)
	b, _ := sb.Meter(t.Context())
	if a.Total != b.Total {
		t.Errorf("paused, and it costs: %v, %v", a.Total, b.Total)
	}
}

// TestMeterAfterTheDeadline: a sandbox that E2B ended at its deadline costs nothing from then on, however late that is found out. It was seen to fail when
// the time counts until it is found out.
func TestMeterAfterTheDeadline(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	req := r.request()
	req.ExpiresAt = time.Now().Add(time.Second)
	h, err := r.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	target := r.target(req, h)
	micros(t, r, target)
	time.Sleep(5 * time.Second)
	if n := len(s.Live()); n != 0 {
		t.Fatal(n)
	}
	if _, err := r.Teardown(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if got := micros(t, r, target) / 2; got > 2_500_000 {
		t.Errorf("E2B ended it after 1-2 s, %d µs are billed", got)
	}
	other := newRig(t, s, nil) // a process that had not looked at its meter
	if got := micros(t, other, target) / 2; got > 2_500_000 {
		t.Errorf("a process that never looked bills %d µs", got)
	}
}

// TestPausedOverARestart: since when a sandbox is paused that an earlier process paused is not known, and the reading says so.
func TestPausedOverARestart(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	if err := as[sandboxer.Pauser](t, r).Pause(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	other := as[sandboxer.Meterer](t, newRig(t, s, nil))
	if got, err := other.MeterActual(t.Context(), target); err != nil || !got.Estimated {
		t.Errorf("%+v, %v", got, err)
	}
}
