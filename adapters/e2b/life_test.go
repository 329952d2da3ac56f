//go:build unix

package e2b_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

var (
	otherTeam = canary.Key("another team")
	sameTeam  = canary.Key("another key of the team")
)

func TestNotFoundUnderAnotherTeamsKeyIsNotGone(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Keys: map[string]string{canaryKey: "one", otherTeam: "two", sameTeam: "one"}})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	inspect := as[sandboxer.Inspector](t, r).Inspect

	r.key.set(otherTeam)
	_, err := inspect(t.Context(), target)
	wantCode(t, "Inspect with another team's key", err, sandboxer.Unauthenticated, false)
	_, err = r.Teardown(t.Context(), target)
	wantCode(t, "Teardown with another team's key", err, sandboxer.Unauthenticated, false)
	if len(s.Live()) != 1 {
		t.Error("it is gone")
	}

	r.key.set(sameTeam)
	if rep, err := r.Teardown(t.Context(), target); err != nil || len(rep.Removed) != 1 {
		t.Errorf("Teardown with another key of the same team: %+v, %v", rep, err)
	}
	_, err = inspect(t.Context(), target)
	wantCode(t, "Inspect afterwards, with a key that was seen to see it", err, sandboxer.NotFound, true)
	if rep, err := r.Teardown(t.Context(), target); err != nil || len(rep.Removed) != 0 {
		t.Errorf("Teardown of what is gone: %+v, %v", rep, err)
	}
}

func TestRevokedKey(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Keys: map[string]string{canaryKey: "one"}})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	s.Revoke(canaryKey)
	_, err := r.Teardown(t.Context(), target)
	wantCode(t, "Teardown with a revoked key", err, sandboxer.Unauthenticated, true)
}

func TestExtendNeverShortens(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{MaxLifetime: 2 * time.Hour})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	extend := as[sandboxer.Extender](t, r).Extend
	begun := time.Now()
	for _, c := range []struct{ ask, atLeast, atMost time.Duration }{
		{time.Minute, 29 * time.Minute, 30 * time.Minute}, // shorter: as it was
		{time.Hour, time.Hour - time.Second, time.Hour + 2*time.Second},
		{10 * time.Minute, time.Hour - time.Second, time.Hour + 2*time.Second},
		{9 * time.Hour, 2*time.Hour - 5*time.Second, 2*time.Hour + time.Second}, // silently capped by E2B
	} {
		got, err := extend(t.Context(), target, begun.Add(c.ask))
		if left := got.Sub(begun); err != nil || left < c.atLeast || left > c.atMost {
			t.Errorf("asked for %v: granted %v, %v", c.ask, left, err)
		}
	}
	if err := as[sandboxer.Pauser](t, r).Pause(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	_, err := extend(t.Context(), target, begun.Add(time.Hour))
	wantCode(t, "Extend while paused", err, sandboxer.FailedPrecondition, true)
}

func TestWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	p := as[sandboxer.Pauser](t, r)
	for range 2 {
		if err := p.Pause(t.Context(), target); err != nil {
			t.Fatalf("Pause: %v", err)
		}
	}
	_, _, _, err := r.sh(t.Context(), target, "true")
	wantCode(t, "Exec while paused", err, sandboxer.FailedPrecondition, true)
	for range 2 {
		if _, err := p.Resume(t.Context(), target); err != nil {
			t.Fatalf("Resume: %v", err)
		}
	}
	if _, _, _, err := r.sh(t.Context(), target, "true"); err != nil {
		t.Errorf("Exec after Resume: %v", err)
	}
	s.Expire()
	_, _, _, err = r.sh(t.Context(), target, "true")
	wantCode(t, "Exec in a sandbox that expired", err, sandboxer.NotFound, false)
	if !strings.Contains(err.Error(), "create a new sandbox") {
		t.Errorf("it does not say what to do: %v", err)
	}
	_, err = r.WaitReady(t.Context(), target)
	wantCode(t, "WaitReady of a sandbox that expired", err, sandboxer.NotFound, true)
	wantCode(t, "Pause of a sandbox that expired", p.Pause(t.Context(), target), sandboxer.NotFound, true)
}

func TestARefusedTokenIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]e2btest.Options{"shown": {}, "hidden": {HideTokens: true}, "without v2": {HideTokens: true, Old: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, opts)
			r := newRig(t, s, nil)
			target := r.sandbox(t)
			if _, err := r.WaitReady(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			before, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			s.RevokeTokens()
			if _, out, _, err := r.sh(t.Context(), target, "echo on"); err != nil || out != "on\n" {
				t.Errorf("%q, %v", out, err)
			}
			after, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
			if err != nil || !after.ExpiresAt.Equal(before.ExpiresAt) {
				t.Errorf("asking for the token moved the end from %v to %v (%v)", before.ExpiresAt, after.ExpiresAt, err)
			}
		})
	}
}

