package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
)

func needsFiles() []sandboxer.Capability { return []sandboxer.Capability{sandboxer.CapFiles} }

const whyFiles = "a copy that changes something is noticed when the build that was copied does something else"

func fileChecks() []check {
	return []check{{
		name: "files/round-trip", needs: needsFiles(),
		rule: "copies keep contents, modes, modification times to the nanosecond, links and empty directories",
		why:  "make and git compare times, scripts need their modes: what is lost makes everything build again, or not at all",
		run: func(t *trial) {
			b, name, want := t.shared(), t.s.unique("tree"), sampleTree()
			t.copyIn(b, name, want)
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("a tree that was copied in came out changed: %s", diff)
			}
		},
	}, {
		name: "files/sizes", needs: needsFiles(),
		rule: "files of any size arrive whole, and so do many",
		why:  whyFiles,
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("sizes")
			want := []entry{file("10MiB", 0o644, noise(flood)), dir("many", 0o755)}
			for _, n := range []int{0, 1, 511, 512, 513, 4096, 65535, 65536, 65537} {
				want = append(want, file(fmt.Sprintf("%d-bytes", n), 0o644, noise(n)))
			}
			for i := range 300 {
				want = append(want, file(fmt.Sprintf("many/%03d", i), 0o644, []byte(fmt.Sprint(i))))
			}
			t.copyIn(b, name, want)
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("a tree that was copied in came out changed: %s", diff)
			}
		},
	}, {
		name: "files/names", needs: needsFiles(),
		rule: "any name is kept: spaces, quotes, newlines, leading hyphens, more than 255 characters of path",
		why:  "repositories hold such names as tests of their own, and strangers choose names to harm",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("names")
			deep := strings.TrimSuffix(strings.Repeat("a directory of twenty characters/", 12), "/")
			want := []entry{dir(" ", 0o755)}
			for i, n := range []string{
				"two words", " leading", "trailing ", "it's", `"quoted"`, "line\nbreak", "tab\there", "-rf", "--help", "$(exit 1)", "`exit 1`", "$HOME",
				`back\slash`, "*", "?", "[a]", "~", "#", "&", ";", "|", "ünï☃", " /inside a space", strings.Repeat("n", 200),
			} {
				want = append(want, file(n, 0o644, fmt.Appendf(nil, "%d", i)))
			}
			for at := range len(deep) {
				if deep[at] == '/' {
					want = append(want, dir(deep[:at], 0o755))
				}
			}
			want = append(want, dir(deep, 0o755), file(deep+"/file", 0o644, []byte("deep")))
			t.copyIn(b, name, want)
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("a tree with unusual names came out changed: %s", diff)
			}
		},
	}, {
		name: "files/invalid-utf8", needs: needsFiles(),
		rule: "names are bytes",
		why:  "archives from old systems hold such names: a file that is left out is missed when it is too late",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("bytes")
			want := []entry{file("latin1-\xe4\xf6\xfc", 0o644, []byte("1")), file("\xff\xfe", 0o644, []byte("2"))}
			t.copyIn(b, name, want)
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("names that are not UTF-8 came out changed: %s", diff)
			}
		},
	}, {
		name: "files/overwrite", needs: needsFiles(),
		rule: "CopyIn makes its destination, replaces files that exist, and leaves the others",
		why:  "a second copy brings the changes: what stays of an older file is a file that nobody wrote",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("overwrite")+"/made/on the way"
			t.copyIn(b, name, []entry{file("kept", 0o644, []byte("kept")), file("changed", 0o755, []byte("long before")), file("locked", 0o400, []byte("before"))})
			t.copyIn(b, name, []entry{file("changed", 0o644, []byte("after")), file("locked", 0o600, []byte("after"))})
			want := []entry{file("kept", 0o644, []byte("kept")), file("changed", 0o644, []byte("after")), file("locked", 0o600, []byte("after"))}
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("after a second copy over the first: %s", diff)
			}
		},
	}, {
		name: "files/single", needs: needsFiles(),
		rule: "CopyOut of a file is one entry with its base name",
		why:  "one result of a build is fetched more often than all",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("single")
			t.copyIn(b, name, []entry{dir("sub", 0o755), file("sub/one file", 0o640, everyByte())})
			got := t.copyOut(b, name+"/sub/one file")
			if len(got) != 1 {
				t.broken("CopyOut of a file wrote %d entries", len(got))
			}
			want := file("sub/one file", 0o640, everyByte())
			want.name = "one file"
			if diff := diffTrees([]entry{want}, got); diff != "" {
				t.broken("CopyOut of a file: %s", diff)
			}
		},
	}, {
		name: "files/missing", needs: needsFiles(),
		rule: "CopyOut of what does not exist is NotFound",
		why:  "an empty archive would be taken for an empty directory",
		run: func(t *trial) {
			_, err := t.tryCopyOut(t.shared(), t.s.unique("never")+"/made")
			t.code("CopyOut of what does not exist", err, sandboxer.NotFound)
		},
	}, {
		name: "files/cut-off", needs: needsFiles(),
		rule: "a stream that ends early, fails, or is no tar is an error",
		why:  "a copy that succeeded with half of the files is the worst kind of failure",
		run: func(t *trial) {
			b := t.shared()
			whole := tarOf(t, file("a", 0o644, noise(100<<10)), file("b", 0o644, noise(100<<10)))
			for what, stream := range map[string][]byte{
				"a stream that ends within a file": whole[:len(whole)/4], "a stream that ends within a header": whole[:300], "a stream that is no tar": noise(4096),
			} {
				if err := t.tryCopyIn(b, t.s.unique("cut"), stream); err == nil {
					t.broken("CopyIn of %s succeeded", what)
				}
			}
			x, failed, to := files(t, b), errors.New("the source is broken"), t.s.unique("cut")
			_, err := do(t, "CopyIn", only(func(ctx context.Context) error {
				return x.CopyIn(ctx, b.target, to, io.MultiReader(bytes.NewReader(whole[:2048]), &failingReader{failed}))
			}))
			if err == nil {
				t.broken("CopyIn of a stream that fails succeeded")
			}
		},
	}, {
		name: "files/writer-fails", needs: needsFiles(),
		rule: "a writer that fails ends CopyOut with an error",
		why:  "invariant: nothing hangs; a full disk at the reader must not hold a connection for ever",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("refused")
			t.copyIn(b, name, []entry{file("big", 0o644, noise(1<<20))})
			x := files(t, b)
			_, err := do(t, "CopyOut", only(func(ctx context.Context) error {
				return x.CopyOut(ctx, b.target, name, &failingWriter{errors.New("the disk is full")})
			}))
			if err == nil {
				t.broken("CopyOut succeeded although its writer failed")
			}
		},
	}, {
		name: "files/manager", needs: needsFiles(),
		rule: "Sandbox.CopyIn and CopyOut move a tree between the caller's disk and the sandbox",
		why:  "it is what host applications call",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("manager")
			src := fstest.MapFS{
				"go.mod": {Data: []byte("module x\n"), Mode: 0o644, ModTime: then(1)}, "cmd/run.sh": {Data: []byte("#!/bin/sh\n"), Mode: 0o755, ModTime: then(2)},
				"empty": {Mode: fs.ModeDir | 0o755, ModTime: then(3)}, "data.bin": {Data: noise(200 << 10), Mode: 0o600, ModTime: then(4)},
			}
			_, err := do(t, "Sandbox.CopyIn", only(func(ctx context.Context) error { return b.sb.CopyIn(ctx, name, src) }))
			t.ok("Sandbox.CopyIn", err)
			to := filepath.Join(t.TempDir(), "out")
			_, err = do(t, "Sandbox.CopyOut", only(func(ctx context.Context) error { return b.sb.CopyOut(ctx, name, to) }))
			t.ok("Sandbox.CopyOut", err)
			for path, f := range src {
				in, err := os.Stat(filepath.Join(to, path))
				t.ok("looking at what Sandbox.CopyOut wrote", err)
				if f.Mode.IsDir() {
					continue
				}
				body, err := os.ReadFile(filepath.Join(to, path))
				t.ok("reading what Sandbox.CopyOut wrote", err)
				t.same(path, f.Data, body)
				if os.PathSeparator == '/' && in.Mode().Perm() != f.Mode.Perm() {
					t.broken("%s has the mode %v instead of %v", path, in.Mode().Perm(), f.Mode.Perm())
				}
				if in.ModTime().Unix() != f.ModTime.Unix() {
					t.broken("%s is of %v instead of %v", path, in.ModTime(), f.ModTime)
				}
			}
		},
	}}
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }
