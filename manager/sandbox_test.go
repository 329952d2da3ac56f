package manager_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
	"github.com/sand-boxer/sandboxer/manager"
)

// methods are all that can be done with a ready sandbox, and the capability that each needs.
func methods(dir string) map[string]struct {
	needs sandboxer.Capability
	do    func(context.Context, *manager.Sandbox) error
} {
	type method = struct {
		needs sandboxer.Capability
		do    func(context.Context, *manager.Sandbox) error
	}
	return map[string]method{
		"exec": {sandboxer.CapExec, func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"true"}})
			return err
		}},
		"output":   {sandboxer.CapExec, func(ctx context.Context, sb *manager.Sandbox) error { _, err := sb.Output(ctx, "true"); return err }},
		"copy in":  {sandboxer.CapFiles, func(ctx context.Context, sb *manager.Sandbox) error { return sb.CopyIn(ctx, "", fstest.MapFS{}) }},
		"sync":     {sandboxer.CapSync, func(ctx context.Context, sb *manager.Sandbox) error { return sb.Sync(ctx, "", fstest.MapFS{}) }},
		"copy out": {sandboxer.CapFiles, func(ctx context.Context, sb *manager.Sandbox) error { return sb.CopyOut(ctx, "", dir) }},
		"dial": {sandboxer.CapDial, func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Dial(ctx, "tcp", "localhost:80")
			if errors.Is(err, sandboxer.Unavailable) {
				return nil // nobody listens there
			}
			return err
		}},
		"expose": {sandboxer.CapExpose, func(ctx context.Context, sb *manager.Sandbox) error { _, err := sb.Expose(ctx, 80); return err }},
		"snapshot": {sandboxer.CapSnapshot, func(ctx context.Context, sb *manager.Sandbox) error {
			_, err := sb.Snapshot(ctx, sandboxer.SnapshotRequest{})
			return err
		}},
		"meter": {sandboxer.CapMeter, func(ctx context.Context, sb *manager.Sandbox) error { _, err := sb.Meter(ctx); return err }},
		"pause": {sandboxer.CapPause, func(ctx context.Context, sb *manager.Sandbox) error { return sb.Pause(ctx) }},
	}
}

// TestUnsupported: each method says so where the extension cannot do it, and names what it can.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	for name, method := range methods("") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandboxer.CapFind, sandboxer.CapList)
			m := w.open()
			sb := created(t, m, ask("a"))
			err := method.do(context.Background(), sb)
			wantCode(t, err, sandboxer.Unsupported)
			wantText(t, err, "ext.fake", string(method.needs), "find, list")
			if !errors.Is(err, errors.ErrUnsupported) || !sandboxer.IsRefused(err) {
				t.Errorf("%v is not errors.ErrUnsupported, or does not say that nothing was done", err)
			}
			if sb.Supports(method.needs) {
				t.Errorf("Supports(%s)", method.needs)
			}
			wantState(t, m, "a", sandboxer.StateReady)
		})
	}
}

// TestWrongState: each method works on a ready sandbox, and says which state stands in its way otherwise.
func TestWrongState(t *testing.T) {
	t.Parallel()
	for name, method := range methods(t.TempDir()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandboxer.AllCapabilities()...)
			sb := created(t, w.open(), ask("a"))
			if err := method.do(context.Background(), sb); err != nil {
				t.Errorf("ready: %v", err)
			}
			if _, err := sb.Teardown(context.Background()); err != nil {
				t.Fatal(err)
			}
			err := method.do(context.Background(), sb)
			if method.needs == sandboxer.CapMeter {
				if err != nil {
					t.Errorf("what it did cost: %v", err)
				}
				return
			}
			wantCode(t, err, sandboxer.FailedPrecondition)
			wantText(t, err, "the sandbox is gone", "torn down on request")
		})
	}
}

