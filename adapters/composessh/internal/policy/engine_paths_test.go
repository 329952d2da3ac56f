//go:build unix

package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// TestLinksOut: a link in the workspace takes the engine and Compose out of it, which the policy cannot see; the check of
// Stack.Paths does. Without the link, the same stack passes the check.
func TestLinksOut(t *testing.T) {
	t.Parallel()
	hosttest.Open(t, 1) // skips all at once
	const build = "services: {web: {build: {context: ./app, dockerfile: ci/Dockerfile}}}"
	outside := func(s *stage) string { // a directory to build, with the canary
		s.write("outside/canary", s.token+"\n")
		s.write("outside/ci/Dockerfile", "FROM "+hosttest.Image+"\nCOPY canary /out\nLABEL by="+s.project+"\n")
		return filepath.Join(s.dir, "outside")
	}
	for name, test := range map[string]struct {
		file  string
		path  string                           // of the link
		place func(s *stage) string            // makes what surrounds the link, and returns what it leads to
		shows func(s *stage, json []byte) bool // whether the host was reached
	}{
		"bind": {"services: {web: {image: '" + hosttest.Image + "', volumes: ['./data:/data']}}", "data",
			func(s *stage) string { return s.dir },
			func(s *stage, json []byte) bool {
				out, err := s.run(json, "cat", "/data/canary")
				return err == nil && strings.Contains(out, s.token)
			}},
		"bind of a file": {"services: {web: {image: '" + hosttest.Image + "', volumes: ['./a/b:/data:ro']}}", "a/b",
			func(s *stage) string { return s.canary },
			func(s *stage, json []byte) bool {
				out, err := s.run(json, "cat", "/data")
				return err == nil && strings.Contains(out, s.token)
			}},
		"context": {build, "app", outside, builds("cat", "/out")},
		"dockerfile": {build, "app/ci/Dockerfile",
			func(s *stage) string {
				return s.write("Dockerfile", "FROM "+hosttest.Image+"\nENV TOKEN="+s.token+"\n")
			}, builds("env")},
		"directory of the dockerfile": {build, "app/ci",
			func(s *stage) string {
				return filepath.Dir(s.write("other/Dockerfile", "FROM "+hosttest.Image+"\nENV TOKEN="+s.token+"\n"))
			}, builds("env")},
		"dockerignore": {build, "app/.dockerignore",
			func(s *stage) string {
				s.write("ws/app/ci/Dockerfile", "FROM "+hosttest.Image+"\nCOPY . /all/\n")
				s.write("ws/app/ignored", "")
				return s.write("ignore", "ignored\n")
			},
			func(s *stage, json []byte) bool {
				if _, _, err := s.compose(json, "build"); err != nil {
					s.t.Error(err)
				}
				out, err := s.run(json, "ls", "/all")
				return err == nil && !strings.Contains(out, "ignored")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 1)
			target := test.place(s)
			o := options("")
			o.Policy = policy.BuildAllowed
			stack := s.load(test.file, o)
			if left, code := check(t, []string{"sh"}, s.ws, stack.Paths...); code != 0 || left != nil {
				t.Errorf("without the link: %d, %q", code, left)
			}
			link := filepath.Join(s.ws, test.path)
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			left, code := check(t, []string{"sh"}, s.ws, stack.Paths...)
			if code != 1 || !slices.Contains(left, test.path) && !slices.Contains(left, test.path+"/Dockerfile") {
				t.Errorf("the check ended with %d, and found %q", code, left)
			}
			if !test.shows(s, stack.JSON) {
				t.Error("the link leads nowhere: the test shows nothing")
			}
		})
	}
}

// builds shows that what the link leads to is in the image that was built.
func builds(argv ...string) func(*stage, []byte) bool {
	return func(s *stage, json []byte) bool {
		s.t.Helper()
		if _, _, err := s.compose(json, "build"); err != nil {
			s.t.Error(err)
		}
		out, err := s.run(json, argv...)
		return err == nil && strings.Contains(out, s.token)
	}
}
