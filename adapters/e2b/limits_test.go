//go:build unix

package e2b

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/internal/canary"
)

// impatient is an extension whose limits are a few hundred milliseconds, with a sandbox at a server of its own.
func impatient(t *testing.T, l limits) (*e2btest.Server, *extension, sandboxer.Target) {
	t.Helper()
	s, err := e2btest.Start(e2btest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := sandboxer.Inputs{"api_key": "env:E2B_API_KEY"}
	for k, v := range s.Config() {
		cfg[k] = v
	}
	x, err := Adapter().New(t.Context(), sandboxer.Settings{ExtensionID: "ext.e2b", Config: cfg, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e := x.(*extension)
	t.Cleanup(func() { _ = e.Close() }) // always nil
	e.limits = l
	req := asked()
	h, err := e.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	target := sandboxer.Target{Handle: h, Labels: req.Labels, Secret: req.Secret}
	if _, err := e.WaitReady(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return s, e, target
}

func asked() *sandboxer.ProvisionRequest {
	id := sandboxer.NewID()
	return &sandboxer.ProvisionRequest{
		ID: id, Attempt: 1, Name: string(id), Profile: sandboxer.Profile{Extension: "ext.e2b"},
		Labels: map[string]string{sandboxer.LabelID: string(id), sandboxer.LabelName: string(id), sandboxer.LabelOwner: "test.store"},
		Secret: func(context.Context, sandboxer.SecretRef) (sandboxer.Secret, error) {
			return sandboxer.NewSecret([]byte(canary.Key("team")), "v1"), nil
		},
	}
}

// stalls takes its time with each write.
type stalls struct {
	io.Writer
	pause time.Duration
}

func (s stalls) Write(p []byte) (int, error) {
	wait(s.pause)
	return s.Writer.Write(p)
}

// TestASlowWriterIsNoSilence: a reader who went for coffee does not make the connection count as dead; a sandbox that says
// nothing does.
func TestASlowWriterIsNoSilence(t *testing.T) {
	t.Parallel()
	s, e, target := impatient(t, limits{call: 10 * time.Second, silence: time.Second, send: time.Minute})
	var out bytes.Buffer
	res, err := e.Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "echo one; sleep 0.1; echo two"}, Stdout: stalls{&out, 1600 * time.Millisecond},
	})
	if err != nil || res.ExitCode != 0 || out.String() != "one\ntwo\n" {
		t.Errorf("with a slow writer: %+v, %q, %v", res, &out, err)
	}
	s.Fail(e2btest.Fault{Match: "POST /process.Process/Start", Times: 1, Delay: time.Minute})
	begun := time.Now()
	_, err = e.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"true"}})
	if sandboxer.CodeOf(err) != sandboxer.Unavailable || !errors.Is(err, errSilence) || time.Since(begun) > 20*time.Second {
		t.Errorf("a sandbox that says nothing: %v after %v", err, time.Since(begun))
	}
}

// TestInputWaitsForTheCommand: a command that reads late has its input late, however long that takes.
func TestInputWaitsForTheCommand(t *testing.T) {
	t.Parallel()
	_, e, target := impatient(t, limits{call: 700 * time.Millisecond, silence: time.Minute, send: time.Minute})
	in := strings.Repeat("0123456789abcdef", 1<<16) // more than pipes hold
	var out bytes.Buffer
	res, err := e.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", "sleep 2; wc -c"}, Stdin: strings.NewReader(in), Stdout: &out})
	if err != nil || res.ExitCode != 0 || strings.TrimSpace(out.String()) != "1048576" {
		t.Errorf("%+v, %q, %v", res, &out, err)
	}
	// One that never reads it ends as any other.
	res, err = e.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"sh", "-c", "sleep 1.5; exit 3"}, Stdin: strings.NewReader(in)})
	if err != nil || res.ExitCode != 3 {
		t.Errorf("a command that does not read: %+v, %v", res, err)
	}
}