// TestExec: requests are checked before anybody is asked, and results come back as they are.
func TestExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := created(t, w.open(), ask("a"))
	ctx := context.Background()
	var got sandboxer.ExecRequest
	w.backend.OnExec(func(_ context.Context, id sandboxer.ID, r sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
		got = r
		switch r.Command[0] {
		case "fail":
			_, err := r.Stderr.Write([]byte(strings.Repeat("x", 10_000) + "it is broken\n"))
			return sandboxer.ExecResult{ExitCode: 3}, err
		case "flood":
			for range 100 {
				if _, err := r.Stdout.Write(make([]byte, 1<<20)); err != nil {
					return sandboxer.ExecResult{}, err
				}
			}
		case "lost":
			return sandboxer.ExecResult{}, sandboxer.Mark(sandboxer.Unknown, errLost)
		}
		_, err := r.Stdout.Write([]byte(id))
		return sandboxer.ExecResult{}, err
	})
	var out bytes.Buffer
	req := sandboxer.ExecRequest{Command: []string{"x", "y z"}, Env: map[string]string{"K": "v"}, Dir: "d", Stdout: &out, Timeout: time.Minute}
	if _, err := sb.Exec(ctx, req); err != nil || out.String() != "a" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if diff := cmp.Diff(req.Command, got.Command); diff != "" || got.Dir != "d" || got.Env["K"] != "v" || got.Timeout != time.Minute {
		t.Errorf("the adapter got %+v", got)
	}
	if res, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"fail"}, Stderr: &out}); err != nil || res.ExitCode != 3 {
		t.Errorf("exit code %d, %v; want 3 and no error", res.ExitCode, err)
	}
	for _, bad := range []sandboxer.ExecRequest{{}, {Command: []string{""}}, {Command: []string{"x"}, Timeout: -1}} {
		_, err := sb.Exec(ctx, bad)
		wantCode(t, err, sandboxer.InvalidArgument)
	}

	text, err := sb.Output(ctx, "x")
	if err != nil || string(text) != "a" {
		t.Errorf("%q, %v", text, err)
	}
	_, err = sb.Output(ctx, "fail")
	wantCode(t, err, sandboxer.Unknown)
	wantText(t, err, "code 3", "it is broken")
	var exit *sandboxer.ExitError
	if !errors.As(err, &exit) || exit.ExitCode != 3 || len(err.Error()) > 5000 {
		t.Errorf("%d bytes of error, exit %+v", len(err.Error()), exit)
	}
	_, err = sb.Output(ctx, "flood")
	wantCode(t, err, sandboxer.ResourceExhausted)
	_, err = sb.Output(ctx, "lost")
	wantCode(t, err, sandboxer.Unknown)
}

// TestCopy: trees go in and come out as they were, and nothing is written outside the directory that was named.
func TestCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := created(t, w.open(), ask("a"))
	ctx := context.Background()
	at := time.Date(2026, 11, 1, 10, 20, 30, 0, time.UTC)
	src := fstest.MapFS{
		"bin/run":   {Data: []byte("#!/bin/sh\n"), Mode: 0o755, ModTime: at},
		"data.bin":  {Data: []byte{0, 1, 2, 255}, Mode: 0o600, ModTime: at},
		"empty":     {Mode: fs.ModeDir | 0o755, ModTime: at},
		"a b\n'c\"": {Data: []byte("odd"), Mode: 0o644, ModTime: at},
	}
	if err := sb.CopyIn(ctx, "tree", src); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	if err := sb.CopyOut(ctx, "tree", dir); err != nil {
		t.Fatal(err)
	}
	for name, f := range src {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Mode.IsRegular() {
			data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil || !bytes.Equal(data, f.Data) || info.Mode() != f.Mode || !info.ModTime().Equal(at) {
				t.Errorf("%q: %q %v %v %v", name, data, info.Mode(), info.ModTime(), err)
			}
		} else if !info.IsDir() {
			t.Errorf("%q is no directory", name)
		}
	}
	err := sb.CopyOut(ctx, "nothing", t.TempDir())
	wantCode(t, err, sandboxer.NotFound)
	err = sb.CopyIn(ctx, "", broken{})
	wantText(t, err, "cannot be read")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantCode(t, sb.CopyOut(ctx, "tree", file), sandboxer.InvalidArgument)

	outside := t.TempDir()
	w.backend.OnExec(nil)
	if _, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"ln", "-s", outside, "tree/away"}}); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	err = sb.CopyOut(ctx, "tree", into)
	wantCode(t, err, sandboxer.InvalidArgument)
	wantText(t, err, "away")
	if _, err := os.Stat(filepath.Join(into, "data.bin")); err != nil {
		t.Errorf("the rest was not copied: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(into, "away")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link that leads out was copied: %v", err)
	}
}

