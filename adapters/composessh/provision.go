package composessh

import (
	"bytes"
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// Preflight reads the inputs, connects to the host, and judges the Compose file where it is at hand, which is where repo is a
// directory.
func (e *extension) Preflight(ctx context.Context, req *sandboxer.ProvisionRequest) error {
	in, err := decodeInputs(req.Inputs, req.ID)
	if err != nil {
		return err
	}
	src, err := source(in)
	if err != nil {
		return err
	}
	h, err := e.host(ctx, req.Host, req.Secret)
	if err != nil {
		return err
	}
	if src.IsGit() && !h.git {
		return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("host %s has no git; install it, or give repo as a directory", h.conn))
	}
	if src.IsGit() {
		return nil // the file is not at hand
	}
	file, text, err := localCompose(src, in.ComposeFile)
	if err != nil {
		return err
	}
	_, err = e.load(ctx, h, req, in, file, text, "")
	return err
}

// Provision brings up the stack req.Name: it claims the name, fills the workspace, judges the Compose file, and has Compose
// start it. Compose waits for the services that others depend on.
func (e *extension) Provision(ctx context.Context, req *sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	in, err := decodeInputs(req.Inputs, req.ID)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	src, err := source(in)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	h, err := e.host(ctx, req.Host, req.Secret)
	if err != nil {
		return sandboxer.Handle{}, sure(err)
	}
	if !src.IsGit() { // what is wrong with the file is told before anything exists
		file, text, err := localCompose(src, in.ComposeFile)
		if err != nil {
			return sandboxer.Handle{}, err
		}
		if _, err := e.load(ctx, h, req, in, file, text, ""); err != nil {
			return sandboxer.Handle{}, sure(err)
		}
	}
	return e.create(ctx, h, req, func(ctx context.Context, token string) (*stack, error) {
		if err := e.fill(ctx, h, req, in, src); err != nil {
			return nil, err
		}
		file, text, err := h.compose(ctx, req.Name, in.ComposeFile)
		if err != nil {
			return nil, err
		}
		p, err := e.load(ctx, h, req, in, file, text, token)
		if err != nil {
			return nil, err
		}
		if err := h.check(ctx, req.Name, p.paths); err != nil {
			return nil, err
		}
		if err := h.labelBuilds(ctx, req, p); err != nil {
			return nil, err
		}
		return h.up(ctx, req.Name, p, "")
	})
}

// sure marks an error from before anything was asked of a host as a refusal.
func sure(err error) error {
	if sandboxer.IsRefused(err) {
		return err
	}
	return sandboxer.Refused(sandboxer.CodeOf(err), err)
}

// create claims the name and builds what is not there yet. Whoever calls it again gets the same handle.
func (e *extension) create(ctx context.Context, h *host, req *sandboxer.ProvisionRequest, build func(ctx context.Context, token string) (*stack, error)) (sandboxer.Handle, error) {
	if err := checkName(req.Name); err != nil {
		return sandboxer.Handle{}, err
	}
	f, _, err := h.claim(ctx, req)
	switch {
	case err != nil:
		return sandboxer.Handle{}, err
	case !f.claim.ours(req.Labels):
		return sandboxer.Handle{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the name %s on host %s belongs to another owner", req.Name, h.conn))
	case f.removing:
		return sandboxer.Handle{}, sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("sandbox %s on host %s is being removed", req.Name, h.conn))
	}
	handle, err := req.Handle(stateVersion, state{Root: h.root, Token: f.claim.Token})
	if err != nil || f.stack != nil {
		return handle, err
	}
	s, err := build(ctx, f.claim.Token)
	if err != nil {
		return handle, fmt.Errorf("sandbox %s on host %s: %w", req.Name, h.conn, err)
	}
	e.remember(f.claim.Token, s)
	return handle, nil
}

