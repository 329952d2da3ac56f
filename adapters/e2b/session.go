package e2b

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// session is how to talk to a running sandbox. It lives in memory only, because it holds the sandbox's access token.
type session struct {
	id       string
	token    string
	version  string // of envd
	domain   string
	user     string
	workdir  string // as the inputs say
	deadline time.Time

	mu   sync.Mutex
	root string // the workspace, absolute; "" until asked
}

func (e *extension) keep(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sessions[s.id] = s
}

func (e *extension) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, id)
}

// session returns the session of a sandbox, which after a restart takes a request or two. FailedPrecondition while it is
// paused: asking for its token would resume it, and spend money.
func (e *extension) session(ctx context.Context, t sandboxer.Target, s state) (*session, error) {
	e.mu.Lock()
	have := e.sessions[s.Sandbox]
	e.mu.Unlock()
	if have != nil {
		return have, nil
	}
	in, err := decodeInputs(t.Inputs)
	if err != nil {
		return nil, err
	}
	d, err := e.describe(ctx, t.Secret, s)
	if err != nil {
		return nil, err
	}
	if d.paused() {
		return nil, paused(s)
	}
	ses := &session{id: s.Sandbox, token: d.EnvdAccessToken, version: d.EnvdVersion, domain: d.Domain, user: in.User, workdir: in.Workdir, deadline: d.EndAt.UTC()}
	if ses.token == "" {
		// A connect never shortens the life of a running sandbox, and what it has left now changes nothing.
		got, rep, err := e.connect(ctx, t.Secret, s, max(1, int64(d.left/time.Second)-1))
		if err != nil {
			return nil, err
		}
		if rep.status == http.StatusCreated { // somebody paused it meanwhile, and this has resumed it
			return nil, e.pauseAgain(ctx, t, s)
		}
		ses.token, ses.version, ses.domain = got.EnvdAccessToken, got.EnvdVersion, got.Domain
	}
	e.keep(ses)
	return ses, nil
}

// pauseAgain undoes a resume that nobody asked for.
func (e *extension) pauseAgain(ctx context.Context, t sandboxer.Target, s state) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	if err := e.Pause(ctx, t); err != nil {
		return sandboxer.Mark(sandboxer.CodeOf(err), fmt.Errorf("%s was paused by somebody else, was resumed by looking at it, and is not paused again: %w", s.Sandbox, err))
	}
	return paused(s)
}

func paused(s state) error {
	return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("%s is paused; resume it first", s.Sandbox))
}

// connect asks for access to a sandbox, and resumes it if it is paused.
func (e *extension) connect(ctx context.Context, secret sandboxer.SecretFunc, s state, seconds int64) (created, *reply, error) {
	var got created
	body := map[string]int64{"timeout": seconds}
	post := func(v string) (*reply, error) {
		return e.api.do(ctx, secret, request{method: http.MethodPost, path: v + "/sandboxes/" + s.Sandbox + "/connect", body: body, repeatable: true, timeout: createTimeout})
	}
	var rep *reply
	var err error
	if !e.api.old.Load() {
		if rep, err = post("/v2"); noSuchMethod(err) {
			e.api.old.Store(true)
		}
	}
	if e.api.old.Load() {
		rep, err = post("")
	}
	if err != nil {
		return got, nil, err
	}
	e.saw(s, rep.key)
	return got, rep, rep.into(&got)
}

func (e *extension) deadline(ses *session, s state) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ses.deadline.IsZero() {
		return s.deadline()
	}
	return ses.deadline
}

const homeDir = "/home/user" // of E2B's own templates, August 2026

// workspace returns the directory that relative paths mean, and makes it where the inputs name one. Asked once a session;
// it is also how readiness is found out.
func (e *extension) workspace(ctx context.Context, t sandboxer.Target, ses *session) (string, error) {
	ses.mu.Lock()
	root := ses.root
	ses.mu.Unlock()
	if root != "" {
		return root, nil
	}
	method, dir := "Stat", "."
	if ses.workdir != "" {
		method, dir = "MakeDir", ses.workdir
	}
	var got struct {
		Entry struct {
			Path string `json:"path"`
		} `json:"entry"`
	}
	err := e.unary(ctx, t, ses, "/filesystem.Filesystem/"+method, map[string]string{"path": dir}, &got)
	root = got.Entry.Path
	switch code := rpcCode(err); {
	case ses.workdir != "" && (err == nil || code == "already_exists"):
		root = ses.workdir
	case err != nil && ses.workdir == "" && (code == "not_found" || code == "invalid_argument" || code == "unimplemented"):
		root = homeDir // it answers, and does not say
	case err != nil:
		return "", err
	}
	if !path.IsAbs(root) || strings.ContainsRune(root, 0) {
		return "", sandboxer.Mark(sandboxer.Internal, fmt.Errorf("%s says that its home directory is %q", ses.id, plain(root)))
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.root = path.Clean(root)
	return ses.root, nil
}

// place makes a path of the contract absolute: relative ones begin at the workspace.
func place(root, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(root, p)
}
