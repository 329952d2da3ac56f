package adaptertest

import (
	"archive/tar"
	"context"
	"io/fs"
	"slices"
	"sync"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
)

func syncChecks() []check {
	needs := []sandboxer.Capability{sandboxer.CapSync, sandboxer.CapFiles}
	return []check{{
		name: "sync/equal", needs: needs,
		rule: "Sync makes a directory equal to the source: what changed, what is new, what became something else; and the rest is removed",
		why:  "a build of a tree that nobody has finds errors that nobody can see, and hides those that are there",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("sync")
			t.copyIn(b, name, beforeSync())
			for _, round := range []string{"a tree that was there before", "a tree that is equal already"} {
				t.ok("Sync over "+round, t.trySync(b, name, fsOf(afterSync())))
				if diff := diffTrees(afterSync(), t.copyOut(b, name)); diff != "" {
					t.broken("after Sync over %s: %s", round, diff)
				}
			}
			t.ok("Sync of nothing", t.trySync(b, name, fstest.MapFS{}))
			if diff := diffTrees(nil, t.copyOut(b, name)); diff != "" {
				t.broken("after Sync of an empty source: %s", diff)
			}
		},
	}, {
		name: "sync/incremental", needs: needs,
		rule: "Sync reads only the files that differ in size, mode or modification time",
		why:  "it is there for trees that are too large to be copied again for one line that changed",
		run: func(t *trial) {
			b, name, tree := t.shared(), t.s.unique("incremental"), fsOf(sampleTree())
			t.ok("Sync", t.trySync(b, name, tree))
			again := &opened{FS: tree}
			t.ok("Sync of the same", t.trySync(b, name, again))
			if got := again.files(); len(got) > 0 {
				t.broken("a second Sync of the same read %q", got)
			}
			tree["sub/run.sh"].ModTime = tree["sub/run.sh"].ModTime.Add(1)
			tree["sub/deeper/text"].Mode = 0o600
			tree["binary"].Data = append(tree["binary"].Data, 0)
			changed := &opened{FS: tree}
			t.ok("Sync of three changes", t.trySync(b, name, changed))
			if got, want := changed.files(), []string{"binary", "sub/deeper/text", "sub/run.sh"}; !slices.Equal(got, want) {
				t.broken("Sync read %q; only %q have changed", got, want)
			}
			if diff := diffTrees(entriesOf(tree), t.copyOut(b, name)); diff != "" {
				t.broken("after a Sync of three changes: %s", diff)
			}
		},
	}, {
		name: "sync/links", needs: needs,
		rule: "a link in the destination is replaced or removed, and never followed, emptied or written through",
		why:  "the sandbox made it, and chose where it leads: to what a host, or another sandbox, holds",
		run: func(t *trial) {
			b, away, name := t.shared(), t.s.unique("outside"), t.s.unique("planted")
			outside := []entry{file("victim", 0o644, []byte("untouched")), dir("sub", 0o755), file("sub/more", 0o600, []byte("untouched"))}
			t.copyIn(b, away, outside)
			t.copyIn(b, name, []entry{
				link("file", "../"+away+"/victim"), link("dir", "../"+away), link("extra", "../"+away+"/sub"),
				dir("in", 0o755), link("in/deep", "../../"+away+"/sub"), link("empty", "../"+away+"/sub"),
			})
			want := []entry{
				file("file", 0o644, []byte("ours")), dir("dir", 0o755), file("dir/victim", 0o644, []byte("ours")), dir("in", 0o755),
				dir("in/deep", 0o700), file("in/deep/more", 0o644, []byte("ours")), dir("empty", 0o755),
			}
			t.ok("Sync over links that lead away", t.trySync(b, name, fsOf(want)))
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("after Sync over links that lead away: %s", diff)
			}
			t.unharmed(b, away, outside, "Sync over links that lead away")
		},
	}, {
		name: "sync/missing-dst", needs: needs,
		rule: "Sync makes its destination",
		why:  "CopyIn does, and a refresh that works the second time only is none",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("fresh")+"/made/on the way"
			t.ok("Sync into a directory that does not exist", t.trySync(b, name, fsOf(sampleTree())))
			if diff := diffTrees(sampleTree(), t.copyOut(b, name)); diff != "" {
				t.broken("after Sync into a directory that did not exist: %s", diff)
			}
		},
	}}
}

