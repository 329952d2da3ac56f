//go:build linux || darwin

package local_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
)

func tarOf(name, body string) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return &buf
}

func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		in   sandboxer.Inputs
		says string
	}{
		"relative root":   {sandboxer.Inputs{"root": "here"}, "absolute"},
		"misspelled key":  {sandboxer.Inputs{"rot": "/x"}, `did you mean "root"`},
		"mistyped key":    {sandboxer.Inputs{"keep_env": "HOME"}, "keep_env"},
		"broken variable": {sandboxer.Inputs{"keep_env": []any{"A=B"}}, "A=B"},
	} {
		_, err := local.Adapter().New(t.Context(), sandboxer.Settings{ExtensionID: "ext.local", Config: tc.in})
		if !errors.Is(err, sandboxer.InvalidArgument) || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: %v, want InvalidArgument saying %s", name, err, tc.says)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o777), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	for root, code := range map[string]sandboxer.Code{file: sandboxer.InvalidArgument, file + "/below": sandboxer.InvalidArgument, open: sandboxer.FailedPrecondition} {
		ext := newExtension(t, root, nil)
		if h, err := ext.Provision(t.Context(), request("box", me)); !errors.Is(err, code) || !sandboxer.IsRefused(err) || !h.IsZero() {
			t.Errorf("Provision below %s: %v, %v; want it refused, %s", root, h, err, code)
		}
	}
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	t.Setenv("PATH", "")
	byDefault, err := local.Adapter().New(t.Context(), sandboxer.Settings{ExtensionID: "ext.local"})
	if err != nil {
		t.Fatal(err)
	}
	ext := byDefault.(extension)
	box := sandbox(t, ext)
	if got, want := workspace(t, ext, box), filepath.Join(state, "sandboxer/local", box.Handle.Ref().Name(), "workspace"); got != want {
		t.Errorf("by default, the workspace is %s, want %s", got, want)
	}
	if info, err := os.Stat(filepath.Join(state, "sandboxer/local")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the root is %v, %v", info.Mode(), err)
	}
	shell(t, ext, box, "ls >/dev/null")
}

func TestNothingIsMadeBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	target := targetOf(sandboxer.BareHandle(sandboxer.HandleRef{ID: "box", Attempt: 2, Extension: "ext.local"}), me)
	for range ext.List(t.Context(), sandboxer.ListQuery{}) {
		t.Error("something is listed")
	}
	for range ext.ListSnapshots(t.Context(), sandboxer.ListQuery{}) {
		t.Error("a snapshot is listed")
	}
	_, find := ext.Find(t.Context(), request("box", me), time.Now())
	_, inspect := ext.Inspect(t.Context(), target)
	_, exec := ext.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"true"}})
	for what, err := range map[string]error{"Find": find, "Inspect": inspect, "Exec": exec} {
		if !errors.Is(err, sandboxer.NotFound) {
			t.Errorf("%s: %v, want NotFound", what, err)
		}
	}
	if _, err := ext.Teardown(t.Context(), target); err != nil {
		t.Errorf("Teardown: %v", err)
	}
	if err := ext.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: "s"}}); err != nil {
		t.Errorf("DeleteSnapshot: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the root is there: %v", err)
	}
}

