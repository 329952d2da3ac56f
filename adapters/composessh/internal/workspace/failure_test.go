package workspace_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshtest"
	"github.com/sand-boxer/sandboxer/adapters/internal/sshx"
)

// tools is a PATH with these programs only.
func tools(tb testing.TB, names ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, n := range names {
		p, err := exec.LookPath(n)
		if err != nil {
			tb.Skipf("there is no %s", n)
		}
		symlink(tb, p, filepath.Join(dir, n))
	}
	return dir
}

func TestPushNeedsGNUTools(t *testing.T) {
	t.Parallel()
	newShell(t)
	src := t.TempDir()
	fill(t, src, map[string]string{"a": "x"})
	all := []string{"sh", "find", "tar", "dd", "mkdir", "head", "sed", "xargs", "rm", "chmod"}
	fake := func(path, name, script string) string {
		remove(t, filepath.Join(path, name))
		write(t, filepath.Join(path, name), "#!/bin/sh\n"+script+"\n")
		if err := os.Chmod(filepath.Join(path, name), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		path, say string
	}{
		"no find":      {tools(t, "sh", "tar", "dd", "mkdir"), "GNU find"},
		"another find": {fake(tools(t, all...), "find", "echo 'find: unrecognized: -printf' >&2; exit 1"), "GNU find"},
		"no tar":       {tools(t, "sh", "find", "dd", "mkdir"), "GNU tar"},
		"another tar":  {fake(tools(t, all...), "tar", "echo bsdtar 3.7; cat >/dev/null"), "GNU tar"},
		"no dd":        {tools(t, "sh", "find", "tar", "mkdir"), "dd"},
		"no directory": {fake(tools(t, all...), "mkdir", "echo 'mkdir: cannot create directory' >&2; exit 1"), "cannot create directory"},
	} {
		dst := filepath.Join(t.TempDir(), "dst")
		_, err := workspace.Push(t.Context(), shell{path: tc.path}, dst, openRoot(t, src), workspace.PushOptions{})
		if sandboxer.CodeOf(err) != sandboxer.FailedPrecondition || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v, want FailedPrecondition with %q", name, err, tc.say)
		}
	}
}

func TestPushRefusesDirectories(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "relative", "/", "/a/..", "/a\nb"} {
		r := &scripted{}
		_, err := workspace.Push(t.Context(), r, dir, openRoot(t, t.TempDir()), workspace.PushOptions{})
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || len(r.commands) > 0 {
			t.Errorf("%q: %v, %v", dir, err, r.commands)
		}
	}
}

// A full disk is said to be full, and the next push completes the tree.
func TestPushToAFullDisk(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "none", disk).CombinedOutput(); err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			t.Fatalf("a small disk needs the right to mount one: %s", out)
		}
		t.Skipf("a small disk needs the right to mount one: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
	src, dst := t.TempDir(), filepath.Join(disk, "dst")
	fill(t, src, map[string]string{"a": "x", "big": strings.Repeat("x", 2<<20), "c/d": "y"})
	_, err := workspace.Push(t.Context(), r, dst, openRoot(t, src), workspace.PushOptions{})
	if sandboxer.CodeOf(err) != sandboxer.ResourceExhausted {
		t.Errorf("error is %v, want ResourceExhausted", err)
	}
	write(t, filepath.Join(src, "big"), "small")
	push(t, r, src, dst, workspace.PushOptions{})
	if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
		t.Errorf("the copy differs (-here +there):\n%s", diff)
	}
}

// What changes here during a push is an error that names it, or is left out; never a broken stream.
func TestPushWhileFilesChange(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	fill(t, src, map[string]string{"a": "x", "big": strings.Repeat("x", 1<<20), "dir/b": "y"})
	for _, tc := range []struct {
		name   string
		change func()
		code   sandboxer.Code
		say    string
	}{
		{"a large file shrinks", func() { write(t, filepath.Join(src, "big"), strings.Repeat("x", 300<<10)) }, "", ""},
		{"a large file goes", func() { remove(t, filepath.Join(src, "big")) }, "", ""},
		{"a directory goes", func() { remove(t, filepath.Join(src, "dir")) }, "", ""},
		{"a file becomes a link", func() { remove(t, filepath.Join(src, "a")); symlink(t, "/etc/passwd", filepath.Join(src, "a")) }, sandboxer.Aborted, `"a"`},
	} {
		r := &late{scripted: scripted{out: "f644 1 1.0 surplus\x00\x00.0\x00"}, change: tc.change}
		_, err := workspace.Push(t.Context(), r, "/w", openRoot(t, src), workspace.PushOptions{})
		if err == nil { // what is read ahead may have been read before
			_, _, stream := r.lists(t)
			if readAll(stream) != nil {
				t.Errorf("%s: the stream is broken", tc.name)
			}
			if bytes.Contains(stream, []byte("root:")) {
				t.Errorf("%s: it was followed", tc.name)
			}
		} else if sandboxer.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v, want %s naming %s", tc.name, err, tc.code, tc.say)
		}
	}
}

