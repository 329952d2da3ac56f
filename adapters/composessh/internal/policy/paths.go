package policy

import (
	"cmp"
	_ "embed" // for the script
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

//go:embed paths.sh
var pathCheck string

// PathCheck is a script for the host's sh: what is run there with the workspace as its only argument and [Stack.Paths] on
// standard input, each ended by a newline. It ends with 0 when all of them lie in the workspace in fact, with 1 when those
// that it printed, one a line, do not, and with another code when it cannot tell. It needs readlink -f, which GNU, busybox,
// toybox and BSD have, and has to run as a user who sees all of the workspace.
func PathCheck() string { return pathCheck }

// paths lists what the engine and Compose open in the workspace.
func (l *load) paths() []string {
	var all []string
	add := func(p string) {
		if rel, ok := l.inWorkspace(p); ok {
			all = append(all, rel)
		}
	}
	for _, s := range l.project.Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				add(v.Source)
			}
		}
		if s.Build == nil || strings.Contains(s.Build.Context, ":") {
			continue
		}
		add(s.Build.Context)
		add(path.Join(s.Build.Context, ".dockerignore"))
		if s.Build.DockerfileInline == "" {
			dockerfile := path.Join(s.Build.Context, cmp.Or(s.Build.Dockerfile, "Dockerfile"))
			add(dockerfile)
			add(dockerfile + ".dockerignore")
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
