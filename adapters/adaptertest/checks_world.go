package adaptertest

import (
	"strings"

	"github.com/sand-boxer/sandboxer"
)

func worldChecks() []check {
	needs := []sandboxer.Capability{sandboxer.CapExec, sandboxer.CapFiles}
	return []check{{
		name: "world/copies-seen", needs: needs,
		rule: "Exec and copies see one file system, and relative paths mean the workspace for both",
		why:  "code is copied in, built by a command, and the result copied out",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("world")
			odd := "it's a \"file\"\nof two lines"
			t.copyIn(b, name, []entry{file(odd, 0o640, everyByte()), file("run", 0o755, []byte("#!/bin/sh\n")), file("still", 0o644, nil), link("to", "run")})
			t.same("a file that was copied in, as a command reads it", everyByte(), t.sh(b, `cat "$1"`, name+"/"+odd))
			got := t.sh(b, `cd "$1"; [ -x run ] && printf x; [ -x still ] || printf -- -; [ -h to ] && printf l; [ -s still ] || printf 0`, name)
			if string(got) != "x-l0" {
				t.broken("of a tree with an executable, another file, a link and an empty file a command sees %s instead of \"x-l0\"", short(got))
			}
			where := strings.TrimSuffix(string(t.sh(b, `cd "$1" && pwd`, name)), "\n")
			t.copyIn(b, where+"/absolute", []entry{file("f", 0o644, []byte("by its absolute name"))})
			if got := t.sh(b, `cat "$1"`, name+"/absolute/f"); string(got) != "by its absolute name" {
				t.broken("a file that was copied to an absolute path is read as %s", short(got))
			}
		},
	}, {
		name: "world/commands-seen", needs: needs,
		rule: "what a command writes can be copied out",
		why:  "it is the result that somebody waits for",
		run: func(t *trial) {
			b, name := t.shared(), t.s.unique("made")
			t.sh(b, `mkdir -p "$1/sub dir" && printf 'made by a command' > "$1/sub dir/file" && chmod 750 "$1/sub dir/file"`, name)
			for _, e := range t.copyOut(b, name) {
				if strings.TrimPrefix(e.name, "./") == "sub dir/file" {
					if string(e.body) != "made by a command" || e.mode != 0o750 {
						t.broken("a file that a command made came out as %s with mode %04o", short(e.body), e.mode)
					}
					return
				}
			}
			t.broken("a file that a command made was not copied out")
		},
	}}
}