// beforeSync and afterSync have one of each change between them.
func beforeSync() []entry {
	return []entry{
		file("same", 0o644, []byte("same")), file("text", 0o644, []byte("one")), file("mode", 0o644, []byte("run")), file("time", 0o644, []byte("old")),
		file("removed", 0o400, []byte("old")), dir("gone", 0o500), file("gone/in it", 0o644, []byte("old")), dir("empty-gone", 0o755),
		file("file-dir", 0o644, []byte("old")), dir("dir-file", 0o755), file("dir-file/in it", 0o644, []byte("old")), link("link-file", "same"),
		file("file-link", 0o644, []byte("old")), link("link-dir", "gone"), dir("dir-link", 0o755), file("dir-link/in it", 0o644, nil), link("link", "same"),
		dir("locked", 0o500), file("locked/text", 0o400, []byte("old")),
	}
}

func afterSync() []entry {
	later := file("time", 0o644, []byte("new"))
	later.mtime = later.mtime.Add(1)
	return []entry{
		file("same", 0o644, []byte("same")), file("text", 0o644, []byte("one more")), file("mode", 0o755, []byte("run")), later,
		file("new", 0o640, everyByte()), dir("new-dir", 0o750), dir("new-dir/empty", 0o755), file("new-dir/it's\nodd", 0o644, []byte("odd")),
		dir("file-dir", 0o755), file("file-dir/in it", 0o644, []byte("new")), file("dir-file", 0o644, []byte("new")), file("link-file", 0o644, []byte("new")),
		link("file-link", "none"), dir("link-dir", 0o755), file("link-dir/in it", 0o644, []byte("new")), link("dir-link", "/nowhere"), link("link", "text"),
		dir("locked", 0o500), file("locked/text", 0o400, []byte("newer")),
	}
}

// trySync syncs; it must end within the suite's limits.
func (t *trial) trySync(b *box, dst string, src fs.FS) error {
	t.Helper()
	x, ok := sandboxer.As[sandboxer.Syncer](b.ext)
	if !ok {
		t.Fatal("the extension is no Syncer")
	}
	_, err := do(t, "Sync", only(func(ctx context.Context) error { return x.Sync(ctx, b.target, dst, src) }))
	return err
}

// fsOf is a tree as a source.
func fsOf(entries []entry) fstest.MapFS {
	out := fstest.MapFS{}
	for _, e := range entries {
		f := &fstest.MapFile{Data: e.body, Mode: fs.FileMode(e.mode), ModTime: e.mtime}
		switch e.kind {
		case tar.TypeDir:
			f.Mode |= fs.ModeDir
		case tar.TypeSymlink:
			f.Mode, f.Data = fs.ModeSymlink|0o777, []byte(e.link)
		}
		out[e.name] = f
	}
	return out
}

// entriesOf is fsOf the other way.
func entriesOf(tree fstest.MapFS) []entry {
	var out []entry
	for name, f := range tree {
		e := entry{name: name, kind: tar.TypeReg, mode: int64(f.Mode.Perm()), mtime: f.ModTime, body: f.Data}
		switch f.Mode.Type() {
		case fs.ModeDir:
			e.kind = tar.TypeDir
		case fs.ModeSymlink:
			e.kind, e.link, e.body = tar.TypeSymlink, string(f.Data), nil
		}
		out = append(out, e)
	}
	return out
}

// opened notes which files of a source are opened. It hides what else the source can do but for links.
type opened struct {
	fs.FS
	mu    sync.Mutex
	names []string
}

func (o *opened) Open(name string) (fs.File, error) {
	f, err := o.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		o.mu.Lock()
		o.names = append(o.names, name)
		o.mu.Unlock()
	}
	return f, nil
}

func (o *opened) ReadLink(name string) (string, error)   { return fs.ReadLink(o.FS, name) }
func (o *opened) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(o.FS, name) }

func (o *opened) files() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(o.names)
	return slices.Compact(o.names)
}
