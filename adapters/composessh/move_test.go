package composessh_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// trust makes host one's login reach host two as "two" by the ssh client, and returns where its host key is to be written and
// where each use of the client is counted.
func trust(t *testing.T, one, two *hosttest.Host) (knownHosts, uses string) {
	t.Helper()
	bin := filepath.Join(one.Server.Dir, "bin")
	knownHosts, uses = filepath.Join(bin, "known_hosts"), filepath.Join(bin, "uses")
	address, port, err := net.SplitHostPort(two.Server.ListenAddress())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bin/ssh": fmt.Sprintf("#!/bin/sh\necho \"$@\" >>'%[1]s'\n[ ! -e '%[2]s/broken' ] || { head -c 100 | /usr/bin/ssh -F '%[2]s/config' \"$@\"; echo 'the line broke' >&2; exit 255; }\n"+
			"exec /usr/bin/ssh -F '%[2]s/config' \"$@\"\n", uses, bin),
		"bin/config": fmt.Sprintf("Host two\nHostKeyAlias two\nUser %s\nIdentitiesOnly yes\nIdentityFile %s\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\n"+
			"ProxyCommand nsenter --net=%s busybox nc %s %s\n", two.Server.User, filepath.Join(two.Server.Dir, "key"), knownHosts, two.NetNS, address, port),
		"home/.bashrc": "PATH=" + bin + ":$PATH\n",
	} {
		name = filepath.Join(one.Server.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return knownHosts, uses
}

// TestMoveSnapshot: hosts that trust each other send snapshots themselves; where they do not, the answer says so and leaves
// nothing, and what is damaged on the way is found out.
func TestMoveSnapshot(t *testing.T) {
	t.Parallel()
	one, two := hosttest.Start(t, 1), hosttest.Start(t, 2)
	knownHosts, uses := trust(t, one, two)
	ctx := context.Background()
	ext := build(t, adapter(""))
	req := provisionRequest(one, repository(t, oneService))
	h, err := ext.Provision(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	from := target(req, h)
	if _, err := ext.WaitReady(ctx, from); err != nil {
		t.Fatal(err)
	}
	x, _ := sandboxer.As[sandboxer.Executor](ext)
	if res, err := x.Exec(ctx, from, sandboxer.ExecRequest{Command: []string{"sh", "-c", "echo travelled >/src/file; touch -d @1000000000 /src/file"}}); err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	snaps, _ := sandboxer.As[sandboxer.Snapshotter](ext)
	snap, err := snaps.Snapshot(ctx, from, sandboxer.SnapshotRequest{ID: "kept", Labels: req.Labels})
	if err != nil {
		t.Fatal(err)
	}
	mover, ok := sandboxer.As[sandboxer.SnapshotMover](ext)
	if !ok {
		t.Fatal("it is no SnapshotMover")
	}
	move := func(digest, peer string) (sandboxer.SnapshotTarget, sandboxer.Snapshot, error) {
		to := sandboxer.SnapshotTarget{Snapshot: snap, Host: two.Host(), Secret: two.Secret}
		to.Snapshot.ID, to.Snapshot.Digest, to.Host.Options = "copy", digest, sandboxer.Inputs{}
		if peer != "" {
			to.Host.Options["peer"] = peer
		}
		got, err := mover.MoveSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: snap, Host: one.Host(), Secret: one.Secret}, to)
		return to, got, err
	}
	nothingOf := func(what string) {
		t.Helper()
		if found, _ := filepath.Glob(filepath.Join(two.Server.Home, place, ".snapshots", ".*")); len(found) > 0 {
			t.Errorf("%s left %v", what, found)
		}
	}

	if _, _, err := move(snap.Digest, ""); !errors.Is(err, sandboxer.Unsupported) || !sandboxer.IsRefused(err) {
		t.Errorf("without the option: %v", err)
	}
	if _, err := os.Stat(uses); err == nil {
		t.Error("without the option the client was used")
	}
	if _, _, err := move(snap.Digest, "two;reboot"); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("with a peer that is none: %v", err)
	}
	if _, _, err := move(snap.Digest, "two"); !errors.Is(err, sandboxer.Unsupported) || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "Host key verification failed") {
		t.Errorf("to a host whose key is not known: %v", err)
	}
	nothingOf("a host that is not trusted")

	if err := os.WriteFile(knownHosts, []byte("two "+two.Server.HostKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := move("sha256:"+strings.Repeat("0", 64), "two"); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("with another digest: %v", err)
	}
	nothingOf("another digest")
	broken := filepath.Join(filepath.Dir(uses), "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := move(snap.Digest, "two"); !errors.Is(err, sandboxer.Unsupported) || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "the line broke") {
		t.Errorf("over a line that breaks: %v", err)
	}
	nothingOf("a line that breaks")
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	to, got, err := move(snap.Digest, "two")
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != snap.Digest || got.SizeBytes != snap.SizeBytes || got.Host != two.Host().ID || got.ID != "copy" {
		t.Errorf("moved %+v as %+v", snap, got)
	}
	if said, _ := os.ReadFile(uses); strings.Count(string(said), "\n") != 4 {
		t.Errorf("uses of the client:\n%s", said)
	}

	again := provisionRequest(two, "")
	again.Inputs = sandboxer.Inputs{}
	h, err = snaps.Restore(ctx, again, got)
	if err != nil {
		t.Fatal(err)
	}
	restored := target(again, h)
	if _, err := ext.WaitReady(ctx, restored); err != nil {
		t.Fatal(err)
	}
	res, err := x.Exec(ctx, restored, sandboxer.ExecRequest{Command: []string{"sh", "-c", `[ "$(cat /src/file)" = travelled ] && [ "$(stat -c %Y /src/file)" = 1000000000 ]`}})
	if err != nil || res.ExitCode != 0 {
		t.Errorf("restored: %v, %v", res, err)
	}
	for _, box := range []sandboxer.Target{from, restored} {
		if r, err := ext.Teardown(ctx, box); err != nil || len(r.Left) > 0 {
			t.Error(r, err)
		}
	}
	to.Snapshot = got
	if err := errors.Join(snaps.DeleteSnapshot(ctx, to), snaps.DeleteSnapshot(ctx, sandboxer.SnapshotTarget{Snapshot: snap, Host: one.Host(), Secret: one.Secret})); err != nil {
		t.Error(err)
	}
}
