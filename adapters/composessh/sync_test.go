package composessh_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// syncService is a stack whose commands are a user that is not root.
const syncService = `
services:
  app:
    image: ` + hosttest.Image + `
    command: [sleep, "1000"]
    init: true
    user: "1234:2345"
    volumes: [".:/src", "cache:/cache"]
volumes: {cache: {}}
`

// TestSync: a tree of some hundred files of which one changed costs little more than the list of them; what arrives belongs to
// the user of the service; a volume can be synced, and a path of the image cannot.
func TestSync(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 1)
	w := newWorld(t, repository(t, syncService), "", h)
	sb := w.create(w.request())
	tree := t.TempDir()
	const files, size = 400, 8 << 10
	for i := range files {
		write(t, filepath.Join(tree, fmt.Sprint("dir", i%20), fmt.Sprint("file", i)), strings.Repeat(fmt.Sprint(i, " "), size)[:size])
	}
	if err := os.Symlink("dir1/file1", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	sync := func(dst string) (sent int64) {
		t.Helper()
		var most atomic.Int64
		ctx := sandboxer.WithProgress(context.Background(), func(p sandboxer.Progress) {
			if p.Stage == "upload" {
				most.Store(max(most.Load(), p.Done))
			}
		})
		if err := sb.Sync(ctx, dst, os.DirFS(tree)); err != nil {
			t.Fatal(err)
		}
		return most.Load()
	}
	if all := sync("tree"); all < files*size {
		t.Errorf("the first sync sent %d bytes of %d", all, files*size)
	}
	if none := sync("tree"); none != 0 {
		t.Errorf("a sync of the same sent %d bytes", none)
	}
	write(t, filepath.Join(tree, "dir7", "file7"), strings.Repeat("x", size))
	if one := sync("tree"); one != size {
		t.Errorf("a sync of one change sent %d bytes, want %d", one, size)
	}
	if got := output(t, sb, "sh", "-c", "head -c 4 tree/dir7/file7; find tree | wc -l; find tree ! -user 1234 -o ! -group 2345"); got != "xxxx422\n" {
		t.Errorf("the sandbox has %q", got)
	}
	if sync("/cache/made/here"); output(t, sb, "sh", "-c", "cat /cache/made/here/link | head -c 2; stat -c %u:%g /cache/made /cache/made/here") != "1 1234:2345\n1234:2345\n" {
		t.Error("a volume was not synced, or belongs to somebody else")
	}
	err := sb.Sync(context.Background(), "/opt/x", os.DirFS(tree))
	if sandboxer.CodeOf(err) != sandboxer.Unsupported || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), "use CopyIn") {
		t.Errorf("a path of the image: %v", err)
	}
	err = sb.Sync(context.Background(), "tree", os.DirFS(filepath.Join(tree, "none")))
	if sandboxer.CodeOf(err) != sandboxer.NotFound {
		t.Errorf("a source that does not exist: %v", err)
	}
	if got := output(t, sb, "sh", "-c", "find tree | wc -l"); got != "422\n" {
		t.Errorf("a source that does not exist left %q of the tree", got)
	}
}

// TestSyncPlantedLinks: links that a sandbox made lead nowhere else, whether they are the destination, on the way to it, in it,
// or appear while it is synced.
func TestSyncPlantedLinks(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	w := newWorld(t, repository(t, strings.Replace(syncService, `"1234:2345"`, `"0:0"`, 1)), "", h)
	sb := w.create(w.request())
	at := time.Unix(1e9, 1)
	src := fstest.MapFS{"etc/passwd": {Data: []byte("evil"), Mode: 0o644, ModTime: at}, "victim": {Data: []byte("evil"), Mode: 0o644, ModTime: at}}
	output(t, sb, "sh", "-c", `echo kept > /cache/victim; mkdir -p t; ln -s /etc t/etc; ln -s /cache/victim t/victim; ln -s / t/extra
		ln -s /cache out; ln -s / root; ln -s ../../.. up`)
	if err := sb.Sync(context.Background(), "t", src); err != nil {
		t.Fatal(err)
	}
	if got := output(t, sb, "sh", "-c", "cat t/etc/passwd t/victim /cache/victim; ls t"); got != "evilevilkept\netc\nvictim\n" {
		t.Errorf("the sandbox has %q", got)
	}
	for _, dst := range []string{"out", "out/made", "root/tmp/x", "up/etc"} {
		err := sb.Sync(context.Background(), dst, src)
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %v", dst, err)
		}
	}
	if got := output(t, sb, "sh", "-c", "cat /cache/victim; ls /cache"); got != "kept\nvictim\n" {
		t.Errorf("the volume has %q", got)
	}
	before := h.Docker("exec", "-u", "0", filesOf(h, sb.ID()), "sh", "-c", "cksum /etc/passwd; ls -A /etc / /tmp | cksum")
	// The sandbox swaps a directory for a link all the time. Whatever that does to the sync, it stays in the workspace.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		_, _ = sb.Exec(ctx, sandboxer.ExecRequest{Command: []string{"sh", "-c", "while :; do rm -rf t/etc; ln -s /etc t/etc; rm -rf t; mkdir t; rm -rf t; ln -s / t; rm t; done"}}) // it ends with ctx
	}()
	for i := range 5 {
		for _, f := range src {
			f.ModTime = at.Add(time.Duration(i) * time.Second)
		}
		_ = sb.Sync(ctx, "t", src) // it may well fail
	}
	cancel()
	<-swapped
	if after := h.Docker("exec", "-u", "0", filesOf(h, sb.ID()), "sh", "-c", "cksum /etc/passwd; ls -A /etc / /tmp | cksum"); after != before {
		t.Errorf("the container for files changed: %q, before %q", after, before)
	}
	if got := output(t, sb, "sh", "-c", "rm -rf t; cat /cache/victim; grep -c evil /etc/passwd || :"); got != "kept\n0\n" {
		t.Errorf("the sandbox has %q", got)
	}
	if err := sb.Sync(context.Background(), "t", src); err != nil {
		t.Errorf("a sync in peace: %v", err)
	}
}

// filesOf is the container for files of a sandbox.
func filesOf(h *hosttest.Host, id sandboxer.ID) string {
	return strings.TrimSpace(h.Docker("ps", "-q", "--filter", "label=com.docker.compose.project="+string(id), "--filter", "label=com.docker.compose.service=sandboxer-files"))
}