func TestTeardownOfWhatCommandsLeave(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"directories that forbid everything": `mkdir -p a/b/c ../home/x; touch a/b/f; chmod 000 a/b/c a/b a ../home/x ../home ../tmp .`,
		"links that lead away":               `ln -s "$OUTSIDE" out; ln -s "$OUTSIDE/kept" file; ln -s / root; ln -s .. up`,
		"processes that keep writing":        `for i in 1 2 3; do (setsid sh -c 'trap "" TERM HUP; n=0; while :; do n=$((n+1)); mkdir -p d$n; echo x >d$n/f; done' >/dev/null 2>&1 &); done; sleep 0.1`,
		"processes that hold files":          `exec 3>held; sleep 1000 3>&3 >/dev/null 2>&1 & (cd ../home; sleep 1000 >/dev/null 2>&1 &)`,
		"a sandbox that removed itself":      `rm -rf ../home ../tmp "$PWD"; rm -rf "$(dirname "$PWD")"`,
		"many files":                         `i=0; while [ $i -lt 3000 ]; do : >f$i; i=$((i+1)); done`,
		"special files":                      `mkfifo p; ln p q`,
		"deep directories":                   `i=0; while [ $i -lt 300 ]; do mkdir dddddddddddddddddddddddd && cd -P dddddddddddddddddddddddd || exit; i=$((i+1)); done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "kept"), []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			root := tempRoot(t)
			ext := newExtension(t, root, nil)
			box := sandbox(t, ext)
			if _, err := ext.Exec(t.Context(), box, sandboxer.ExecRequest{Command: []string{"sh", "-c", script}, Env: map[string]string{"OUTSIDE": outside}, Stderr: os.Stderr}); err != nil {
				t.Fatal(err)
			}
			teardown(t, ext, box)
			if left := everything(t, root); len(left) > 0 {
				t.Errorf("left below the root: %q", left)
			}
			if left := processesOf(t, box); len(left) > 0 {
				t.Errorf("running: %q", left)
			}
			if b, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || string(b) != "kept" {
				t.Errorf("outside: %q, %v", b, err)
			}
		})
	}
}

func TestTwoOwnersShareARoot(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	mine, theirs := newExtension(t, root, nil), newExtension(t, root, nil)
	box := sandbox(t, mine)
	shell(t, mine, box, "echo content >file; sleep 100 >/dev/null 2>&1 &")
	snap, err := mine.Snapshot(t.Context(), box, sandboxer.SnapshotRequest{ID: "snap", Labels: box.Labels})
	if err != nil {
		t.Fatal(err)
	}
	const other = "others.store"
	req := request(box.Handle.Ref().ID, other)
	as := targetOf(sandboxer.BareHandle(box.Handle.Ref()), other)
	if h, err := theirs.Provision(t.Context(), req); !errors.Is(err, sandboxer.AlreadyExists) || !sandboxer.IsRefused(err) || !h.IsZero() {
		t.Errorf("Provision of another's name: %v, %v", h, err)
	}
	if _, err := theirs.Find(t.Context(), req, time.Now()); !errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Find of another's: %v", err)
	}
	if _, err := theirs.Exec(t.Context(), as, sandboxer.ExecRequest{Command: []string{"rm", "file"}}); !errors.Is(err, sandboxer.NotFound) {
		t.Errorf("Exec in another's: %v", err)
	}
	if _, err := theirs.Teardown(t.Context(), as); err != nil {
		t.Errorf("Teardown of another's: %v", err)
	}
	foreign := snap
	foreign.Labels = as.Labels
	if err := theirs.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: foreign}); err != nil {
		t.Errorf("DeleteSnapshot of another's: %v", err)
	}
	if _, err := theirs.Restore(t.Context(), request("restored", other), foreign); !errors.Is(err, sandboxer.NotFound) || !sandboxer.IsRefused(err) {
		t.Errorf("Restore of another's: %v", err)
	}
	yours := sandbox(t, theirs, func(r *sandboxer.ProvisionRequest) { r.Labels[sandboxer.LabelOwner] = other })
	yours.Labels = as.Labels
	if _, err := theirs.Snapshot(t.Context(), yours, sandboxer.SnapshotRequest{ID: "snap", Labels: as.Labels}); !errors.Is(err, sandboxer.AlreadyExists) {
		t.Errorf("Snapshot with another's ID: %v", err)
	}
	teardown(t, theirs, yours)
	if got := shell(t, mine, box, "cat file"); got != "content\n" {
		t.Errorf("ours now holds %q", got)
	}
	if n := len(processesOf(t, box)); n != 1 && len(running(t, "PATH=")) > 0 {
		t.Errorf("ours now has %d processes, want 1", n)
	}
	if err := mine.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: snap}); err != nil {
		t.Error(err)
	}
	teardown(t, mine, box)
	if left := everything(t, root); len(left) > 0 {
		t.Errorf("left below the root: %q", left)
	}
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	if err := os.MkdirAll(filepath.Join(root, "box"), 0o700); err != nil {
		t.Fatal(err)
	}
	ext := newExtension(t, root, nil)
	if h, err := ext.Provision(t.Context(), request("box", me)); !errors.Is(err, sandboxer.AlreadyExists) || !sandboxer.IsRefused(err) || !h.IsZero() {
		t.Errorf("Provision over a directory of somebody else: %v, %v", h, err)
	}
	if _, err := ext.Teardown(t.Context(), targetOf(sandboxer.BareHandle(request("box", me).Ref()), me)); err != nil {
		t.Errorf("Teardown: %v", err)
	}
	if diff := cmp.Diff([]string{"box"}, everything(t, root)); diff != "" {
		t.Errorf("below the root (-want +got):\n%s", diff)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".sandboxes", "x\x00"} {
		req := request("box", me)
		req.Name = name
		if _, err := ext.Provision(t.Context(), req); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("Provision of the name %q: %v", name, err)
		}
	}
}

func TestDamagedClaims(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	box, fine := sandbox(t, ext), sandbox(t, ext)
	claim := filepath.Join(root, ".sandboxes", box.Handle.Ref().Name()+".json")
	good, err := os.ReadFile(claim)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", "null", `{"v":99,"name":"x"}`, strings.Repeat(" ", 2<<20), strings.Replace(string(good), "sbx-", "sbx-x", 1)} {
		if err := os.WriteFile(claim, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ext.Teardown(t.Context(), box); !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(fmt.Sprint(err), claim) {
			t.Errorf("Teardown with the claim %.20q: %v", bad, err)
		}
		var listed, failed int
		for in, err := range ext.List(t.Context(), sandboxer.ListQuery{}) {
			if err != nil {
				failed++
			} else if in.Handle == fine.Handle {
				listed++
			}
		}
		if listed != 1 || failed != 1 {
			t.Errorf("with the claim %.20q, List yields %d sandboxes and %d errors, want one of each", bad, listed, failed)
		}
	}
	if err := os.WriteFile(claim, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHandlesOutliveAConfiguration(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	before, after := newExtension(t, root, nil), newExtension(t, tempRoot(t), nil)
	h, err := before.Provision(t.Context(), request("moved", me))
	if err != nil {
		t.Fatal(err)
	}
	box := targetOf(h, me)
	if got := shell(t, after, box, "echo found"); got != "found\n" {
		t.Errorf("a sandbox below the former root says %q", got)
	}
	teardown(t, after, box)
	if left := everything(t, root); len(left) > 0 {
		t.Errorf("left below the former root: %q", left)
	}
	newer, err := sandboxer.NewHandle(h.Ref(), 99, map[string]string{"root": root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Teardown(t.Context(), targetOf(newer, me)); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("a handle of a newer release: %v", err)
	}
}

func TestExtend(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	box := sandbox(t, ext, func(r *sandboxer.ProvisionRequest) { r.ExpiresAt = at })
	for _, tc := range []struct{ until, granted time.Time }{
		{at.Add(time.Hour), at.Add(time.Hour)}, {at, at.Add(time.Hour)}, {at.Add(2 * time.Hour), at.Add(2 * time.Hour)},
	} {
		got, err := ext.Extend(t.Context(), box, tc.until)
		if err != nil || !got.Equal(tc.granted) {
			t.Errorf("Extend until %v = %v, %v; want %v", tc.until, got, err, tc.granted)
		}
		in, err := ext.Inspect(t.Context(), box)
		if err != nil || !in.ExpiresAt.Equal(tc.granted) {
			t.Errorf("Inspect shows %v, %v; want %v", in.ExpiresAt, err, tc.granted)
		}
	}
	if got, err := ext.Extend(t.Context(), sandbox(t, ext), at); err != nil || !got.Equal(at) {
		t.Errorf("Extend of a sandbox without an end = %v, %v", got, err)
	}
}

// TestTeardownAgainstEverythingElse runs all that can meet a teardown, from two host programs' worth of extensions.
func TestTeardownAgainstEverythingElse(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	one, two := newExtension(t, root, nil), newExtension(t, root, nil)
	for range 8 {
		req := request(sandboxer.NewID(), me)
		req.ExpiresAt = time.Now().Add(time.Hour)
		h, err := one.Provision(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		box := targetOf(h, me)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i, ext := range []extension{one, two, one, two} {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					_, err := ext.Exec(ctx, box, sandboxer.ExecRequest{Command: []string{"sh", "-c", "sleep 100 & echo x"}, Stdout: io.Discard})
					if i == 0 {
						_, _ = ext.Extend(ctx, box, time.Now().Add(time.Duration(n+2)*time.Hour))
					}
					if i == 1 {
						_ = ext.CopyIn(ctx, box, "dir", tarOf("file", "content"))
					}
					if err != nil && ctx.Err() == nil && !errors.Is(err, sandboxer.NotFound) && !errors.Is(err, sandboxer.FailedPrecondition) {
						t.Errorf("Exec: %v", err)
					}
				}
			})
		}
		eventually(t, "the start of a process", func() bool { return len(processesOf(t, box)) > 3 || len(running(t, "PATH=")) == 0 })
		wg.Go(func() { teardown(t, one, box) })
		teardown(t, two, box)
		cancel()
		wg.Wait()
		if left := processesOf(t, box); len(left) > 0 {
			t.Errorf("running after Teardown: %q", left)
		}
		if left := everything(t, root); len(left) > 0 {
			t.Fatalf("left below the root: %q", left)
		}
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	for address, code := range map[string]sandboxer.Code{
		"192.0.2.1:80": sandboxer.PermissionDenied, "example.com:80": sandboxer.PermissionDenied, "0.0.0.0:80": sandboxer.PermissionDenied,
		"169.254.169.254:80": sandboxer.PermissionDenied, "[::ffff:8.8.8.8]:80": sandboxer.PermissionDenied, "localhost.example.com:80": sandboxer.PermissionDenied,
		"localhost": sandboxer.InvalidArgument, "127.0.0.1:1": sandboxer.Unavailable, "localhost:1": sandboxer.Unavailable, "[::1]:1": sandboxer.Unavailable, ":1": sandboxer.Unavailable,
	} {
		if c, err := ext.Dial(t.Context(), box, "tcp", address); !errors.Is(err, code) || c != nil {
			t.Errorf("Dial %s: %v, want %s", address, err, code)
		}
	}
	if _, err := ext.Dial(t.Context(), box, "unix", "/run/x"); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("Dial of a Unix socket: %v", err)
	}
}

func TestCopiesStayInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	ws := workspace(t, ext, box)
	if err := os.Symlink(outside, filepath.Join(ws, "out")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"..", "../..", "a/../../..", "/", "/tmp", outside, "out", "out/sub", "x\x00y", filepath.Dir(filepath.Dir(ws))} {
		if err := ext.CopyIn(t.Context(), box, path, tarOf("file", "x")); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("CopyIn to %q: %v", path, err)
		}
		if err := ext.CopyOut(t.Context(), box, path, io.Discard); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("CopyOut of %q: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	for _, path := range []string{"", ".", "new/dir", ws, ws + "/abs", filepath.Dir(ws) + "/home"} {
		if err := ext.CopyIn(t.Context(), box, path, tarOf("file", "x")); err != nil {
			t.Errorf("CopyIn to %q: %v", path, err)
		}
		if err := ext.CopyOut(t.Context(), box, path+"/file", io.Discard); path != "" && err != nil {
			t.Errorf("CopyOut of %q: %v", path, err)
		}
	}
}
