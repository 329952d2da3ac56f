package policy

import (
	"fmt"
	"path"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// together judges what a field alone does not show: what lies in the workspace, who can write there, and how many
// containers there are.
func (l *load) together() {
	containers := 0
	for _, section := range []struct {
		key   string
		names []string
	}{{"services", l.project.ServiceNames()}, {"networks", l.project.NetworkNames()}, {"volumes", l.project.VolumeNames()}} {
		for _, name := range section.names {
			if strings.HasPrefix(name, "-") { // nobody should have to tell it from an option
				l.refuse([]string{section.key, name}, "a name cannot begin with -", "")
			}
		}
	}
	for _, name := range l.project.ServiceNames() {
		s := l.project.Services[name]
		if n := s.GetScale(); n < 0 || n > maxScale {
			l.refuse([]string{"services", name, "scale"}, fmt.Sprintf("%d containers; at most %d are run for all services", n, maxScale), "")
		} else {
			containers += n
		}
		if l.o.Policy == Trusted {
			continue
		}
		if s.Build != nil && l.o.Policy == BuildAllowed {
			l.buildPaths(name, s.Build)
		}
		l.sharing(name, s)
		if s.ReadOnly && len(s.Secrets)+len(s.Configs) > 0 {
			l.refuse([]string{"services", name, "read_only"}, "Compose copies secrets and configs into the container, which has to be writable for that", "")
		}
	}
	if containers > maxScale {
		l.refuse([]string{"services"}, fmt.Sprintf("%d containers; at most %d are run for all services", containers, maxScale), "")
	}
	if l.o.Policy != Trusted {
		l.binds()
	}
}

// inWorkspace returns the path below the workspace that a path of the file names. Absolute ones are taken where they
// name the workspace itself, as those of a canonical project do.
func (l *load) inWorkspace(p string) (string, bool) {
	if rest, ok := strings.CutPrefix(path.Clean(p), l.o.Workspace); ok && path.IsAbs(p) && (rest == "" || rest[0] == '/') {
		p = "." + rest
	}
	return path.Clean(p), below(p)
}

// mount is a bind mount of a path below the workspace.
type mount struct {
	at       []string
	service  string
	path     string
	readOnly bool
}

// binds refuses bind mounts of what is not in the workspace, and of what another mount could put a symbolic link in the
// place of. A mount point itself cannot be replaced by who has it mounted, only what is in it; so a path is safe as long as
// no directory above it is mounted writable.
func (l *load) binds() {
	var mounts []mount
	for _, name := range l.project.ServiceNames() {
		for i, v := range l.project.Services[name].Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			at := []string{"services", name, "volumes", fmt.Sprintf("[%d]", i), "source"}
			rel, ok := l.inWorkspace(v.Source)
			if !ok {
				l.refuse(at, fmt.Sprintf("%q is not in the workspace: only relative paths that stay below the Compose file's directory are mounted", v.Source), Trusted)
				continue
			}
			mounts = append(mounts, mount{at, name, rel, v.ReadOnly})
		}
	}
	for _, m := range mounts {
		for _, above := range mounts {
			if !above.readOnly && m.path != above.path && (above.path == "." || strings.HasPrefix(m.path, above.path+"/")) {
				l.refuse(m.at, fmt.Sprintf("service %s can write %q, which holds %q, and could put a link to the host in its place; mount the upper one read_only, or only the upper one, or use a volume",
					above.service, above.path, m.path), Trusted)
				break
			}
		}
	}
}

// buildPaths refuses to build from anywhere but a directory of the workspace.
func (l *load) buildPaths(service string, b *types.BuildConfig) {
	at := []string{"services", service, "build", "context"}
	if _, ok := l.inWorkspace(b.Context); !ok || strings.Contains(b.Context, ":") {
		l.refuse(at, fmt.Sprintf("%q is not in the workspace: only directories below the Compose file's are built", b.Context), Trusted)
	}
}

// sharing refuses references of a mount to what compose-go does not look up.
func (l *load) sharing(service string, s types.ServiceConfig) {
	for i, v := range s.Volumes {
		at := []string{"services", service, "volumes", fmt.Sprintf("[%d]", i)}
		if !path.IsAbs(v.Target) {
			l.refuse(append(at, "target"), fmt.Sprintf("%q is not absolute", v.Target), "")
		}
		if v.Type == types.VolumeTypeVolume && v.Source != "" {
			if _, ok := l.project.Volumes[v.Source]; !ok {
				l.refuse(append(at, "source"), fmt.Sprintf("no volume %q is declared", v.Source), "")
			}
		}
	}
}