// late changes something before anything is sent.
type late struct {
	scripted
	change func()
}

func (l *late) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	l.change()
	return l.scripted.Send(ctx, req)
}

func TestPushIsCancelledAndCutOff(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	proxy := sshtest.NewProxy(t, s.Address)
	host := s.Host()
	host.Address = proxy.Address
	p := sshx.NewPool(sshx.Config{SSHConfig: "none", Agent: "none"})
	t.Cleanup(func() { _ = p.Close(); s.WaitNoProcess("", 10*time.Second) })
	c, err := p.Host(t.Context(), host, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	src, dst := t.TempDir(), filepath.Join(s.Dir, "dst")
	fill(t, src, map[string]string{"a": "x", "big": strings.Repeat("x", 16<<20), "z": "y"})
	for name, fault := range map[string]func(cancel func()){
		"cancelled": func(cancel func()) { cancel() },
		"reset":     func(func()) { proxy.Reset() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		proxy.Drip(64<<10, 5*time.Millisecond)
		go func() {
			_, err := workspace.Push(ctx, c, dst, openRoot(t, src), workspace.PushOptions{})
			done <- err
		}()
		s.WaitProcess("tar -b", waitLong)
		fault(cancel)
		if err := <-done; err == nil || (name == "cancelled") != errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		proxy.Drip(0, 0)
		s.WaitNoProcess("tar -b", waitLong)
		cancel()
	}
	push(t, c, src, dst, workspace.PushOptions{})
	if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
		t.Errorf("the copy differs (-here +there):\n%s", diff)
	}
}

// Over a long way the list is compressed and the stream is spread.
func TestPushFar(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t)
	proxy := sshtest.NewProxy(t, s.Address)
	proxy.Delay(15 * time.Millisecond)
	host := s.Host()
	host.Address = proxy.Address
	p := sshx.NewPool(sshx.Config{SSHConfig: "none", Agent: "none"})
	t.Cleanup(func() { _ = p.Close(); s.WaitNoProcess("", 10*time.Second) })
	c, err := p.Host(t.Context(), host, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Output(t.Context(), "true"); err != nil { // now the round trip is known
		t.Fatal(err)
	}
	src, dst := hostileTree(t), filepath.Join(s.Dir, "dst")
	for range 2 {
		push(t, c, src, dst, workspace.PushOptions{})
		if diff := cmp.Diff(describe(t, src), describe(t, dst)); diff != "" {
			t.Errorf("the copy differs (-here +there):\n%s", diff)
		}
		fill(t, src, map[string]string{"new": "x"})
		remove(t, filepath.Join(src, "deep"))
	}
}

// A server that does not let go does not keep a clone beyond its context, and nothing is left of it.
func TestCloneIsCancelled(t *testing.T) {
	t.Parallel()
	host := sshtest.Start(t)
	c := connect(t, host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	gitProgram(t)
	for _, scheme := range []string{"http", "git", "ssh"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		dir := filepath.Join(host.Dir, "w", "tree")
		go func() {
			_, err := workspace.Clone(ctx, c, dir, source(t, scheme+"://"+l.Addr().String()+"/a", ""), workspace.CloneOptions{})
			done <- err
		}()
		conn, err := l.Accept() // git is there, and hears nothing
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; sandboxer.CodeOf(err) != sandboxer.Canceled {
			t.Errorf("%s: error is %v, want Canceled", scheme, err)
		}
		_ = conn.Close()
		if left := names(t, filepath.Join(host.Dir, "w")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", scheme, left)
		}
		host.WaitNoProcess("git", waitLong)
	}
}

// cutting ends what is sent after some bytes, as a connection that breaks does.
type cutting struct {
	shell
	after int64
}

func (c cutting) Send(ctx context.Context, req sandboxer.ExecRequest) (sandboxer.ExecResult, error) {
	req.Stdin = io.LimitReader(req.Stdin, c.after)
	return c.Exec(ctx, req)
}

// A list of removals that breaks off anywhere removes nothing that is not in it: not what half a name means.
func TestPushBreaksOffInAList(t *testing.T) {
	t.Parallel()
	r := newShell(t)
	src := t.TempDir()
	fill(t, src, map[string]string{"a": "", "ab/file": "", "abc/d": "", "z": ""})
	want := files(t, src)
	for after := range int64(60) {
		dst := t.TempDir()
		push(t, r, src, dst, workspace.PushOptions{})
		fill(t, dst, map[string]string{"abcd": "", "ab/file2": "", "abc/de/f": ""})
		_, err := workspace.Push(t.Context(), cutting{r, after}, dst, openRoot(t, src), workspace.PushOptions{})
		if err == nil {
			t.Errorf("after %d bytes there is no error", after)
		}
		got := files(t, dst)
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("after %d bytes %q is gone", after, name)
			}
		}
	}
}
