package composessh

import (
	"context"
	_ "embed" // for the script
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// filesService is the container of a stack through which files are copied: it has the workspace and the named volumes, the
// host's tools to read only, no network, and nothing else. Whatever a link in the workspace says leads nowhere else. It is made
// when it is first needed, because it costs as much as a service; a restore, which needs it at once, lets Compose make it.
const filesService = "sandboxer-files"

const (
	filesPIDs = 256
	toolPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// What the container may do to files, which is all that it may.
var filesCaps = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"}

// filesService is the container for files as a service of the project. It runs the host's own programs in an image that holds
// nothing, so that nothing of the stack's images is in it, and hands what it packs to the host in /o.
func (p *project) filesService(workspace string, dirs []string, labels map[string]string) tree {
	mounts := []any{
		tree{"type": "bind", "source": workspace, "target": "/w", "read_only": p.ReadOnly, "bind": tree{}},
		tree{"type": "bind", "source": path.Join(path.Dir(workspace), "out"), "target": "/o", "bind": tree{}},
	}
	for _, d := range dirs {
		mounts = append(mounts, tree{"type": "bind", "source": d, "target": d, "read_only": true, "bind": tree{}})
	}
	for _, v := range p.Volumes {
		mounts = append(mounts, tree{"type": "volume", "source": v, "target": "/v/" + v, "volume": tree{"nocopy": true}})
	}
	return tree{
		"pull_policy": "never", "entrypoint": []string{"/bin/sh", "-c", "while :; do sleep 86400; done"}, "command": []string{},
		"user": "0:0", "working_dir": "/", "environment": tree{"PATH": toolPath}, "network_mode": "none", "read_only": true,
		"cap_drop": []string{"ALL"}, "cap_add": filesCaps,
		"security_opt": []string{"no-new-privileges:true"}, "stop_signal": "SIGKILL", "restart": "unless-stopped",
		"healthcheck": tree{"disable": true}, "labels": labels, "volumes": mounts,
		"pids_limit": json.Number(strconv.Itoa(filesPIDs)),
	}
}

// withFiles adds the container for files to the project.
func (p *project) withFiles(ctx context.Context, h *host) error {
	image, err := h.run(ctx, "making the image of the container for files", `empty_image`)
	if err != nil {
		return err
	}
	// Its ID and not its name, which somebody could give to another image.
	p.files["image"] = strings.TrimSpace(image)
	p.json, err = edited(p.json, func(doc tree) { sub(doc, "services")[filesService] = p.files })
	return err
}

// filesOptions is the same container as options of the engine's command.
func (b *box) filesOptions(labels map[string]string) []string {
	out := []string{
		"--name", b.name + "-" + filesService + "-1", "--entrypoint", "/bin/sh", "--user", "0:0", "--workdir", "/", "--env", "PATH=" + toolPath,
		"--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--stop-signal", "SIGKILL",
		"--restart", "unless-stopped", "--no-healthcheck", "--pids-limit", strconv.Itoa(filesPIDs),
	}
	for _, c := range filesCaps {
		out = append(out, "--cap-add", c)
	}
	all := map[string]string{}
	maps.Copy(all, labels)
	maps.Copy(all, map[string]string{
		sandboxer.LabelName: b.name, labelExtension: b.e.id,
		// Compose's own, so that it counts the container in.
		"com.docker.compose.project": b.name, "com.docker.compose.service": filesService,
		"com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False",
	})
	for _, l := range sorted(all) {
		out = append(out, "--label", l+"="+all[l])
	}
	mount := func(fields ...string) {
		var text strings.Builder
		w := csv.NewWriter(&text) // which is what the option is
		_ = w.Write(fields)       // to memory
		w.Flush()
		out = append(out, "--mount", strings.TrimSuffix(text.String(), "\n"))
	}
	at := path.Join(b.root, b.name)
	workspace := []string{"type=bind", "source=" + at + "/workspace", "target=/w"}
	if b.ReadOnly {
		workspace = append(workspace, "readonly")
	}
	mount(workspace...)
	mount("type=bind", "source="+at+"/out", "target=/o")
	for _, d := range b.dirs {
		mount("type=bind", "source="+d, "target="+d, "readonly")
	}
	for _, v := range b.Volumes {
		mount("type=volume", "source="+b.Names[v], "target=/v/"+v, "volume-nocopy=true")
	}
	return out
}

//go:embed scripts/files.sh
var filesScript string

// files is the ID of the container for files. A look is spared where anew is false and it was seen before.
func (b *box) files(ctx context.Context, t sandboxer.Target, anew bool) (string, error) {
	key := b.token + "/" + filesService
	b.e.mu.Lock()
	id := b.e.ids[key]
	b.e.mu.Unlock()
	if id != "" && !anew {
		return id, nil
	}
	owner := t.Labels[sandboxer.LabelOwner]
	out, err := b.conn.Small(ctx, b.script(removeLib+filesScript, append([]string{b.name, owner}, b.filesOptions(t.Labels)...)...))
	if err != nil {
		return "", fmt.Errorf("opening the files of sandbox %s: %w", b.name, err)
	}
	switch out.ExitCode {
	case 0:
	case 76:
		b.e.remember(b.token, nil)
		return "", b.gone(b.name)
	default:
		return "", b.failed("opening the files of sandbox "+b.name, out.Stderr)
	}
	id = strings.TrimSpace(string(out.Stdout))
	if !containerID.MatchString(id) {
		return "", sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("opening the files of sandbox %s: host %s said %q", b.name, b.conn, id))
	}
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	b.e.ids[key] = id
	return id, nil
}

// volumes are the keys of the named volumes that services use.
func volumes(services tree) map[string]bool {
	out := map[string]bool{}
	for _, service := range services {
		s, _ := service.(map[string]any)
		vs, _ := s["volumes"].([]any)
		for _, v := range vs {
			if m, _ := v.(map[string]any); m["type"] == "volume" {
				source, _ := m["source"].(string)
				out[source] = true
			}
		}
	}
	return out
}