type broken struct{}

func (broken) Open(string) (fs.File, error) { return nil, errors.New("cannot be read") }

// TestCopyStops: when one side of a transfer fails the other ends, and the first error is told.
func TestCopyStops(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fake.Fault{
		"before": {Err: errBusy},
		"after":  {Err: sandboxer.Mark(sandboxer.Unavailable, errLost), Effect: fake.After},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			sb := created(t, w.open(), ask("a"))
			src := fstest.MapFS{"big": {Data: make([]byte, 4<<20)}}
			for _, op := range []sandboxer.Op{sandboxer.OpCopyIn, sandboxer.OpCopyOut} {
				if err := sb.CopyIn(context.Background(), "t", src); err != nil {
					t.Fatal(err)
				}
				fault.Op, fault.Times = op, 1
				w.backend.Fail(fault)
				var err error
				if op == sandboxer.OpCopyIn {
					err = sb.CopyIn(context.Background(), "t", src)
				} else {
					err = sb.CopyOut(context.Background(), "t", t.TempDir())
				}
				wantCode(t, err, sandboxer.Unavailable)
				if !errors.Is(err, fault.Err) {
					t.Errorf("%s: %v is not %v", op, err, fault.Err)
				}
			}
		})
	}
}

// TestNilSandbox: what was never made can be torn down.
func TestNilSandbox(t *testing.T) {
	t.Parallel()
	var sb *manager.Sandbox
	if _, err := sb.Teardown(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSupportsFollowsTheSandbox: a Sandbox that was got during its create says what the extension can do where it came to be.
// It was seen to fail where the first answer was kept.
func TestSupportsFollowsTheSandbox(t *testing.T) {
	simulate(t, func(t *testing.T) {
		w := newWorld(t, sandboxer.CapExec, sandboxer.CapDial, sandboxer.CapFiles)
		w.clouds()
		w.profiles = []sandboxer.Profile{
			{ID: "profile.first", Extension: "ext.fake", Burst: &sandboxer.BurstPolicy{To: []sandboxer.BurstTarget{{Profile: "profile.weak"}}}},
			{ID: "profile.weak", Extension: "ext.weak"},
		}
		refuse := make(chan struct{})
		w.backend.Fail(fake.Fault{Op: sandboxer.OpProvision, Err: errBusy, Release: refuse})
		m := w.open()
		done := make(chan struct{})
		req := ask("a")
		req.Profile = "profile.first"
		go func() {
			defer close(done)
			created(t, m, req)
		}()
		pass(time.Second)
		sb, err := m.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if !sb.Supports(sandboxer.CapFiles) || !sb.Supports(sandboxer.CapExec) {
			t.Error("it does not say what its first place can do")
		}
		close(refuse)
		<-done
		if sb.Supports(sandboxer.CapFiles) || !sb.Supports(sandboxer.CapExec) {
			t.Error("it says what its first place can do, and is at another")
		}
		if _, err := sb.Expose(t.Context(), 80); !errors.Is(err, sandboxer.Unsupported) || !strings.Contains(err.Error(), "ext.weak has no capability \"expose\"") {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		_ = sb.Supports(sandboxer.CapExec) // as far as it remembers
	})
}
