//go:build linux || darwin

package local_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// snap keeps box under an ID; the snapshot is deleted at the end of the test.
func snap(t *testing.T, ext extension, box sandboxer.Target, id string) sandboxer.Snapshot {
	t.Helper()
	s, err := ext.Snapshot(t.Context(), box, sandboxer.SnapshotRequest{ID: id, Labels: box.Labels})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func drop(t *testing.T, ext extension, s sandboxer.Snapshot) {
	t.Helper()
	if err := ext.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: s}); err != nil {
		t.Errorf("DeleteSnapshot: %v", err)
	}
}

func contents(t *testing.T, root string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, ".snapshots", "*.tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSnapshotThroughALink: what a command puts into the place of its workspace leads a snapshot to no other sandbox's files,
// as it leads no copy there. The snapshot held them.
func TestSnapshotThroughALink(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	box, other := sandbox(t, ext), sandbox(t, ext)
	shell(t, ext, other, "echo of the other >secret")
	shell(t, ext, box, "cd .. && rmdir workspace && ln -s ../"+other.Handle.Ref().Name()+"/workspace workspace")
	s, err := ext.Snapshot(t.Context(), box, sandboxer.SnapshotRequest{ID: "through-a-link", Labels: box.Labels})
	if err == nil {
		drop(t, ext, s)
	}
	if !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("Snapshot = %+v, %v; want InvalidArgument", s, err)
	}
	if kept := contents(t, root); len(kept) > 0 {
		t.Errorf("kept %q", kept)
	}
	if err := ext.CopyOut(t.Context(), box, "", io.Discard); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("CopyOut: %v, want InvalidArgument", err)
	}
}

func TestEqualTreesShareTheirContent(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	box := sandbox(t, ext)
	shell(t, ext, box, `mkdir -p a/b; echo x >a/b/f; ln -s b a/l; chmod 500 a/b; touch -d @0.5 a 2>/dev/null || :`)
	one, two := snap(t, ext, box, "one"), snap(t, ext, box, "two")
	if one.Digest != two.Digest || one.Digest == "" || len(contents(t, root)) != 1 {
		t.Errorf("two snapshots of one tree: %s and %s, in %q", one.Digest, two.Digest, contents(t, root))
	}
	h, err := ext.Restore(t.Context(), request("restored", me), one)
	if err != nil {
		t.Fatal(err)
	}
	again := targetOf(h, me)
	defer teardown(t, ext, again)
	if three := snap(t, ext, again, "three"); three.Digest != one.Digest {
		t.Errorf("the restored tree has the digest %s, and its source %s", three.Digest, one.Digest)
	} else {
		drop(t, ext, three)
	}
	shell(t, ext, again, "echo more >more")
	other := snap(t, ext, again, "other")
	if other.Digest == one.Digest || len(contents(t, root)) != 2 {
		t.Errorf("another tree has the digest %s, like the first", other.Digest)
	}
	drop(t, ext, other)
	drop(t, ext, one)
	if len(contents(t, root)) != 1 {
		t.Errorf("after one of two is deleted: %q", contents(t, root))
	}
	drop(t, ext, two)
	drop(t, ext, two)
	if _, err := os.Stat(filepath.Join(root, ".snapshots")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the last is deleted, the directory is still there: %v", err)
	}
}

func TestDamagedSnapshotsAreNotRestored(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(content string) error{
		"a flipped bit": func(at string) error {
			b, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(at, b, 0o600)
		},
		"cut short": func(at string) error { return os.Truncate(at, 1000) },
		"empty":     func(at string) error { return os.Truncate(at, 0) },
		"missing":   os.Remove,
		"another": func(at string) error {
			return os.WriteFile(at, []byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tempRoot(t)
			ext := newExtension(t, root, nil)
			box := sandbox(t, ext)
			shell(t, ext, box, `head -c 100000 /dev/urandom >f`)
			s := snap(t, ext, box, "damaged")
			if err := damage(contents(t, root)[0]); err != nil {
				t.Fatal(err)
			}
			req := request("restored", me)
			h, err := ext.Restore(t.Context(), req, s)
			if !errors.Is(err, sandboxer.FailedPrecondition) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Restore: %v, want FailedPrecondition", err)
			}
			if h.IsZero() != sandboxer.IsRefused(err) {
				t.Errorf("Restore failed with the handle %v and %v", h, err)
			}
			target := targetOf(sandboxer.BareHandle(req.Ref()), me)
			if _, err := ext.Exec(t.Context(), target, sandboxer.ExecRequest{Command: []string{"true"}}); err == nil {
				t.Error("a command runs in what was not restored")
			}
			teardown(t, ext, target)
			drop(t, ext, s)
			teardown(t, ext, box)
			if left := everything(t, root); len(left) > 0 {
				t.Errorf("left below the root: %q", left)
			}
		})
	}
}

