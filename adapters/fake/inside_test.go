package fake_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func sh(t testing.TB, ext sandboxer.Extension, sbx sandboxer.Target, r sandboxer.ExecRequest, script string) (string, sandboxer.ExecResult, error) {
	t.Helper()
	var out bytes.Buffer
	if r.Stdout == nil {
		r.Stdout, r.Stderr = &out, &out
	}
	r.Command = []string{"sh", "-c", script}
	res, err := as[sandboxer.Executor](t, ext).Exec(t.Context(), sbx, r)
	return out.String(), res, err
}

func TestExecBadRequests(t *testing.T) {
	t.Parallel()
	ext := open(t, fake.New().Adapter())
	sbx := made(t, ext, "one")
	x := as[sandboxer.Executor](t, ext)
	for name, tc := range map[string]struct {
		r    sandboxer.ExecRequest
		want sandboxer.Code
	}{
		"no command":    {sandboxer.ExecRequest{}, sandboxer.InvalidArgument},
		"empty command": {sandboxer.ExecRequest{Command: []string{""}}, sandboxer.InvalidArgument},
		"NUL":           {sandboxer.ExecRequest{Command: []string{"echo", "a\x00b"}}, sandboxer.InvalidArgument},
		"service":       {sandboxer.ExecRequest{Command: []string{"true"}, Service: "web"}, sandboxer.InvalidArgument},
		"variable":      {sandboxer.ExecRequest{Command: []string{"true"}, Env: map[string]string{"a=b": "c"}}, sandboxer.InvalidArgument},
		"directory":     {sandboxer.ExecRequest{Command: []string{"true"}, Dir: "nope"}, sandboxer.NotFound},
	} {
		_, err := x.Exec(t.Context(), sbx, tc.r)
		if !errors.Is(err, tc.want) || !sandboxer.IsRefused(err) {
			t.Errorf("%s: %v, want %s, refused", name, err, tc.want)
		}
	}
	if err := as[sandboxer.Pauser](t, ext).Pause(t.Context(), sbx); err != nil {
		t.Fatal(err)
	}
	_, _, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "true")
	wantCode(t, err, sandboxer.FailedPrecondition)
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	ext := open(t, fake.New().Adapter())
	sbx := made(t, ext, "one")
	resize := make(chan sandboxer.WindowSize, 1)
	resize <- sandboxer.WindowSize{Cols: 100, Rows: 30}
	var out bytes.Buffer
	res, err := as[sandboxer.Executor](t, ext).Exec(t.Context(), sbx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "stty size; echo $TERM >&2; [ -t 0 ] && echo tty; exit 3"}, Stdout: &out,
		TTY: &sandboxer.TTY{Term: "vt100", Resize: resize},
	})
	if err != nil || res.ExitCode != 3 || out.String() != "30 100\r\nvt100\r\ntty\r\n" {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
}

// TestExecEndsWithItsContext, its time and its sandbox, and so do background children.
func TestExecEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*fake.Backend, context.CancelFunc){
		"caller":   func(_ *fake.Backend, cancel context.CancelFunc) { cancel() },
		"teardown": func(b *fake.Backend, _ context.CancelFunc) { b.Vanish("one") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := fake.New()
				ext := open(t, b.Adapter())
				sbx := made(t, ext, "one")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(time.Second, func() { end(b, cancel) })
				r, w := io.Pipe()
				defer func() { _ = w.Close() }()
				_, err := as[sandboxer.Executor](t, ext).Exec(ctx, sbx, sandboxer.ExecRequest{
					Command: []string{"sh", "-c", "trap '' TERM; sleep 3600 & cat"}, Stdin: r})
				want := map[string]sandboxer.Code{"caller": sandboxer.Canceled, "teardown": sandboxer.Aborted}[name]
				wantCode(t, err, want)
			})
		})
	}
}

func TestTeardownEndsChildren(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := fake.New()
		ext := open(t, b.Adapter())
		sbx := made(t, ext, "one")
		pid, res, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "nohup sleep 3600 & echo $!")
		if err != nil || res.ExitCode != 0 {
			t.Fatalf("%q, %+v, %v", pid, res, err)
		}
		if out, _, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "kill -0 "+strings.TrimSpace(pid)+" && echo alive"); out != "alive\n" || err != nil {
			t.Errorf("the child is not there: %q, %v", out, err)
		}
		if _, err := ext.Teardown(t.Context(), sbx); err != nil {
			t.Error(err)
		}
		// The bubble ends only when every goroutine in it has.
	})
}

