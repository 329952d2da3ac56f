package composessh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// Without buildx Compose has the engine's old builder build, which leaves the container of a step that fails, and the images of
// stages: nobody could tell whose they are, and what they hold may be secret. So each stage is given the sandbox's labels, by
// which the removal finds them.

const maxDockerfile = 1 << 20

// One byte more shows that it is longer.
const (
	readDockerfile  = `exec head -c "$2" -- "$1" 2>/dev/null`
	writeDockerfile = `cat >"$ROOT/$1/dockerfile.$2"`
)

// labelBuilds has the stages of what is built from the workspace labelled, where the old builder may be what builds.
func (h *host) labelBuilds(ctx context.Context, req *sandboxer.ProvisionRequest, p *project) error {
	if !p.builds || h.buildx {
		return nil
	}
	workspace := path.Join(h.root, req.Name, "workspace")
	var failed error
	text, err := edited(p.json, func(doc tree) {
		services := sub(doc, "services")
		for i, name := range sorted(services) {
			build := sub(sub(services, name), "build")
			dir := plain(build["context"])
			if rel, ok := strings.CutPrefix(dir, workspace); build == nil || !ok || rel != "" && rel[0] != '/' {
				continue // of a file that is trusted
			}
			text := plain(build["dockerfile_inline"])
			if text == "" {
				file := plain(build["dockerfile"])
				if file == "" {
					file = "Dockerfile"
				}
				out, err := h.run(ctx, "reading the Dockerfile of service "+name, readDockerfile, path.Join(dir, file), strconv.Itoa(maxDockerfile+1))
				if err != nil || out == "" {
					continue // Compose says what is wrong with it
				}
				text = out
			}
			if text, failed = labelled(text, h.e.labels(req)); failed != nil {
				failed = sandboxer.Mark(sandboxer.CodeOf(failed), fmt.Errorf("the Dockerfile of service %s: %w", name, failed))
				return
			}
			put := h.script(writeDockerfile, req.Name, strconv.Itoa(i))
			put.Stdin = strings.NewReader(text)
			res, err := h.conn.Exec(ctx, put)
			if failed = errors.Join(err, res.Err()); failed != nil {
				failed = fmt.Errorf("storing the Dockerfile of service %s: %w", name, failed)
				return
			}
			delete(build, "dockerfile_inline")
			build["dockerfile"] = path.Join(h.root, req.Name, "dockerfile."+strconv.Itoa(i))
		}
	})
	if err = errors.Join(err, failed); err == nil {
		p.json = text
	}
	return err
}

// plain is a text of the canonical project as Compose reads it.
func plain(v any) string {
	s, _ := v.(string)
	return strings.ReplaceAll(s, "$$", "$")
}

var (
	escapeLine = regexp.MustCompile("(?i)^#\\s*escape\\s*=\\s*([\\\\`])\\s*$")
	parserLine = regexp.MustCompile(`(?i)^#\s*[a-z]+\s*=`)
	hereWords  = regexp.MustCompile(`<<-?\s*["']?([A-Za-z_][A-Za-z0-9_]*)`)
)

// labelled is a Dockerfile in which every stage begins with labels.
func labelled(text string, labels map[string]string) (string, error) {
	if len(text) > maxDockerfile {
		return "", sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("it is longer than %d bytes", maxDockerfile))
	}
	escape := `\`
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		if m := escapeLine.FindStringSubmatch(line); m != nil {
			escape = m[1]
		} else if !parserLine.MatchString(line) {
			break
		}
	}
	label := "LABEL"
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if strings.ContainsFunc(k+labels[k], func(r rune) bool { return r < ' ' }) {
			continue
		}
		label += " " + quoted(k, escape) + "=" + quoted(labels[k], escape)
	}
	var out strings.Builder
	var here []string // words that end the text of an instruction
	whole := ""       // an instruction so far
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			line += "\n"
		}
		out.WriteString(line)
		trimmed := strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		if len(here) > 0 {
			if strings.EqualFold(firstWord(trimmed), "FROM") { // the old builder takes it for a stage
				return "", sandboxer.Mark(sandboxer.FailedPrecondition, errors.New("it has FROM in a here-document, which needs buildx, and the host has none; install the package docker-buildx-plugin or docker-buildx"))
			}
			if trimmed == here[0] {
				here = here[1:]
			}
			continue
		}
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		part, goes := strings.CutSuffix(strings.TrimRight(line, " \t\r\n"), escape)
		if whole += part; goes {
			continue
		}
		switch first := strings.ToUpper(firstWord(strings.TrimPrefix(whole, "\ufeff"))); first {
		case "FROM":
			out.WriteString(label + "\n")
		case "RUN", "COPY", "ADD":
			for _, m := range hereWords.FindAllStringSubmatch(whole, -1) {
				if strings.Contains(text, "\n"+m[1]) {
					here = append(here, m[1])
				}
			}
		}
		whole = ""
	}
	return out.String(), nil
}

func firstWord(s string) string {
	if f := strings.Fields(s); len(f) > 0 {
		return f[0]
	}
	return ""
}

func quoted(s, escape string) string {
	return `"` + strings.NewReplacer(escape, escape+escape, `"`, escape+`"`, "$", escape+"$").Replace(s) + `"`
}
