package composessh_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
)

// far is a request whose host is reached through a proxy; near is the same one without.
type far struct {
	h     *hosttest.Host
	proxy *sshtest.Proxy
	ext   sandboxer.Extension
	req   *sandboxer.ProvisionRequest
}

func newFar(t *testing.T, n int, sshd ...string) *far {
	t.Helper()
	h := hosttest.Start(t, n, sshd...)
	f := &far{h: h, proxy: h.Proxy(), req: provisionRequest(h, repository(t, oneService))}
	f.ext = build(t, adapter(""))
	f.req.Host.Address = f.proxy.Address
	return f
}

func (f *far) near() *sandboxer.ProvisionRequest {
	req := *f.req
	req.Host = f.h.Host()
	return &req
}

// gone tears down by name, over a way without faults and by another process, and looks that nothing is left.
func (f *far) gone(t *testing.T) {
	t.Helper()
	f.proxy.ResetAfter(-1)
	f.proxy.BlackHole(false)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ext := build(t, adapter(""))
	if _, err := ext.Teardown(ctx, target(f.near(), sandboxer.BareHandle(f.req.Ref()))); err != nil {
		t.Errorf("teardown by name: %v", err)
	}
	nothingLeft(t, f.h, f.req.ID)
	closeExt(t, ext)
}

// within runs a call that must return in time, whatever the network does.
func within(t *testing.T, d time.Duration, what string, call func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(d + 40*time.Second): // several graces, of what it has to end
		t.Fatalf("%s hangs", what)
		return nil
	}
}

func (f *far) up(t *testing.T) sandboxer.Target {
	t.Helper()
	handle, err := f.ext.Provision(context.Background(), f.req)
	if err == nil {
		_, err = f.ext.WaitReady(context.Background(), target(f.req, handle))
	}
	if err != nil {
		t.Fatal(err)
	}
	return target(f.req, handle)
}

// TestProvisionIsCutOff: the connection is reset at random places of a create. Whatever came of it is found by name and
// removed; a repeated create finds what is there.
func TestProvisionIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFar(t, 1)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for round := range 6 {
		f.req = func() *sandboxer.ProvisionRequest {
			req := provisionRequest(f.h, f.req.Inputs["repo"].(string))
			req.Host.Address = f.proxy.Address
			return req
		}()
		f.proxy.ResetAfter(random.Int64N(60_000))
		var handle sandboxer.Handle
		err := within(t, time.Minute, "Provision", func(ctx context.Context) (err error) {
			handle, err = f.ext.Provision(ctx, f.req)
			return err
		})
		f.proxy.ResetAfter(-1)
		if err != nil && round%2 == 0 {
			again, err := f.ext.Provision(context.Background(), f.req)
			if err != nil {
				t.Errorf("the create was cut off, and cannot be repeated: %v", err)
			}
			if handle.HasState() && again != handle {
				t.Errorf("repeated, the create has another handle")
			}
		}
		f.gone(t)
	}
}

// TestExecIsCutOff: a command whose connection ends is an error, and the command ends in its container.
func TestExecIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFar(t, 2)
	to := f.up(t)
	x := f.ext.(sandboxer.Executor)
	for what, cut := range map[string]func(){
		"reset":     f.proxy.Reset,
		"half-open": f.proxy.HalfOpen,
		"restart":   f.h.Server.Restart,
	} {
		f.cut(t, what, x, to, cut)
		f.proxy.BlackHole(false) // which half-open connections are in
		f.noProcess(t, what, "4242")
	}
	f.gone(t)
}

