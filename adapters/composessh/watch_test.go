package composessh_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// until waits for what a host does by itself.
func until(t *testing.T, d time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !done(); pause(t, 200*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", d, what)
		}
	}
}

// directory is where a sandbox lies on its host.
func directory(h *hosttest.Host, name string) string {
	return filepath.Join(h.Server.Home, place, name)
}

// TestWatchIsNotHeld: a container in which nothing can be run to an end keeps the watch from nothing but itself.
func TestWatchIsNotHeld(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	ext := build(t, adapter(""))
	bad := started(t, ext, provisionRequest(h, repository(t, oneService)))
	x := ext.(sandboxer.Executor)
	const hang = `printf '#!/bin/busybox ash\nexec /bin/busybox sleep 7777\n' >/bin/new; chmod 755 /bin/new; mv /bin/new /bin/sh`
	if _, err := x.Exec(context.Background(), bad, sandboxer.ExecRequest{Command: []string{"sh", "-c", hang}}); err != nil {
		t.Fatal(err)
	}
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		_, _ = x.Exec(context.Background(), bad, sandboxer.ExecRequest{Command: []string{"true"}, Timeout: 500 * time.Millisecond}) // whatever it says
	}()
	noted := filepath.Join(directory(h, bad.Handle.Ref().Name()), "exec", "*")
	until(t, 30*time.Second, "the command is not noted", func() bool { found, _ := filepath.Glob(noted); return len(found) > 0 })
	pause(t, 2*time.Second) // the watch is at it
	victim := provisionRequest(h, repository(t, oneService))
	victim.ExpiresAt = time.Now().Add(20 * time.Second)
	started(t, ext, victim)
	until(t, time.Until(victim.ExpiresAt)+45*time.Second, "a sandbox outlives its time, because the watch waits for another's container", func() bool {
		return len(h.Resources(victim.Name)) == 0
	})
	<-cut
}

// TestCutOffWhilePaused: a command that is cut off while its container is held does not run on when that goes on.
func TestCutOffWhilePaused(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	ext := build(t, adapter(""))
	to := started(t, ext, provisionRequest(h, repository(t, oneService)))
	ctx, cancel := context.WithCancel(context.Background())
	cut := make(chan error, 1)
	begun := &mark{want: "begun", seen: make(chan struct{})}
	go func() {
		_, err := ext.(sandboxer.Executor).Exec(ctx, to, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo begun; exec sleep 77777"}, Stdout: begun})
		cut <- err
	}()
	<-begun.seen
	p := ext.(sandboxer.Pauser)
	if err := p.Pause(context.Background(), to); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-cut; err == nil || !strings.Contains(err.Error(), "may still run") {
		t.Errorf("a command that could not be ended: %v", err)
	}
	pause(t, 2*time.Second) // the watch has tried
	if _, err := p.Resume(context.Background(), to); err != nil {
		t.Fatal(err)
	}
	name := to.Handle.Ref().Name()
	until(t, 60*time.Second, "the command runs on", func() bool { return !strings.Contains(h.Docker("top", name+"-app-1", "-eo", "pid,args"), "77777") })
	until(t, 30*time.Second, "it is still noted", func() bool {
		left, _ := filepath.Glob(filepath.Join(directory(h, name), "exec", "*"))
		return len(left) == 0
	})
}

// TestTwoEngines: one watch removes the sandboxes of each engine of a login when their time has passed.
func TestTwoEngines(t *testing.T) {
	t.Parallel()
	h, other := hosttest.Start(t, 1), hosttest.Open(t, 2)
	ext := build(t, adapter(""))
	started(t, ext, provisionRequest(h, repository(t, oneService)))
	req := provisionRequest(h, repository(t, oneService))
	req.Host.Options = sandboxer.Inputs{"docker_host": "unix://" + other.Socket}
	req.ExpiresAt = time.Now().Add(20 * time.Second)
	started(t, ext, req)
	until(t, time.Until(req.ExpiresAt)+60*time.Second, "the directory is there after its time", func() bool {
		_, err := os.Stat(directory(h, req.Name))
		return os.IsNotExist(err)
	})
	if left := other.Resources(req.Name); len(left) > 0 {
		t.Errorf("its directory is gone, and there are still %v", left)
	}
}

// TestWatchStartsAgain: a watch that has ended, as by a restart of the host, is started by who looks at a sandbox or lists them.
func TestWatchStartsAgain(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	ext := build(t, adapter(""))
	req := provisionRequest(h, repository(t, oneService))
	to := started(t, ext, req)
	watch := func() string { // its process
		text, _ := os.ReadFile(filepath.Join(h.Server.Home, place, ".watch"))
		pid, _, _ := strings.Cut(string(text), " ")
		return pid
	}
	runs := func(pid string) bool {
		text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		return pid != "" && err == nil && !strings.Contains(string(text), ") Z ")
	}
	for what, call := range map[string]func() error{
		"Inspect": func() error { _, err := ext.(sandboxer.Inspector).Inspect(context.Background(), to); return err },
		"List": func() error {
			for _, err := range ext.(sandboxer.Lister).List(context.Background(), sandboxer.ListQuery{Host: req.Host, Secret: req.Secret, Labels: map[string]string{sandboxer.LabelOwner: "test.store"}}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"WaitReady": func() error { _, err := ext.WaitReady(context.Background(), to); return err },
	} {
		was := ""
		until(t, 30*time.Second, "no watch runs", func() bool { was = watch(); return runs(was) })
		if err := exec.Command("kill", "-KILL", was).Run(); err != nil {
			t.Fatal(err)
		}
		until(t, 30*time.Second, "the watch cannot be ended", func() bool { return !runs(was) })
		if err := call(); err != nil {
			t.Fatal(err)
		}
		until(t, 30*time.Second, "no watch runs after "+what, func() bool { now := watch(); return now != was && runs(now) })
	}
}

// stuck is a writer that blocks until it is let go.
type stuck struct{ begun, free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	select {
	case <-s.begun:
	default:
		close(s.begun)
	}
	<-s.free
	return len(p), nil
}

// TestWriterThatBlocks: a caller's writer that blocks holds neither its command beyond its time nor the end of the extension.
func TestWriterThatBlocks(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	ext := build(t, adapter(""))
	req := provisionRequest(h, repository(t, oneService))
	to := started(t, ext, req)
	caller := build(t, adapter(""))
	w := stuck{make(chan struct{}), make(chan struct{})}
	defer close(w.free)
	within(t, 40*time.Second, "Exec", func(context.Context) error {
		res, err := caller.(sandboxer.Executor).Exec(context.Background(), to, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo x; sleep 1000"}, Stdout: w, Timeout: 2 * time.Second})
		if err != nil || !res.TimedOut {
			t.Errorf("it ended with %+v, %v", res, err)
		}
		return nil
	})
	within(t, 40*time.Second, "Close", func(context.Context) error { closeExt(t, caller); return nil })
}
