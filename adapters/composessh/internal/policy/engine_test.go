package policy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// stage is a directory of a real host, with a project that nobody else has.
type stage struct {
	t       *testing.T
	e       *hosttest.Engine
	dir     string // everything
	ws      string // the workspace, below dir
	canary  string // a file beside the workspace, which no stack may read
	token   string // what is in it
	project string
	env     []string // of Compose, beside PATH, HOME and DOCKER_HOST
}

// newStage makes one on host n; what is left of it at the end is removed, and makes the test fail where it passed so far.
func newStage(t *testing.T, n int) *stage {
	t.Helper()
	s := &stage{t: t, e: hosttest.Open(t, n), dir: t.TempDir(), token: "canary-" + strings.ToLower(rand.Text()[:12])}
	s.project = "policy-" + strings.ToLower(rand.Text()[:12])
	s.ws, s.canary = filepath.Join(s.dir, "ws"), filepath.Join(s.dir, "canary")
	if err := os.Mkdir(s.ws, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("canary", s.token+"\n")
	t.Cleanup(func() {
		if left := s.e.Resources(s.project); len(left) > 0 {
			s.e.Remove(s.project)
			if left = s.e.Resources(s.project); len(left) > 0 {
				t.Errorf("left on the engine: %q", left)
			}
		}
	})
	return s
}

// write makes a file below the stage's directory and returns its path.
func (s *stage) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// compose runs Compose as the adapter does, with the file on its standard input, and returns what it printed there and on
// its standard error.
func (s *stage) compose(file []byte, args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := s.e.Compose(ctx, append([]string{"--env-file", os.DevNull, "-p", s.project, "--project-directory", s.ws, "-f", "-"}, args...)...)
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Dir = s.dir
	cmd.Stdin = strings.NewReader(string(file))
	var out, diag strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &diag
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		s.t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, diag.String())
	}
	if err != nil {
		err = fmt.Errorf("compose %s: %w: %s", strings.Join(args, " "), err, diag.String())
	}
	return out.String(), diag.String(), err
}

// run is what a command in the service web prints, of a stack that is gone afterwards.
func (s *stage) run(file []byte, argv ...string) (string, error) {
	s.t.Helper()
	out, _, err := s.compose(file, append([]string{"run", "--rm", "-T", "web"}, argv...)...)
	return out, err
}

// start runs the service web in the background and returns the process id of its first process, on the host.
func (s *stage) start(file []byte) string {
	s.t.Helper()
	id, _, err := s.compose(file, "run", "-d", "-T", "web", "sleep", "300")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.e.Docker("inspect", "-f", "{{.State.Pid}}", strings.TrimSpace(id))
}
