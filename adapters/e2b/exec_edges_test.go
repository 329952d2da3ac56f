//go:build unix

package e2b_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// TestKillWithoutTheMark: a command that clears the environment of what it starts is ended as a whole. It was seen to fail when only processes with the mark
// are ended.
func TestKillWithoutTheMark(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	mark := "mark-" + string(sandboxer.NewID())
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"env", "-i", "/bin/sh", "-c", "sleep 20; : " + mark}, Timeout: 500 * time.Millisecond,
	})
	if err != nil || !res.TimedOut {
		t.Errorf("%+v, %v", res, err)
	}
	if left := running(t, mark); len(left) > 0 {
		t.Errorf("runs on: %q", left)
	}
}

// TestTerminalInputWithoutLineBreak: the end of a terminal's input is heard within a line. It was seen to fail with one ^D.
func TestTerminalInputWithoutLineBreak(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	var out bytes.Buffer
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
		Command: []string{"cat"}, Stdin: strings.NewReader("abc"), Stdout: &out, TTY: &sandboxer.TTY{}, Timeout: 4 * time.Second,
	})
	if err != nil || res.TimedOut {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
}

// TestDecoderVariables: what carries an argument that is no text touches no variable of the command. It was seen to fail when its own are called v and c.
func TestDecoderVariables(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	for _, name := range []string{"v", "c", "n", "d", "ok"} {
		var out bytes.Buffer
		res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{
			Command: []string{"printenv", name}, Env: map[string]string{name: "7", "zz": "\xff"}, Stdout: &out,
		})
		if err != nil || res.ExitCode != 0 || out.String() != "7\n" {
			t.Errorf("%s: %+v, %v, %q", name, res, err, out.String())
		}
	}
	// set by the sandbox, not by the caller
	req := r.request()
	req.Inputs = sandboxer.Inputs{"env": map[string]any{"v": "mine"}}
	h, err := r.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	res, err := as[sandboxer.Executor](t, r).Exec(t.Context(), r.target(req, h), sandboxer.ExecRequest{Command: []string{"sh", "-c", `printf %s "$v"`, "\xff"}, Stdout: &out})
	if err != nil || out.String() != "mine" {
		t.Errorf("sandbox's v: %+v, %v, %q", res, err, out.String())
	}
}

// TestMissingDirectoryBesideBytes: a directory that is missing is refused also where an argument is no text.
func TestMissingDirectoryBesideBytes(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	target := r.sandbox(t)
	_, err := as[sandboxer.Executor](t, r).Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"echo", "\xff"}, Dir: "no/such/dir"})
	wantCode(t, "missing directory", err, sandboxer.InvalidArgument, true)
}