// cut runs a command, cuts its connection when it has begun, and looks that it fails. One that failed before it began, on
// what the last cut has left of a connection, is tried again.
func (f *far) cut(t *testing.T, what string, x sandboxer.Executor, to sandboxer.Target, cut func()) {
	t.Helper()
	for range 5 {
		begun, ended := &mark{want: "begun", seen: make(chan struct{})}, make(chan struct{})
		go func() {
			select {
			case <-begun.seen:
				cut()
			case <-ended:
			}
		}()
		var res sandboxer.ExecResult
		err := within(t, 90*time.Second, "Exec, "+what, func(ctx context.Context) (err error) {
			res, err = x.Exec(ctx, to, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo begun; setsid sleep 4242 & sleep 4242"}, Stdout: begun})
			return err
		})
		close(ended)
		if err == nil {
			t.Errorf("%s: a command that was cut off ended with %+v", what, res)
		}
		select {
		case <-begun.seen:
			return
		default:
		}
	}
	t.Errorf("%s: five commands in a row could not begin", what)
}

// noProcess waits until nothing with part in its command line runs in the main container.
func (f *far) noProcess(t *testing.T, what, part string) {
	t.Helper()
	begun := time.Now()
	for strings.Contains(f.h.Docker("top", f.req.Name+"-app-1", "-eo", "pid,args"), part) {
		if time.Since(begun) > 2*time.Minute {
			t.Fatalf("%s: the command runs on in its container:\n%s", what, f.h.Docker("top", f.req.Name+"-app-1", "-eo", "pid,args"))
		}
		pause(t, 200*time.Millisecond)
	}
}

// mark is closed when a text was written.
type mark struct {
	want string
	got  bytes.Buffer
	seen chan struct{}
}

func (m *mark) Write(p []byte) (int, error) {
	was := strings.Contains(m.got.String(), m.want)
	m.got.Write(p)
	if !was && strings.Contains(m.got.String(), m.want) {
		close(m.seen)
	}
	return len(p), nil
}

// TestBlackHole: nothing arrives any more in either direction. Every call ends with its context.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	f := newFar(t, 1)
	to := f.up(t)
	f.proxy.BlackHole(true)
	for what, call := range map[string]func(ctx context.Context) error{
		"WaitReady": func(ctx context.Context) error { _, err := f.ext.WaitReady(ctx, to); return err },
		"Inspect":   func(ctx context.Context) error { _, err := f.ext.(sandboxer.Inspector).Inspect(ctx, to); return err },
		"Exec": func(ctx context.Context) error {
			_, err := f.ext.(sandboxer.Executor).Exec(ctx, to, sandboxer.ExecRequest{Command: []string{"true"}})
			return err
		},
		"CopyOut": func(ctx context.Context) error {
			return f.ext.(sandboxer.FileTransferer).CopyOut(ctx, to, "", io.Discard)
		},
		"Teardown": func(ctx context.Context) error { _, err := f.ext.Teardown(ctx, to); return err },
		"Dial": func(ctx context.Context) error {
			_, err := f.ext.(sandboxer.Dialer).Dial(ctx, to, "tcp", "localhost:1")
			return err
		},
		"Snapshot": func(ctx context.Context) error {
			_, err := f.ext.(sandboxer.Snapshotter).Snapshot(ctx, to, sandboxer.SnapshotRequest{ID: "snap-black", Labels: f.req.Labels})
			return err
		},
	} {
		if err := within(t, time.Second, what, call); err == nil {
			t.Errorf("%s succeeded though nothing arrives", what)
		}
	}
	f.gone(t)
}