// check refuses a stack that would have the engine open, through a link, what lies outside of the workspace. The workspace itself
// is a directory that nobody but us can replace, and where the login is not root it may be one that only containers enter.
func (h *host) check(ctx context.Context, name string, paths []string) error {
	paths = slices.DeleteFunc(slices.Clone(paths), func(at string) bool { return at == "." })
	if len(paths) == 0 || h.e.cfg.trusts() {
		return nil
	}
	out, errs := &lines{ctx: ctx, stage: "check"}, &lines{ctx: ctx, stage: "check"}
	res, err := h.conn.Exec(ctx, sandboxer.ExecRequest{
		Command: []string{"sh", "-c", policy.PathCheck(), "sandboxer", path.Join(h.root, name, "workspace")},
		Stdin:   strings.NewReader(strings.Join(paths, "\n") + "\n"), Stdout: out, Stderr: errs,
	})
	switch {
	case err != nil:
		return fmt.Errorf("resolving the paths of the Compose file: %w", err)
	case res.ExitCode == 1:
		return sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("the Compose file mounts or builds %q, which leads out of the repository through a symbolic link, or which the login cannot see", strings.Split(strings.TrimSpace(out.text()), "\n")))
	case res.ExitCode != 0:
		return h.failed("resolving the paths of the Compose file", []byte(errs.text()))
	}
	return nil
}

//go:embed scripts/source.sh
var sourceScript string

// compose reads the Compose file of a workspace.
func (h *host) compose(ctx context.Context, name, file string) (string, []byte, error) {
	out, err := h.run(ctx, "reading the Compose file", sourceScript, name, file)
	if err != nil {
		return "", nil, err
	}
	at, text, _ := strings.Cut(out, "\n")
	if at == "" {
		return "", nil, noCompose(file)
	}
	return at, []byte(text), nil
}

func noCompose(file string) error {
	if file == "" {
		file = strings.Join(composeNames, ", ")
	}
	return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the repository has no Compose file (%s); name it in the input compose_file", file))
}

// composeNames are the names that Compose looks for, in its order.
var composeNames = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

//go:embed scripts/up.sh
var upScript string

// up starts a stack, or only the services that are named, or has it built ("build").
func (h *host) up(ctx context.Context, name string, p *project, services string) (*stack, error) {
	facts, err := json.Marshal(p.stack)
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.Internal, err)
	}
	req := h.script(removeLib+upScript, name, h.probe.compose, services, string(facts))
	maps.Copy(req.Env, p.env)
	progress := &lines{ctx: ctx, stage: "up"}
	req.Stdin, req.Stdout, req.Stderr = bytes.NewReader(p.json), progress, progress
	res, err := h.conn.Exec(ctx, req)
	if err != nil {
		return nil, err
	}
	if res.ExitCode != 0 {
		return nil, h.notUp(name, res, redact(progress.text(), p.secrets))
	}
	return &p.stack, nil
}

func (h *host) notUp(name string, res sandboxer.ExecResult, text string) error {
	code := engineCode(text)
	low := strings.ToLower(text)
	switch {
	case res.ExitCode == 75 || res.ExitCode == 76:
		code = sandboxer.Aborted
	case res.ExitCode == 77 && strings.Contains(text, "which is not this sandbox's"):
		code = sandboxer.AlreadyExists
	case code != sandboxer.Unknown:
	case strings.Contains(low, "pull access denied"), strings.Contains(low, "manifest unknown"), strings.Contains(low, "not found: manifest"),
		strings.Contains(low, "no such image"), strings.Contains(low, "invalid reference format"), strings.Contains(low, "failed to resolve reference"):
		code = sandboxer.InvalidArgument
	case strings.Contains(low, "dependency failed to start"), strings.Contains(low, "is unhealthy"):
		code = sandboxer.FailedPrecondition
	}
	if code == sandboxer.Unknown {
		h.forget()
	}
	return sandboxer.Mark(code, fmt.Errorf("%s could not start %s (%w): %s", h.probe.compose, name, res.Err(), said([]byte(text))))
}