func TestTransferVerifiesBeforeItShows(t *testing.T) {
	t.Parallel()
	fromRoot, toRoot := tempRoot(t), tempRoot(t)
	from, to := newExtension(t, fromRoot, nil), newExtension(t, toRoot, nil)
	box := sandbox(t, from)
	shell(t, from, box, `head -c 200000 /dev/urandom >f; echo x >g`)
	s := snap(t, from, box, "moved")
	var data bytes.Buffer
	if err := from.ExportSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: s}, &data); err != nil {
		t.Fatal(err)
	}
	there := s
	there.State = nil
	for name, bad := range map[string][]byte{"cut off": data.Bytes()[:data.Len()-10], "nothing": nil, "other": append([]byte("x"), data.Bytes()...), "more": append(bytes.Clone(data.Bytes()), data.Bytes()...)} {
		if got, err := to.ImportSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: there}, bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: imported as %+v", name, got)
		}
	}
	for s, err := range to.ListSnapshots(t.Context(), sandboxer.ListQuery{}) {
		t.Errorf("visible after failed imports: %v, %v", s, err)
	}
	got, err := to.ImportSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: there}, bytes.NewReader(data.Bytes()))
	if err != nil || got.Digest != s.Digest || got.Status != sandboxer.SnapshotReady {
		t.Fatalf("ImportSnapshot = %+v, %v", got, err)
	}
	h, err := to.Restore(t.Context(), request("restored", me), got)
	if err != nil {
		t.Fatal(err)
	}
	restored := targetOf(h, me)
	if shell(t, from, box, "cksum f g") != shell(t, to, restored, "cksum f g") {
		t.Error("the restored files differ")
	}
	teardown(t, to, restored)
	drop(t, to, got)
	drop(t, from, s)
	if left := everything(t, toRoot); len(left) > 0 {
		t.Errorf("left below the root: %q", left)
	}
}

func TestUnreadableRecordsStopDeletion(t *testing.T) {
	t.Parallel()
	root := tempRoot(t)
	ext := newExtension(t, root, nil)
	box := sandbox(t, ext)
	one := snap(t, ext, box, "one")
	shell(t, ext, box, "echo x >f")
	two := snap(t, ext, box, "two")
	at := filepath.Join(root, ".snapshots", "one.json")
	good, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ext.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: two}); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("DeleteSnapshot beside a record that cannot be read: %v", err)
	}
	if len(contents(t, root)) != 2 {
		t.Errorf("contents were removed that an unreadable record may name: %q", contents(t, root))
	}
	failed := false
	for _, err := range ext.ListSnapshots(t.Context(), sandboxer.ListQuery{}) {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("the listing does not say that it is incomplete")
	}
	if err := os.WriteFile(at, good, 0o600); err != nil {
		t.Fatal(err)
	}
	drop(t, ext, one)
	drop(t, ext, two)
}

func TestSnapshotIDs(t *testing.T) {
	t.Parallel()
	ext := newExtension(t, tempRoot(t), nil)
	box := sandbox(t, ext)
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".tmp.x", "x\x00", "ü", strings.Repeat("x", 200)} {
		if _, err := ext.Snapshot(t.Context(), box, sandboxer.SnapshotRequest{ID: id}); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("Snapshot with the ID %q: %v", id, err)
		}
		if err := ext.DeleteSnapshot(t.Context(), sandboxer.SnapshotTarget{Snapshot: sandboxer.Snapshot{ID: id}}); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("DeleteSnapshot with the ID %q: %v", id, err)
		}
	}
	if _, err := ext.Restore(t.Context(), request("restored", me), sandboxer.Snapshot{ID: "none"}); !errors.Is(err, sandboxer.NotFound) || !sandboxer.IsRefused(err) {
		t.Errorf("Restore of what is not there: %v", err)
	}
}
