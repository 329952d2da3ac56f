package adaptertest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
)

// box is a sandbox that a Manager made, with what is needed to call the extension about it directly.
type box struct {
	id     sandboxer.ID
	name   string
	sb     *manager.Sandbox
	ext    sandboxer.Extension
	req    *sandboxer.ProvisionRequest
	target sandboxer.Target
	reach  sandboxer.Reachability
	took   sighting
}

// newBox makes a sandbox for the trial alone, and removes it at its end.
func (t *trial) newBox() *box {
	t.Helper()
	b, err := t.create(sandboxer.CreateRequest{})
	t.ok("Create", err)
	return b
}

// shared returns the sandbox that all trials share which only run commands in it or copy files under names of their own.
func (t *trial) shared() *box {
	t.Helper()
	s := t.s
	s.shareOnce.Do(func() { s.share, s.shareErr = t.open(sandboxer.CreateRequest{}) })
	if s.shareErr != nil {
		t.Fatalf("no sandbox could be made for the tests: %v", s.shareErr)
	}
	if s.share == nil {
		t.Fatal("no sandbox could be made for the tests: an earlier subtest tried, and ended")
	}
	return s.share
}

// create makes a sandbox through the Manager and removes it, verified, at the end of the trial.
func (t *trial) create(req sandboxer.CreateRequest) (*box, error) {
	t.Helper()
	b, err := t.open(req)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_, err := do(t, "Sandbox.Teardown", b.sb.Teardown)
		if err != nil && !t.Failed() {
			t.Errorf("tearing %s down failed: %v", b.id, err)
		}
		if left := t.existing(b.name); len(left) > 0 && !t.Failed() {
			t.Errorf("after a Teardown that succeeded these exist: %q", left)
		}
	})
	return b, nil
}

// open makes a sandbox through the Manager.
func (t *trial) open(req sandboxer.CreateRequest) (*box, error) {
	t.Helper()
	if req.ID == "" {
		req.ID = sandboxer.NewID()
	}
	req.Profile, req.Consumer = t.s.profile.ID, t.s.consumer()
	if req.TTL == 0 {
		req.TTL = 30 * time.Minute
	}
	sb, err := do(t, "Create", func(ctx context.Context) (*manager.Sandbox, error) { return t.s.one.m.Create(ctx, req) })
	if err != nil {
		return nil, err
	}
	t.sawStatus(sb)
	name := string(req.ID)
	if st, err := sb.Status(context.Background()); err == nil {
		for _, a := range st.Attempts {
			if a.N > 0 {
				name = a.Name // the last one serves
			}
		}
	}
	seen := t.s.one.spy.saw(name)
	return &box{
		id: req.ID, name: name, sb: sb, ext: t.s.one.spy.Extension, req: seen.req, target: seen.target, reach: seen.reach, took: seen,
	}, nil
}

func (t *trial) sawStatus(sb *manager.Sandbox) {
	st, err := sb.Status(context.Background())
	t.s.note("Status", err)
	t.s.note("Status", st)
}

// output is what a command did.
type output struct {
	sandboxer.ExecResult
	out, err []byte
}

func (o output) String() string {
	return fmt.Sprintf("exit code %d, signal %q, timed out %v, stdout %s, stderr %s", o.ExitCode, o.Signal, o.TimedOut, short(o.out), short(o.err))
}

// short shows bytes without flooding a message.
func short(b []byte) string {
	const most = 200
	if len(b) > most {
		return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// exec runs a command in b; streams that the request leaves nil are collected.
func (t *trial) exec(b *box, req sandboxer.ExecRequest) (output, error) {
	t.Helper()
	return do(t, fmt.Sprintf("Exec of %s", short([]byte(fmt.Sprint(req.Command)))), func(ctx context.Context) (output, error) {
		return execIn(ctx, b, req)
	})
}

func execIn(ctx context.Context, b *box, req sandboxer.ExecRequest) (output, error) {
	var out, errs bytes.Buffer
	if req.Stdout == nil {
		req.Stdout = &out
	}
	if req.Stderr == nil {
		req.Stderr = &errs
	}
	res, err := b.sb.Exec(ctx, req)
	return output{res, out.Bytes(), errs.Bytes()}, err
}

// script is the argument list of a shell script.
func (t *trial) script(text string, params ...string) []string {
	argv := append([]string(nil), t.s.cfg.Shell...)
	return append(append(argv, text, "sh"), params...)
}

// sh runs a script that must succeed, and returns its standard output.
func (t *trial) sh(b *box, text string, params ...string) []byte {
	t.Helper()
	got, err := t.exec(b, sandboxer.ExecRequest{Command: t.script(text, params...)})
	t.ok("Exec", err)
	if got.Err() != nil {
		t.broken("the script %q did not succeed: %v", text, got)
	}
	return got.out
}
