//go:build unix

package e2b_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// TestTokenChangesBeforeInput: a command that has begun is not begun again when the access token changes, and its input goes on under the new one. It was seen to
// fail when whatever finds a stale token is done from the start: the command ran twice, and its input was lost.
func TestTokenChangesBeforeInput(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	if _, err := r.WaitReady(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	mark := "mark-" + string(sandboxer.NewID())
	s.Fail(e2btest.Fault{Match: "POST /process.Process/SendInput", Times: 1, Do: s.RevokeTokens})
	var out bytes.Buffer
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "echo run >> runs; cat; : " + mark}, Stdin: strings.NewReader("hello"), Stdout: &out,
	})
	left := running(t, mark)
	_, runs, _, _ := r.sh(t.Context(), target, "cat runs")
	if err != nil || res.ExitCode != 0 || out.String() != "hello" {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
	if runs != "run\n" {
		t.Errorf("it ran more than once: %q", runs)
	}
	if len(left) > 0 {
		t.Errorf("runs on: %q", left)
	}
}

// TestTokenChangesAndStreamBreaks: a command whose stream breaks runs once, also where ending it finds that the access token has changed. It was seen to fail in the
// same way.
func TestTokenChangesAndStreamBreaks(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	if _, err := r.WaitReady(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("first")) && out.Len() == 0 {
			s.RevokeTokens()
		}
		return out.Write(p)
	})
	s.Fail(e2btest.Fault{Match: "POST /process.Process/Start", Times: 1, CutAt: 150})
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "echo run >> runs; echo first; sleep 1; echo second"}, Stdout: w,
	})
	if sandboxer.CodeOf(err) != sandboxer.Unavailable || sandboxer.IsRefused(err) {
		t.Errorf("%+v, %v, want Unavailable and an unknown fate", res, err)
	}
	if _, runs, _, _ := r.sh(t.Context(), target, "cat runs"); runs != "run\n" {
		t.Errorf("it ran %d times", strings.Count(runs, "run"))
	}
}

// TestTokenChangesBeforeTheLimit: a command that is said to have been killed was. It was seen to fail on a kill that takes a stale token for its last word.
func TestTokenChangesBeforeTheLimit(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	mark := "mark-" + string(sandboxer.NewID())
	out := &lines{want: "begun", seen: make(chan struct{})}
	go func() { <-out.seen; s.RevokeTokens() }()
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "echo begun; sleep 20; : " + mark}, Stdout: out, Timeout: time.Second,
	})
	if err != nil || !res.TimedOut {
		t.Errorf("%+v, %v", res, err)
	}
	if left := running(t, mark); len(left) > 0 {
		t.Errorf("it runs on: %q", left)
	}
}

// TestInputRefused: what is refused behind the start of a command is no refusal of it, and leaves nothing that runs. It was seen to fail when the
// refusal is passed on.
func TestInputRefused(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]e2btest.Fault{"429": {Status: 429, Body: `{}`}, "403": {Status: 403, Body: `{}`}} {
		s := start(t, e2btest.Options{})
		r := newRig(t, s, nil)
		target := r.sandbox(t)
		mark := "mark-" + string(sandboxer.NewID())
		f.Match, f.Times = "POST /process.Process/SendInput", 1
		s.Fail(f)
		res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
			Command: []string{"sh", "-c", "echo run >> runs; sleep 20; : " + mark}, Stdin: strings.NewReader("hello"),
		})
		if err == nil || sandboxer.IsRefused(err) {
			t.Errorf("%s: %+v, %v, want an error that is no refusal", name, res, err)
		}
		if left := running(t, mark); len(left) > 0 {
			t.Errorf("%s: runs on: %q", name, left)
		}
		if _, runs, _, _ := r.sh(t.Context(), target, "cat runs"); runs != "run\n" {
			t.Errorf("%s: it ran %q", name, runs)
		}
	}
}

