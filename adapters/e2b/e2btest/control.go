package e2btest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

var wellFormed = regexp.MustCompile(`^e2b_[0-9a-f]{8,}$`)

// team returns the team of a request's key, or answers 401.
func (s *Server) team(w http.ResponseWriter, r *http.Request) (string, bool) {
	key := r.Header.Get("X-API-Key")
	switch {
	case key == "":
		apiError(w, http.StatusUnauthorized, "authorization header is missing")
		return "", false
	case !wellFormed.MatchString(key):
		apiError(w, http.StatusUnauthorized, "Invalid API key format, expected e2b_ and hexadecimal digits, got "+key)
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	team, known := s.keys[key]
	if !known && len(s.opts.Keys) == 0 {
		team, known = "team", true
	}
	if !known || team == "" {
		apiError(w, http.StatusUnauthorized, "Cannot get the team for the given API key "+key)
		return "", false
	}
	return team, true
}

func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	team, ok := s.team(w, r)
	if !ok {
		return
	}
	path, v2 := strings.CutPrefix(r.URL.EscapedPath(), "/v2")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if v2 && s.opts.Old {
		apiError(w, http.StatusNotFound, "method not allowed")
		return
	}
	switch route := r.Method + " " + shape(parts); route {
	case "POST sandboxes":
		s.create(w, r, team, v2)
	case "GET sandboxes":
		s.list(w, r, team, v2)
	case "GET snapshots":
		s.listSnapshots(w, r, team)
	case "DELETE templates/*":
		s.deleteSnapshot(w, team, parts[1])
	case "GET sandboxes/*", "DELETE sandboxes/*", "POST sandboxes/*/timeout", "POST sandboxes/*/refreshes", "POST sandboxes/*/pause",
		"POST sandboxes/*/connect", "POST sandboxes/*/snapshots", "GET sandboxes/*/metrics":
		s.mu.Lock()
		b := s.boxes[parts[1]]
		s.mu.Unlock()
		if b == nil || b.team != team {
			apiError(w, http.StatusNotFound, fmt.Sprintf("sandbox %q doesn't exist or you don't have access to it", parts[1]))
			return
		}
		s.one(w, r, b, route)
	default:
		apiError(w, http.StatusNotFound, "method not allowed")
	}
}

// shape replaces the second part of a path, an ID, by a star.
func shape(parts []string) string {
	out := slices.Clone(parts)
	if len(out) > 1 {
		out[1] = "*"
	}
	return strings.Join(out, "/")
}

type newSandbox struct {
	TemplateID string            `json:"templateID"`
	Timeout    *int64            `json:"timeout"`
	Metadata   map[string]string `json:"metadata"`
	EnvVars    map[string]string `json:"envVars"`
	AutoPause  bool              `json:"autoPause"`
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, team string, v2 bool) {
	var in newSandbox
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		apiError(w, http.StatusBadRequest, "Error when parsing request: "+err.Error())
		return
	}
	life := 300 * time.Second
	if !v2 {
		life = 15 * time.Second
	}
	if in.Timeout != nil {
		life = time.Duration(*in.Timeout) * time.Second
	}
	if life > s.opts.MaxLifetime {
		apiError(w, http.StatusBadRequest, fmt.Sprintf("Timeout cannot be greater than %d hours", int(s.opts.MaxLifetime/time.Hour)))
		return
	}
	if s.opts.Placement > 0 {
		<-time.After(s.opts.Placement) // a placement goes on, whether anybody waits for it or not
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	for _, b := range s.boxes {
		if b.team == team && !b.paused {
			running++
		}
	}
	sn := s.snapshots[in.TemplateID]
	switch {
	case s.closed:
		apiError(w, http.StatusServiceUnavailable, "closed")
		return
	case !slices.Contains([]string{"base", "code-interpreter-v1", "desktop"}, in.TemplateID) && (sn == nil || sn.team != team):
		apiError(w, http.StatusNotFound, fmt.Sprintf("template '%s' not found", in.TemplateID))
		return
	case s.opts.MaxConcurrent > 0 && running >= s.opts.MaxConcurrent:
		apiError(w, http.StatusTooManyRequests, fmt.Sprintf("you have reached the maximum number of concurrent E2B sandboxes (%d). If you need more, please contact us", s.opts.MaxConcurrent))
		return
	}
	b, err := s.newBox(team, in.TemplateID, in.Metadata, in.EnvVars, life, in.AutoPause)
	if err != nil {
		apiError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusCreated, s.access(b))
}