// TestNoCreateIsSentLate: Find counts from the beginning of a create. One that is sent later than it counts with could make
// a sandbox after it was said that there will be none.
func TestNoCreateIsSentLate(t *testing.T) {
	t.Parallel()
	s, e, _ := impatient(t, limits{call: 10 * time.Second, silence: time.Minute, send: time.Minute})
	e.limits.send = 100 * time.Millisecond
	s.Requests()
	req := asked()
	fetch := req.Secret
	req.Secret = func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) { // a vault that takes its time
		wait(300 * time.Millisecond)
		return fetch(ctx, ref)
	}
	_, err := e.Provision(t.Context(), req)
	if !errors.Is(err, sandboxer.Unavailable) || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("a create that would be late: %v", err)
	}
	for _, q := range s.Requests() {
		if q.Method == http.MethodPost {
			t.Errorf("%s %s was sent", q.Method, q.Path)
		}
	}
	if _, err := e.Provision(t.Context(), asked()); err != nil {
		t.Errorf("one in time: %v", err)
	}
	if sendWindow+70*time.Second >= settleDefault {
		t.Error("a create that is sent last may work longer than Find waits")
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	c := &client{}
	broken := sandboxer.Mark(sandboxer.Unavailable, errors.New("broken"))
	get, create := request{repeatable: true}, request{}
	different := map[time.Duration]bool{}
	for try := 1; try < maxTries; try++ {
		for range 100 {
			d, again := c.wait(t.Context(), get, nil, broken, try)
			if low := 100 * time.Millisecond << try / 2; !again || d < low || d > 3*low {
				t.Fatalf("try %d: again %v, after %v", try, again, d)
			}
			different[d] = true
		}
	}
	if len(different) < 200 {
		t.Errorf("300 waits had %d lengths: callers that failed together come back together", len(different))
	}
	for name, again := range map[string]bool{
		"too often":   second(c.wait(t.Context(), get, nil, broken, maxTries)),
		"a create":    second(c.wait(t.Context(), create, nil, broken, 1)),
		"refused":     second(c.wait(t.Context(), get, nil, sandboxer.Refused(sandboxer.InvalidArgument, errors.New("no")), 1)),
		"the cap":     second(c.wait(t.Context(), create, &statusError{status: 429}, broken, 1)),
		"a long wait": second(c.wait(t.Context(), create, &statusError{status: 429, retryAfter: maxWait + 1}, broken, 1)),
	} {
		if again {
			t.Errorf("%s: it is sent again", name)
		}
	}
	limited := &statusError{status: 429, retryAfter: 2 * time.Second}
	if d, again := c.wait(t.Context(), create, limited, broken, 1); !again || d < 2*time.Second || d > 2500*time.Millisecond {
		t.Errorf("a rate limit: again %v, after %v", again, d)
	}
	tr, ok := newHTTP().Transport.(*http.Transport)
	if !ok || tr.IdleConnTimeout <= 0 || tr.IdleConnTimeout >= time.Minute || tr.MaxResponseHeaderBytes <= 0 || tr.DisableKeepAlives {
		t.Error("load balancers drop what is idle for a minute: connections have to be dropped before, and used again until then")
	}
}

func second(_ time.Duration, again bool) bool { return again }

// TestSnapshotIsNotSentLate: a snapshot is not asked for any more when it could be declared absent before it is there. It was seen
// to fail when its name is looked up for however long.
func TestSnapshotIsNotSentLate(t *testing.T) {
	t.Parallel()
	s, e, target := impatient(t, limits{call: 10 * time.Second, silence: time.Minute, send: time.Second})
	req := sandboxer.SnapshotRequest{ID: "snap-" + strings.TrimPrefix(string(sandboxer.NewID()), "sbx-"), Labels: target.Labels}
	s.Fail(e2btest.Fault{Match: "GET /snapshots", Times: 1, Delay: 1500 * time.Millisecond})
	if _, err := e.Snapshot(t.Context(), target, req); sandboxer.CodeOf(err) != sandboxer.Unavailable || !sandboxer.IsRefused(err) || len(s.Snapshots()) > 0 {
		t.Errorf("one that would be late: %v, stored %q", err, s.Snapshots())
	}
	if _, err := e.Snapshot(t.Context(), target, req); err != nil {
		t.Errorf("one in time: %v", err)
	}
}

// TestSlowSecretSource: a create fetches its key once, so that a slow source does not use up the time in which it may be sent. It
// was seen to fail when each request of a create fetches it.
func TestSlowSecretSource(t *testing.T) {
	t.Parallel()
	_, e, _ := impatient(t, limits{call: 10 * time.Second, silence: time.Minute, send: time.Minute})
	req := asked()
	fetch, n := req.Secret, 0
	req.Secret = func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error) {
		n++
		return fetch(ctx, ref)
	}
	if _, err := e.Provision(t.Context(), req); err != nil || n != 1 {
		t.Errorf("the key was fetched %d times: %v", n, err)
	}
}