// TestResumeLostThenRefused: a try that is refused behind one whose reply was lost says nothing of the first. It was seen to fail when the last answer counts.
func TestResumeLostThenRefused(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	m := managed(t, s, nil)
	sb, err := m.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes/*/connect", Times: 1, Lose: true})
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes/*/connect", Times: 1, Status: 429, Body: `{"code":429,"message":"rate limit"}`})
	err = sb.Resume(t.Context())
	if sandboxer.IsRefused(err) {
		t.Errorf("E2B has resumed it, and the error says that nothing was done: %v", err)
	}
	st, _ := sb.Status(t.Context())
	if st.State == sandboxer.StatePaused {
		t.Errorf("it is recorded as paused: %s", st.Reason)
	}
	if _, err := sb.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestResumedThenRefused: what is refused behind a resume that succeeded does not undo it. It was seen to fail when the refusal is passed on.
func TestResumedThenRefused(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	m := managed(t, s, nil)
	sb, err := m.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Fail(e2btest.Fault{Match: "POST /filesystem.Filesystem/Stat", Times: 1, Status: 429, Body: `{}`})
	err = sb.Resume(t.Context())
	st, _ := sb.Status(t.Context())
	if sandboxer.IsRefused(err) || st.State == sandboxer.StatePaused {
		t.Errorf("E2B has resumed it: %v, %s", err, st.State)
	}
	if _, err := sb.Output(t.Context(), "true"); err != nil {
		t.Errorf("it cannot be used: %v", err)
	}
	if _, err := sb.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestExtendedThenRefused: the same for an extension whose outcome cannot be read.
func TestExtendedThenRefused(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	until := time.Now().Add(2 * time.Hour)
	s.Fail(e2btest.Fault{Match: "GET /sandboxes/*", Skip: 1, Times: 1, Status: 429, Body: `{}`})
	_, err := as[sandboxer.Extender](t, r).Extend(t.Context(), target, until)
	in, ierr := as[sandboxer.Inspector](t, r).Inspect(t.Context(), target)
	if ierr != nil || time.Until(in.ExpiresAt) < time.Hour {
		t.Fatalf("it was not extended: %v, %v", in.ExpiresAt, ierr)
	}
	if err == nil || sandboxer.IsRefused(err) {
		t.Errorf("error is %v, want one that is no refusal", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestManyProvisionsAfterUnknown: callers that all find nothing of a create whose reply was lost buy one sandbox. It was seen to fail when each forgets what the
// others began.
func TestManyProvisionsAfterUnknown(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{Placement: 300 * time.Millisecond})
	r := newRig(t, s, nil)
	req := r.request()
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Status: 503, Body: `{}`})
	if _, err := r.Provision(t.Context(), req); sandboxer.IsRefused(err) || err == nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	s.Requests()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, _ = r.Provision(t.Context(), req) // what it says is another test's
		})
	}
	wg.Wait()
	if n := asked(s, "POST /v2/sandboxes"); n != 1 || len(s.Live()) != 1 {
		t.Errorf("%d creates were sent, %d live", n, len(s.Live()))
	}
}

// TestReadinessIsAskedTooOften: a sandbox is not given up because the way to it is busy for a moment.
func TestReadinessIsAskedTooOften(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	m := managed(t, s, nil)
	s.Fail(e2btest.Fault{Match: "POST /filesystem.Filesystem/Stat", Times: 1, Status: 429, Body: `{}`, Header: map[string]string{"Retry-After": "1"}})
	sb, err := m.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := sb.Status(t.Context()); err != nil || len(st.Attempts) != 1 {
		t.Errorf("%+v, %v", st.Attempts, err)
	}
	if _, err := sb.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPlansOfTenants: what one tenant's plan allows says nothing of another's, whatever versions their keys have.
func TestPlansOfTenants(t *testing.T) {
	t.Parallel()
	a1, b1 := canaryKey, otherTeam
	s := start(t, e2btest.Options{Keys: map[string]string{a1: "a", b1: "b"}})
	r := newRig(t, s, nil)
	with := func(key, v string) sandboxer.SecretFunc {
		return func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
			return sandboxer.NewSecret([]byte(key), v), nil
		}
	}
	s.Fail(e2btest.Fault{Match: "POST /v2/sandboxes", Times: 1, Status: 400, Body: `{"code":400,"message":"Timeout cannot be greater than 1 hours"}`})
	for _, key := range []string{a1, b1} {
		req := r.request()
		req.ExpiresAt = time.Now().Add(5 * time.Hour)
		req.Secret = with(key, "row-1")
		h, err := r.Provision(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		x := r.target(req, h)
		x.Secret = req.Secret
		reach, err := r.WaitReady(t.Context(), x)
		want := map[string]time.Duration{a1: time.Hour, b1: 5 * time.Hour}[key]
		if got := time.Until(reach.ExpiresAt).Round(time.Minute); err != nil || got != want {
			t.Errorf("it lives for %v, want %v: %v", got, want, err)
		}
	}
}
