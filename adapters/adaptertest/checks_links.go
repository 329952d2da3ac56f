package adaptertest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

func linkChecks() []check {
	const why = "archives come from strangers: a link that is followed reads or overwrites what the sandbox, or its host, holds elsewhere"
	return []check{{
		name: "links/stay-links", needs: needsFiles(),
		rule: "a symbolic link is copied as a link, wherever it leads, and never as what it points to",
		why:  why,
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("links")
			t.copyIn(b, name+"-outside", []entry{file("secret", 0o644, []byte("content of another directory"))})
			want := []entry{
				file("real", 0o644, []byte("real")), link("inside", "real"), link("dangling", "none"), link("absolute", "/etc/passwd"),
				link("leaves", "../"+name+"-outside/secret"), link("directory", "../"+name+"-outside"), link("loop", "loop"),
			}
			t.copyIn(b, name, want)
			if diff := diffTrees(want, t.copyOut(b, name)); diff != "" {
				t.broken("a tree with links came out changed: %s", diff)
			}
		},
	}, {
		name: "links/not-through", needs: needsFiles(),
		rule: "nothing is ever written through a link that leaves the destination",
		why:  why,
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("through")
			outside := []entry{file("victim", 0o644, []byte("untouched")), dir("sub", 0o755)}
			hostile := map[string][]entry{
				"a file below a link of the same stream": {link("door", "../%s"), file("door/new", 0o644, []byte("evil"))},
				"a file in the place of a link":          {link("victim", "../%s/victim"), file("victim", 0o644, []byte("evil"))},
				"a directory in the place of a link":     {link("door", "../%s/sub"), dir("door", 0o700), file("door/new", 0o644, []byte("evil"))},
			}
			for what, entries := range hostile {
				away, to := t.s.unique("outside"), t.s.unique(name)
				t.copyIn(b, away, outside)
				_ = t.tryCopyIn(b, to, tarOf(t, aimed(entries, away)...)) // to refuse it is as good
				t.unharmed(b, away, outside, what)
			}
			away, to := t.s.unique("outside"), t.s.unique(name)
			t.copyIn(b, away, outside)
			t.copyIn(b, to, []entry{link("door", "../"+away), link("file", "../"+away+"/victim")})
			_ = t.tryCopyIn(b, to, tarOf(t, file("door/new", 0o644, []byte("evil"))))
			_ = t.tryCopyIn(b, to, tarOf(t, file("file", 0o644, []byte("evil"))))
			t.unharmed(b, away, outside, "a file below a link that was there before")
		},
	}, {
		name: "links/names-that-leave", needs: needsFiles(),
		rule: "a name that leaves the destination (.., or absolute) writes nothing outside",
		why:  why,
		run: func(t *trial) {
			b := t.shared()
			for _, name := range []string{"../%s/victim", "sub/../../%s/victim", "./../%s/new"} {
				away, to := t.s.unique("outside"), t.s.unique("leaving")
				outside := []entry{file("victim", 0o644, []byte("untouched"))}
				t.copyIn(b, away, outside)
				_ = t.tryCopyIn(b, to, tarOf(t, aimed([]entry{file(name, 0o644, []byte("evil"))}, away)...))
				t.unharmed(b, away, outside, fmt.Sprintf("a file named %q", name))
			}
			if b.reach.RemoteDir != "" {
				away := t.s.unique("outside")
				outside := []entry{file("victim", 0o644, []byte("untouched"))}
				t.copyIn(b, away, outside)
				_ = t.tryCopyIn(b, t.s.unique("leaving"), tarOf(t, file(b.reach.RemoteDir+"/"+away+"/victim", 0o644, []byte("evil"))))
				t.unharmed(b, away, outside, "a file with an absolute name")
			}
		},
	}, {
		name: "links/hard", needs: needsFiles(),
		rule: "a hard link to what is outside of the destination brings nothing in, and nothing is written through it",
		why:  why,
		run: func(t *trial) {
			b, away, to := t.shared(), t.s.unique("outside"), t.s.unique("hard")
			outside := []entry{file("victim", 0o644, []byte("untouched"))}
			t.copyIn(b, away, outside)
			hard := entry{name: "taken", kind: tar.TypeLink, mode: 0o644, mtime: then(1), link: "../" + away + "/victim"}
			_ = t.tryCopyIn(b, to, tarOf(t, hard, file("taken", 0o644, []byte("evil"))))
			t.unharmed(b, away, outside, "a hard link and a file in its place")
			_ = t.tryCopyIn(b, to+"-read", tarOf(t, file("own", 0o644, []byte("own")), hard))
			if got, err := t.tryCopyOut(b, to+"-read"); err == nil {
				for _, e := range got {
					if bytes.Contains(e.body, []byte("untouched")) {
						t.broken("a hard link brought the content of a file outside of the destination in, as %q", e.name)
					}
				}
			}
		},
	}}
}

// aimed fills the name of the directory outside into names and links.
func aimed(entries []entry, away string) []entry {
	out := make([]entry, len(entries))
	for i, e := range entries {
		e.name, e.link = strings.ReplaceAll(e.name, "%s", away), strings.ReplaceAll(e.link, "%s", away)
		out[i] = e
	}
	return out
}

// unharmed breaks the rule unless a directory is as it was.
func (t *trial) unharmed(b *box, away string, want []entry, after string) {
	t.Helper()
	if diff := diffTrees(want, t.copyOut(b, away)); diff != "" {
		t.broken("%s changed a directory outside of the destination: %s", after, diff)
	}
}