func TestFloodIsStreamed(t *testing.T) {
	t.Parallel()
	ext := open(t, fake.New().Adapter())
	sbx := made(t, ext, "one")
	var n counting
	res, err := as[sandboxer.Executor](t, ext).Exec(t.Context(), sbx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", "head -c 10000000 /dev/zero"}, Stdout: &n})
	if err != nil || res.ExitCode != 0 || n != 10_000_000 {
		t.Errorf("%d bytes, %+v, %v", n, res, err)
	}
}

type counting int

func (c *counting) Write(b []byte) (int, error) { *c += counting(len(b)); return len(b), nil }

func TestOnExec(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	sbx := made(t, ext, "one")
	b.OnExec(func(_ context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
		_, err := io.WriteString(r.Stdout, string(id)+" ran "+r.Command[0])
		return sandboxer.ExecResult{ExitCode: 5}, err
	})
	out, res, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "")
	if err != nil || res.ExitCode != 5 || out != "one ran sh" {
		t.Errorf("%q, %+v, %v", out, res, err)
	}
	b.OnExec(nil)
	if out, _, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "echo own"); err != nil || out != "own\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestListenAndDial(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	sbx := made(t, ext, "one")
	l, err := b.Listen("one", 8080)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen("one", 8080); err == nil {
		t.Error("two listen on one port")
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	ep, err := as[sandboxer.Exposer](t, ext).Expose(t.Context(), sbx, 8080)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return as[sandboxer.Dialer](t, ext).Dial(ctx, sbx, network, "localhost:8080")
	}
	for name, f := range map[string]func(context.Context, string, string) (net.Conn, error){"dial": dial, "exposed": b.DialContext} {
		c := http.Client{Transport: &http.Transport{DialContext: f, DisableKeepAlives: true}}
		res, err := c.Get(ep.URL)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	for _, bad := range []string{"localhost:81", "example.com:80", "localhost", "localhost:x", "10.0.0.1:80"} {
		if _, err := as[sandboxer.Dialer](t, ext).Dial(t.Context(), sbx, "tcp", bad); !sandboxer.IsRefused(err) {
			t.Errorf("Dial %s: %v", bad, err)
		}
	}
	if _, err := ext.Teardown(t.Context(), sbx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the server outlives its sandbox")
	}
	_ = srv.Close()
}

func TestServerInside(t *testing.T) {
	t.Parallel()
	ext := open(t, fake.New().Adapter())
	sbx := made(t, ext, "one")
	if _, res, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "nc -l -k -p 7 -e cat &"); err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	for range 3 {
		var c net.Conn
		var err error
		for c == nil { // it listens as soon as its goroutine runs
			if c, err = as[sandboxer.Dialer](t, ext).Dial(t.Context(), sbx, "tcp", "127.0.0.1:7"); err != nil && !errors.Is(err, sandboxer.Unavailable) {
				t.Fatal(err)
			}
		}
		go func() { _, _ = io.WriteString(c, "ping\n") }()
		line, err := bufio.NewReader(c).ReadString('\n')
		if line != "ping\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		_ = c.Close()
	}
	if _, err := ext.Teardown(t.Context(), sbx); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	sbx := made(t, ext, "one")
	if err := as[sandboxer.FileTransferer](t, ext).CopyIn(t.Context(), sbx, ".", tree(t)); err != nil {
		t.Fatal(err)
	}
	snaps, move := as[sandboxer.Snapshotter](t, ext), as[sandboxer.SnapshotTransferer](t, ext)
	snap, err := snaps.Snapshot(t.Context(), sbx, sandboxer.SnapshotRequest{ID: "snap", Labels: map[string]string{sandboxer.LabelOwner: owner}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := sh(t, ext, sbx, sandboxer.ExecRequest{}, "rm -r *; echo later > later"); err != nil {
		t.Fatal(err)
	}
	var bytesOut bytes.Buffer
	if err := move.ExportSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: snap}, &bytesOut); err != nil {
		t.Fatal(err)
	}
	moved := snap
	moved.Host = "other"
	there, err := move.ImportSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: moved, Host: sandboxer.Host{ID: "other"}}, &bytesOut)
	if err != nil || there.Digest != snap.Digest || there.Host != "other" {
		t.Fatalf("%+v, %v", there, err)
	}
	for name, s := range map[string]sandboxer.Snapshot{"here": snap, "there": there} {
		req := request(sandboxer.ID("restored-" + name))
		req.Host.ID = s.Host
		h, err := snaps.Restore(t.Context(), req, s)
		if err != nil {
			t.Fatal(err)
		}
		var got, want bytes.Buffer
		if err := as[sandboxer.FileTransferer](t, ext).CopyOut(t.Context(), target(h), "", &got); err != nil {
			t.Fatal(err)
		}
		if err := as[sandboxer.FileTransferer](t, ext).CopyIn(t.Context(), sbx, "/again-"+name, tree(t)); err != nil {
			t.Fatal(err)
		}
		if err := as[sandboxer.FileTransferer](t, ext).CopyOut(t.Context(), sbx, "/again-"+name, &want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: what is restored differs", name)
		}
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	b := fake.New()
	ext := open(t, b.Adapter())
	req := request("one")
	req.Inputs = sandboxer.Inputs{"files": map[string]any{"a/b.txt": "seed"}}
	h, err := ext.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if out, _, err := sh(t, ext, target(h), sandboxer.ExecRequest{}, "cat a/b.txt"); out != "seed" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	anything := open(t, b.InPlaceOf("compose-ssh", sandboxer.CapExec))
	req = request("two")
	req.Inputs = sandboxer.Inputs{"compose_file": "x.yaml", "vm": 7}
	if _, err := anything.Provision(t.Context(), req); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]sandboxer.Capability{sandboxer.CapExec}, sandboxer.Capabilities(anything)); diff != "" {
		t.Error(diff)
	}
}