// TestASandboxThatGoesWhileACommandRuns: the command's fate is the sandbox's, and the error says what that was.
func TestASandboxThatGoesWhileACommandRuns(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	for name, c := range map[string]struct {
		leave func(sandboxer.Target) error
		code  sandboxer.Code
		says  string
	}{
		"expires":   {func(sandboxer.Target) error { s.Expire(); return nil }, sandboxer.NotFound, "create a new sandbox"},
		"is ended":  {func(x sandboxer.Target) error { _, err := r.Teardown(t.Context(), x); return err }, sandboxer.NotFound, "create a new sandbox"},
		"is paused": {func(x sandboxer.Target) error { return as[sandboxer.Pauser](t, r).Pause(t.Context(), x) }, sandboxer.FailedPrecondition, "resume it first"},
	} {
		target := r.sandbox(t)
		out := &lines{want: "begun", seen: make(chan struct{})}
		left := make(chan error, 1)
		go func() { <-out.seen; left <- c.leave(target) }()
		_, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo begun; sleep 300"}, Stdout: out})
		wantCode(t, "Exec in a sandbox that "+name, err, c.code, false)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "while the command ran") {
			t.Errorf("%s: it does not say what happened and what to do: %v", name, err)
		}
		if err := <-left; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLookingDoesNotResume: to talk to a sandbox its token is asked for, with a call that resumes what is paused. What
// somebody pauses between two requests is paused afterwards, with its files.
func TestLookingDoesNotResume(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{HideTokens: true})
	r, other := newRig(t, s, nil), newRig(t, s, nil)
	target := r.sandbox(t)
	if _, _, _, err := r.sh(t.Context(), target, "echo kept > f"); err != nil {
		t.Fatal(err)
	}
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes/*/connect", Times: 1, Do: func() {
		if err := as[sandboxer.Pauser](t, r).Pause(t.Context(), target); err != nil {
			t.Error(err)
		}
	}})
	_, _, _, err := other.sh(t.Context(), target, "true")
	wantCode(t, "Exec in a sandbox that was being paused", err, sandboxer.FailedPrecondition, true)
	if in, err := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target); err != nil || in.State != sandboxer.StatePaused {
		t.Errorf("it is %s now, %v", in.State, err)
	}
	if _, err := as[sandboxer.Pauser](t, other).Resume(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if _, out, _, err := other.sh(t.Context(), target, "cat f"); err != nil || out != "kept\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestExpose(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, "hello from "+q.URL.Path) })}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	expose := as[sandboxer.Exposer](t, r).Expose
	at, err := expose(t.Context(), target, l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(at.URL + "/page")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || string(text) != "hello from /page" {
		t.Errorf("%q, %v", text, err)
	}
	for _, port := range []int{0, -1, 65536, 49983} {
		_, err := expose(t.Context(), target, port)
		wantCode(t, "Expose", err, sandboxer.InvalidArgument, true)
	}
	target.Inputs = sandboxer.Inputs{"public_ports": false}
	_, err = expose(t.Context(), target, 80)
	wantCode(t, "Expose without public ports", err, sandboxer.FailedPrecondition, true)
	if _, ok := sandboxer.As[sandboxer.Dialer](r.Extension); ok {
		t.Error("it says that it can Dial, and E2B's edge speaks HTTP only")
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, sandboxer.Inputs{"settle": "5s"})
	target := r.sandbox(t)
	if _, _, _, err := r.sh(t.Context(), target, "echo kept > f"); err != nil {
		t.Fatal(err)
	}
	x := as[sandboxer.Snapshotter](t, r)
	id := "snap-" + strings.TrimPrefix(string(sandboxer.NewID()), "sbx-")
	ask := sandboxer.SnapshotRequest{ID: id, Name: "mine", Labels: map[string]string{sandboxer.LabelOwner: owner}}
	lost := e2btest.Fault{Match: "POST /sandboxes/*/snapshots", Times: 1, Lose: true}
	s.Fail(lost)
	_, err := x.Snapshot(t.Context(), target, ask)
	wantCode(t, "Snapshot whose reply was lost", err, sandboxer.Unavailable, false)
	snap, err := x.Snapshot(t.Context(), target, ask)
	if err != nil || len(s.Snapshots()) != 1 {
		t.Fatalf("Snapshot again: %v; stored: %q", err, s.Snapshots())
	}

	list := func(owner string) (ids []string) {
		for got, err := range x.ListSnapshots(t.Context(), sandboxer.ListQuery{Secret: r.key.secret, Labels: map[string]string{sandboxer.LabelOwner: owner}}) {
			if err != nil {
				t.Fatal(err)
			}
			if got.Labels[sandboxer.LabelOwner] != owner || got.Kind != "memory" || time.Since(got.CreatedAt).Abs() > time.Minute {
				t.Errorf("listed as %+v", got)
			}
			ids = append(ids, got.ID)
		}
		return ids
	}
	if ids := list(owner); len(ids) != 1 || ids[0] != id {
		t.Errorf("listed: %q", ids)
	}
	if ids := list("somebody.else"); len(ids) != 0 {
		t.Errorf("another owner sees %q", ids)
	}

	second := newRig(t, s, nil)
	req := r.request()
	h, err := as[sandboxer.Snapshotter](t, second).Restore(t.Context(), req, snap)
	if err != nil {
		t.Fatal(err)
	}
	restored := r.target(req, h)
	if _, out, _, err := second.sh(t.Context(), restored, "cat f"); err != nil || out != "kept\n" {
		t.Errorf("restored: %q, %v", out, err)
	}
	whole := sandboxer.SnapshotTarget{Snapshot: snap, Secret: r.key.secret}
	wantCode(t, "DeleteSnapshot in use", x.DeleteSnapshot(t.Context(), whole), sandboxer.FailedPrecondition, true)
	if _, err := second.Teardown(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	bare := whole
	bare.Snapshot = sandboxer.Snapshot{ID: id, Labels: ask.Labels, CreatedAt: time.Now()}
	for _, subject := range []sandboxer.SnapshotTarget{bare, whole} {
		if err := x.DeleteSnapshot(t.Context(), subject); err != nil || len(s.Snapshots()) != 0 {
			t.Errorf("DeleteSnapshot: %v; stored: %q", err, s.Snapshots())
		}
	}
	err = x.DeleteSnapshot(t.Context(), bare)
	wantCode(t, "DeleteSnapshot by ID of what may still be taken", err, sandboxer.Unavailable, false)
	_, err = x.Restore(t.Context(), r.request(), snap)
	wantCode(t, "Restore of what is gone", err, sandboxer.NotFound, true)
}
