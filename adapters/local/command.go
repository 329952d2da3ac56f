//go:build linux || darwin

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer"
)

// checkExec refuses what cannot be run anywhere.
func checkExec(req sandboxer.ExecRequest) error {
	bad := func(format string, args ...any) error {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(format, args...))
	}
	if len(req.Command) == 0 || req.Command[0] == "" {
		return bad("the command is empty")
	}
	for i, a := range req.Command {
		if strings.ContainsRune(a, 0) {
			return bad("argument %d of the command contains NUL", i)
		}
	}
	for k, v := range req.Env {
		if err := checkVariable(k, v); err != nil {
			return bad("environment: %w", err)
		}
	}
	if req.Service != "" {
		return bad("service %q: a sandbox of this extension is one machine and has no services; leave it empty", req.Service)
	}
	if req.Timeout < 0 {
		return bad("the timeout %v is negative", req.Timeout)
	}
	return nil
}

// environment is what a command sees, built anew.
func (e *extension) environment(x *box, req sandboxer.ExecRequest, dir, execID string) map[string]string {
	env := map[string]string{
		"PATH": e.cfg.Path, "HOME": x.dir(homeDir), "TMPDIR": x.dir(tmpDir), "LANG": "C.UTF-8", "PWD": dir,
	}
	for _, k := range e.cfg.KeepEnv {
		if v, ok := os.LookupEnv(k); ok {
			env[k] = v
		}
	}
	if req.TTY != nil {
		env["TERM"] = req.TTY.Term
		if req.TTY.Term == "" {
			env["TERM"] = "xterm-256color"
		}
	}
	maps.Copy(env, x.claim.Env)
	maps.Copy(env, req.Env)
	env[envSandbox], env[envExec] = x.claim.Token, execID
	return env
}

// command prepares a command: where it runs, what it sees, which program it is.
func (e *extension) command(x *box, req sandboxer.ExecRequest, execID string) (*exec.Cmd, error) {
	rel, err := x.inside(req.Dir)
	if err != nil {
		return nil, err
	}
	dir := x.dir(rel)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = syscall.ENOTDIR
		}
		return nil, refuse(fmt.Errorf("the directory %q of the command: %w", req.Dir, err))
	}
	env := e.environment(x, req, dir, execID)
	program, err := lookPath(req.Command[0], env["PATH"], dir)
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return &exec.Cmd{Path: program, Args: req.Command, Dir: dir, Env: list, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, nil
}

// refuse classifies an error by which it is certain that nothing ran.
func refuse(err error) error {
	err = classify(err)
	return sandboxer.Refused(sandboxer.CodeOf(err), err)
}

// lookPath finds a program as a shell does, in the sandbox's PATH and from the sandbox's directory.
func lookPath(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		at := name
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, name)
		}
		if err := runnable(at); err != nil {
			return "", refuse(fmt.Errorf("command %q: %w", name, err))
		}
		return at, nil
	}
	var denied error
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d) // an empty element means the directory of the command, as everywhere
		}
		at := filepath.Join(d, name)
		err := runnable(at)
		if err == nil {
			return at, nil
		}
		if sandboxer.CodeOf(err) == sandboxer.PermissionDenied && !errors.Is(err, syscall.EISDIR) && denied == nil {
			denied = fmt.Errorf("command %q: %w", name, err)
		}
	}
	if denied != nil {
		return "", refuse(denied)
	}
	return "", sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("command %q is not in PATH %q", name, path))
}

func runnable(at string) error {
	info, err := os.Stat(at)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return sandboxer.Mark(sandboxer.PermissionDenied, fmt.Errorf("%s cannot be executed: %w", at, syscall.EISDIR))
	}
	if err := unix.Access(at, unix.X_OK); err != nil || info.Mode()&0o111 == 0 {
		return sandboxer.Mark(sandboxer.PermissionDenied, fmt.Errorf("%s may not be executed: %w", at, fs.ErrPermission))
	}
	return nil
}

// startError says why a program that was found could not be started.
func startError(program string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		err = sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("%s is no program of this system; a script begins with \"#!\": %w", program, err))
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%s is there and its interpreter or loader is not: %w", program, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // while it was waited for, as below
	case errors.Is(err, syscall.ETXTBSY):
		err = sandboxer.Mark(sandboxer.Aborted, fmt.Errorf("%s is still open for writing; close it, or wait for who writes it: %w", program, err))
	case errors.Is(err, syscall.E2BIG):
		err = sandboxer.Mark(sandboxer.InvalidArgument, fmt.Errorf("arguments and environment are larger than the system takes: %w", err))
	}
	return refuse(err)
}
