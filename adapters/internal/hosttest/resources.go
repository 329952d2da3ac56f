package hosttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Resources lists what the engine has whose name or labels contain part, as "container NAME", "network NAME", "volume NAME"
// and "image NAME". Containers that do not run are in it; volumes without a name are found by the labels they may have.
func (e *Engine) Resources(part string) []string {
	e.tb.Helper()
	var found []string
	take := func(kind string, labels map[string]string, names ...string) {
		for _, name := range names {
			hit := strings.Contains(name, part)
			for k, v := range labels {
				hit = hit || strings.Contains(k, part) || strings.Contains(v, part)
			}
			if hit && name != Image {
				found = append(found, kind+" "+name)
			}
		}
	}
	var containers []struct {
		Names  []string
		Labels map[string]string
	}
	e.get("/containers/json?all=1", &containers)
	for _, c := range containers {
		for i, name := range c.Names {
			c.Names[i] = strings.TrimPrefix(name, "/")
		}
		take("container", c.Labels, c.Names...)
	}
	var networks []struct {
		Name   string
		Labels map[string]string
	}
	e.get("/networks", &networks)
	for _, n := range networks {
		take("network", n.Labels, n.Name)
	}
	var volumes struct {
		Volumes []struct {
			Name   string
			Labels map[string]string
		}
	}
	e.get("/volumes", &volumes)
	for _, v := range volumes.Volumes {
		take("volume", v.Labels, v.Name)
	}
	var images []struct {
		ID       string `json:"Id"`
		RepoTags []string
		Labels   map[string]string
	}
	e.get("/images/json?all=1", &images)
	for _, i := range images {
		if len(i.RepoTags) == 0 {
			i.RepoTags = []string{i.ID}
		}
		take("image", i.Labels, i.RepoTags...)
	}
	slices.Sort(found)
	return found
}

// Remove removes what Resources lists: for the end of a test that failed, so that the next finds a clean engine. The empty
// part would be everybody's, and is refused.
func (e *Engine) Remove(part string) {
	e.tb.Helper()
	if part == "" {
		e.tb.Fatal("Remove without a name would remove the resources of other tests")
	}
	verbs := map[string][]string{"container": {"rm", "-f", "-v"}, "network": {"network", "rm"}, "volume": {"volume", "rm", "-f"}, "image": {"rmi", "-f"}}
	for _, kind := range []string{"container", "network", "volume", "image"} { // what is used last is removed last
		for _, r := range e.Resources(part) {
			if name, ok := strings.CutPrefix(r, kind+" "); ok {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				if out, err := e.Command(ctx, append(verbs[kind], name)...).CombinedOutput(); err != nil {
					e.tb.Logf("removing %s: %v: %s", r, err, out)
				}
				cancel()
			}
		}
	}
}

// get asks the engine.
func (e *Engine) get(path string, into any) {
	e.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.Socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		e.tb.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %s", resp.Status)
		} else {
			err = json.NewDecoder(resp.Body).Decode(into)
		}
	}
	if err != nil {
		e.tb.Fatalf("asking the engine of host %d for %s: %v", e.n, path, err)
	}
}