// TestSnapshotIsCutOff: a snapshot whose connection is reset is there as a whole or not at all, and its sandbox goes on.
func TestSnapshotIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFar(t, 2)
	to := f.up(t)
	snaps := f.ext.(sandboxer.Snapshotter)
	if _, err := f.ext.(sandboxer.Executor).Exec(context.Background(), to, sandboxer.ExecRequest{Command: []string{"dd", "if=/dev/urandom", "of=big", "bs=1M", "count=24"}}); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		id := "snap-" + string(f.req.ID) + "-" + string(rune('a'+round))
		f.proxy.ResetAfter(3000 + int64(round)*3500)
		err := within(t, time.Minute, "Snapshot", func(ctx context.Context) error {
			_, err := snaps.Snapshot(ctx, to, sandboxer.SnapshotRequest{ID: id, Labels: f.req.Labels})
			return err
		})
		f.proxy.ResetAfter(-1)
		seen := 0
		for s, lerr := range snaps.ListSnapshots(context.Background(), sandboxer.ListQuery{Host: f.req.Host, Secret: f.req.Secret, Labels: f.req.Labels}) {
			if lerr != nil {
				t.Fatal(lerr)
			}
			if s.ID == id {
				seen++
			}
		}
		if err == nil && seen != 1 {
			t.Errorf("a snapshot that was taken is listed %d times", seen)
		}
		begun := time.Now()
		for strings.Contains(f.h.Docker("ps", "--filter", "label=sandboxer-name="+f.req.Name, "--format", "{{.State}}"), "paused") {
			if time.Since(begun) > 30*time.Second {
				t.Fatal("the services are still held after a snapshot that was cut off")
			}
			pause(t, 200*time.Millisecond)
		}
		if err := snaps.DeleteSnapshot(context.Background(), sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: id, Labels: f.req.Labels}, Host: f.req.Host, Secret: f.req.Secret}); err != nil {
			t.Errorf("deleting it by its ID: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(f.h.Server.Home, place, ".snapshots", ".*")); len(left) > 0 {
		t.Errorf("half snapshots are left: %q", left)
	}
	f.gone(t)
}

// TestCopyIsCutOff: a copy whose connection is reset, or whose bytes only drip, is an error and not half of a tree.
func TestCopyIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFar(t, 1)
	to := f.up(t)
	files := f.ext.(sandboxer.FileTransferer)
	dir := t.TempDir()
	big := make([]byte, 4<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	stream := tarOf(t, dir)
	f.proxy.ResetAfter(1 << 20)
	if err := within(t, time.Minute, "CopyIn", func(ctx context.Context) error { return files.CopyIn(ctx, to, "in", bytes.NewReader(stream)) }); err == nil {
		t.Error("a copy whose connection was reset succeeded")
	}
	f.proxy.ResetAfter(-1)
	if err := files.CopyIn(context.Background(), to, "in", bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	f.proxy.ResetAfter(1 << 20)
	var got bytes.Buffer
	if err := within(t, time.Minute, "CopyOut", func(ctx context.Context) error { return files.CopyOut(ctx, to, "in", &got) }); err == nil {
		t.Error("a copy whose connection was reset succeeded")
	}
	f.proxy.ResetAfter(-1)
	f.proxy.Drip(4096, 20*time.Millisecond)
	err := within(t, 2*time.Second, "CopyIn", func(ctx context.Context) error { return files.CopyIn(ctx, to, "drip", bytes.NewReader(stream)) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a copy that drips ended with: %v", err)
	}
	f.proxy.Drip(0, 0)
	f.gone(t)
}

// TestOneSession: a server that allows one session for each connection serves all there is.
func TestOneSession(t *testing.T) {
	t.Parallel()
	f := newFar(t, 2, "MaxSessions 1")
	to := f.up(t)
	x := f.ext.(sandboxer.Executor)
	errs := make(chan error, 6)
	for range cap(errs) {
		go func() {
			_, err := x.Exec(context.Background(), to, sandboxer.ExecRequest{Command: []string{"sleep", "0.3"}})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := f.ext.(sandboxer.FileTransferer).CopyOut(context.Background(), to, "", io.Discard); err != nil {
		t.Error(err)
	}
	f.gone(t)
}

// TestChangedHostKey: a host that is not the one that is known gets nothing.
func TestChangedHostKey(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	known := h.Host()
	h.Server.NewHostKey()
	h.Server.Restart()
	req := provisionRequest(h, repository(t, oneService))
	req.Host = known
	_, err := build(t, adapter("")).Provision(context.Background(), req)
	if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("a changed host key: %v", err)
	}
	nothingLeft(t, h, req.ID)
}