// access is the answer to a create and a connect. The caller holds s.mu.
func (s *Server) access(b *box) map[string]any {
	return map[string]any{
		"sandboxID": b.id, "templateID": b.template, "clientID": "client", "envdVersion": s.opts.EnvdVersion, "envdAccessToken": b.token,
		"domain": nil,
	}
}

// describe is a sandbox in listings and look-ups. The caller holds s.mu.
func (s *Server) describe(b *box) map[string]any {
	state := "running"
	if b.paused {
		state = "paused"
	}
	return map[string]any{
		"sandboxID": b.id, "templateID": b.template, "clientID": "client", "metadata": b.metadata, "state": state,
		"startedAt": b.started.Add(s.opts.Ahead).UTC(), "endAt": b.ends.Add(s.opts.Ahead).UTC(), "cpuCount": 2, "memoryMB": 512, "diskSizeMB": 1024, "envdVersion": s.opts.EnvdVersion,
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, team string, v2 bool) {
	q := r.URL.Query()
	filter, err := parseFilter(q.Get("metadata"))
	if err != nil {
		apiError(w, http.StatusBadRequest, "Error parsing metadata")
		return
	}
	states := []string{"running"}
	if v2 {
		states = append(states, "paused")
		if v := q.Get("state"); v != "" {
			states = strings.Split(v, ",")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	total := 0
	for _, b := range s.all() {
		d := s.describe(b)
		if b.team != team {
			continue
		}
		if !b.paused {
			total++
		}
		if slices.Contains(states, d["state"].(string)) && contains(b.metadata, filter) {
			all = append(all, d)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i]["sandboxID"].(string) < all[j]["sandboxID"].(string) })
	w.Header().Set("X-Total-Running", strconv.Itoa(total))
	if v2 {
		all = paged(w, q, all)
	}
	writeJSON(w, http.StatusOK, orEmpty(all))
}

// parseFilter reads a metadata filter, which is encoded twice beyond the query itself.
func parseFilter(text string) (map[string]string, error) {
	out := map[string]string{}
	pairs, err := url.ParseQuery(text)
	if err != nil {
		return nil, err
	}
	for k, vs := range pairs {
		key, err := url.PathUnescape(k)
		if err != nil {
			return nil, err
		}
		value, err := url.PathUnescape(vs[0])
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, nil
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func orEmpty(all []map[string]any) []map[string]any {
	if all == nil {
		return []map[string]any{}
	}
	return all
}

// paged cuts a listing. The token is an offset.
func paged(w http.ResponseWriter, q url.Values, all []map[string]any) []map[string]any {
	from, _ := strconv.Atoi(q.Get("nextToken")) // none: 0
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 100
	}
	all = all[min(from, len(all)):]
	if len(all) > limit {
		w.Header().Set("X-Next-Token", strconv.Itoa(from+limit))
		all = all[:limit]
	}
	return all
}

func (s *Server) one(w http.ResponseWriter, r *http.Request, b *box, route string) {
	var in struct {
		Timeout  *int64 `json:"timeout"`
		Duration int64  `json:"duration"`
		Name     string `json:"name"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in) // most have no body
	switch route {
	case "DELETE sandboxes/*":
		if !s.end(b) {
			apiError(w, http.StatusNotFound, "sandbox not found")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case "POST sandboxes/*/snapshots":
		s.snapshot(w, b, in.Name)
	case "POST sandboxes/*/connect":
		s.connect(w, b, in.Timeout)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.change(w, b, route, in.Timeout, in.Duration)
	}
}

// change answers what needs no more than the lock, which the caller holds.
func (s *Server) change(w http.ResponseWriter, b *box, route string, timeout *int64, duration int64) {
	switch route {
	case "GET sandboxes/*":
		d := s.describe(b)
		if !s.opts.HideTokens {
			d["envdAccessToken"] = b.token
		}
		writeJSON(w, http.StatusOK, d)
	case "GET sandboxes/*/metrics":
		writeJSON(w, http.StatusOK, []any{})
	case "POST sandboxes/*/pause":
		if b.paused {
			apiError(w, http.StatusConflict, "Error pausing sandbox - sandbox '"+b.id+"' is already paused")
			return
		}
		s.pause(b)
		w.WriteHeader(http.StatusNoContent)
	case "POST sandboxes/*/timeout", "POST sandboxes/*/refreshes":
		if b.paused {
			apiError(w, http.StatusNotFound, "sandbox is not running")
			return
		}
		at := time.Now().Add(time.Duration(duration) * time.Second)
		if strings.HasSuffix(route, "timeout") && timeout != nil {
			at = time.Now().Add(time.Duration(*timeout) * time.Second)
		}
		if most := b.started.Add(s.opts.MaxLifetime); at.After(most) {
			at = most // silently
		}
		s.until(b, at)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) connect(w http.ResponseWriter, b *box, timeout *int64) {
	life := 300 * time.Second
	if timeout != nil {
		life = time.Duration(*timeout) * time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if life > s.opts.MaxLifetime {
		apiError(w, http.StatusBadRequest, fmt.Sprintf("Timeout cannot be greater than %d hours", int(s.opts.MaxLifetime/time.Hour)))
		return
	}
	status := http.StatusOK
	if b.paused {
		status = http.StatusCreated
		s.begin(b, life)
	} else if at := time.Now().Add(life); at.After(b.ends) {
		s.until(b, at)
	}
	writeJSON(w, status, s.access(b))
}

func (s *Server) snapshot(w http.ResponseWriter, b *box, name string) {
	sn, err := s.take(b, name)
	if err != nil {
		apiError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{"snapshotID": sn.id, "names": sn.names})
}

func (s *Server) listSnapshots(w http.ResponseWriter, r *http.Request, team string) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	for _, sn := range s.snapshots {
		name := q.Get("name")
		if sn.team != team || (q.Get("sandboxID") != "" && sn.source != q.Get("sandboxID")) ||
			(name != "" && sn.names[0] != name && sn.names[0] != sn.team+"/"+name+":default") {
			continue
		}
		all = append(all, map[string]any{"snapshotID": sn.id, "names": sn.names})
	}
	sort.Slice(all, func(i, j int) bool { return all[i]["snapshotID"].(string) < all[j]["snapshotID"].(string) })
	writeJSON(w, http.StatusOK, orEmpty(paged(w, q, all)))
}

func (s *Server) deleteSnapshot(w http.ResponseWriter, team, escaped string) {
	id, err := url.PathUnescape(escaped)
	if err != nil {
		apiError(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sn := s.snapshots[id]
	if sn == nil || sn.team != team {
		apiError(w, http.StatusNotFound, fmt.Sprintf("template %q not found", id))
		return
	}
	for _, b := range s.boxes {
		if b.template == id {
			apiError(w, http.StatusBadRequest, fmt.Sprintf("cannot delete template '%s' because there are paused or running sandboxes using it", id))
			return
		}
	}
	delete(s.snapshots, id)
	_ = os.RemoveAll(sn.root) // Close removes what is left
	w.WriteHeader(http.StatusNoContent)
}
