package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// has says what is wrong where an output does not have the token.
func (s *stage) has(out string, err error) error {
	if err != nil {
		return err
	}
	if !strings.Contains(out, s.token) {
		return fmt.Errorf("it did not get at the canary, but at %q", out)
	}
	return nil
}

// prints shows that a command in the stack prints the token. The first of new takes the place of old in the file.
func prints(old, instead string, argv ...string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if old != "" {
			file = strings.ReplaceAll(file, old, s.fill(instead))
		}
		filled := make([]string, len(argv))
		for i, arg := range argv {
			filled[i] = s.fill(arg)
		}
		return s.has(s.run([]byte(file), filled...))
	}
}

// reads shows that a file in the stack is the canary.
func reads(old, path string, instead ...string) func(*stage, string) error {
	return prints(old, strings.Join(instead, ""), "cat", path)
}

func inHome(path string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if err := os.MkdirAll(filepath.Join(s.e.Home, ".ssh"), 0o700); err != nil {
			return err
		}
		if err := os.Link(s.canary, filepath.Join(s.e.Home, ".ssh", "canary")); err != nil {
			return err
		}
		return s.has(s.run([]byte(file), "cat", path))
	}
}

// configured shows that the token is in what Compose makes of the file.
func configured(old, instead string) func(*stage, string) error {
	return func(s *stage, file string) error {
		out, _, err := s.compose([]byte(strings.ReplaceAll(file, old, s.fill(instead))), "config")
		return s.has(out, err)
	}
}

func included(s *stage, file string) error {
	other := s.write("other.yaml", "services: {other: {image: x, environment: {CANARY: "+s.token+"}}}\n")
	return configured("/etc/compose.yaml", other)(s, file)
}

// printsOwn shows that the stack's own command prints a variable of Compose's environment.
func printsOwn(variable string) func(*stage, string) error {
	return func(s *stage, file string) error {
		s.env = append(s.env, variable+"="+s.token)
		return s.has(s.run([]byte(file)))
	}
}

func environment(variable, path string) func(*stage, string) error {
	return func(s *stage, file string) error {
		s.env = append(s.env, variable+"="+s.token)
		return s.has(s.run([]byte(file), "cat", path))
	}
}

// swapped shows that a service that can write the workspace has the engine follow a link out of it.
func swapped(s *stage, file string) error {
	if _, _, err := s.compose([]byte(file), "run", "--rm", "-T", "a"); err != nil {
		return err
	}
	out, _, err := s.compose([]byte(file), "run", "--rm", "-T", "--no-deps", "b", "cat", "/host"+s.canary)
	return s.has(out, err)
}

// another starts a container that is not of the stack, with a volume that has the canary.
func (s *stage) another() string {
	name := s.project + "-other"
	s.e.Docker("run", "-d", "--name", name, "--ipc", "shareable", "-v", s.canary+":/data/canary", hosttest.Image, "sleep", "300")
	return name
}

func ofAnother(old, prefix string, argv ...string) func(*stage, string) error {
	return func(s *stage, file string) error {
		return s.has(s.run([]byte(strings.ReplaceAll(file, old, prefix+s.another())), argv...))
	}
}

func anothersVolume(name string) func(*stage, string) error {
	return func(s *stage, file string) error {
		volume := s.project + "-others"
		s.e.Docker("run", "--rm", "-v", volume+":/d", hosttest.Image, "sh", "-c", "echo "+s.token+" >/d/canary")
		return s.has(s.run([]byte(strings.ReplaceAll(file, name, volume)), "cat", "/d/canary"))
	}
}

// provided shows that Compose runs a program of the host.
func provided(s *stage, file string) error {
	marker := filepath.Join(s.dir, "marker")
	program := s.write("program", "#!/bin/sh\nid -u >"+marker+"\n")
	if err := os.Chmod(program, 0o755); err != nil {
		return err
	}
	_, said, _ := s.compose([]byte(strings.ReplaceAll(file, "/bin/sh", program)), "up", "-d") // it fails: nothing is to start
	out, err := os.ReadFile(marker)
	if err != nil || string(out) != "0\n" {
		return fmt.Errorf("the program ran as %q: %w, %s", out, err, said)
	}
	return nil
}

// built shows that the host's builder runs what the workspace says.
func built(s *stage, file string) error {
	s.write("ws/Dockerfile", "FROM "+hosttest.Image+"\nRUN echo "+s.token+" >/built\n")
	file = strings.ReplaceAll(file, hosttest.Image, s.project+"-image")
	if _, _, err := s.compose([]byte(file), "build"); err != nil {
		return err
	}
	return s.has(s.run([]byte(file), "cat", "/built"))
}

func bit(n int) func(uint64) bool { return func(v uint64) bool { return v&(1<<n) != 0 } }

// holds shows what a container's first process is allowed, as the host's kernel sees it; the same without the refused field
// is not.
func holds(key string, all ...func(uint64) bool) func(*stage, string) error {
	return func(s *stage, file string) error {
		without := s.status("services: {web: {image: '"+hosttest.Image+"'}}", key)
		with := s.status(file, key)
		for _, f := range all {
			if !f(with) || f(without) {
				return fmt.Errorf("%s is %x, and %x without it", key, with, without)
			}
		}
		return nil
	}
}

// status reads a number of a process's status.
func (s *stage) status(file, key string) uint64 {
	s.t.Helper()
	text, err := os.ReadFile("/proc/" + s.start([]byte(file)) + "/status")
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+key+":")
	n, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// hooked shows that a hook is root where the service is not.
func hooked(s *stage, file string) error {
	file = strings.ReplaceAll(file, "command: id", "command: [sh, -c, 'id -u >/tmp/who']")
	file = strings.ReplaceAll(file, "privileged: true", "") // not every host can
	file = strings.ReplaceAll(file, "    post_start:", "    command: [sleep, '300']\n    user: '1000'\n    post_start:")
	if _, _, err := s.compose([]byte(file), "up", "-d"); err != nil {
		return err
	}
	out, _, err := s.compose([]byte(file), "exec", "-T", "web", "cat", "/tmp/who")
	if err == nil && out != "0\n" {
		err = fmt.Errorf("the hook ran as %q", out)
	}
	return err
}

// privileged shows that the engine makes such a container and, on a host that may do so itself, that it has the powers.
func privileged(s *stage, file string) error {
	if err := created("{{.HostConfig.Privileged}}", "true")(s, file); err != nil {
		return err
	}
	var own uint64
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\nCapBnd:")
	if _, err := fmt.Sscanf(rest, "%x", &own); err != nil || own != 1<<41-1 {
		return err // runc cannot give what it has not
	}
	return prints("", "", "sh", "-c", "test -c /dev/kmsg && echo {token}")(s, file)
}

// created shows what the engine notes of a container that is made and not started.
func created(format, want string) func(*stage, string) error {
	return func(s *stage, file string) error {
		if _, _, err := s.compose([]byte(file), "create"); err != nil {
			return err
		}
		if got := s.e.Docker("inspect", "-f", format, s.project+"-web-1"); got != want {
			return fmt.Errorf("the engine says %q", got)
		}
		return nil
	}
}

// joins shows that the stack is in a namespace of the engine, which is the host's.
func joins(kind string) func(*stage, string) error {
	return func(s *stage, file string) error {
		its := "/proc/" + s.start([]byte(file)) + "/ns/" + kind
		hosts := "/proc/self/ns/" + kind
		if kind == "net" {
			hosts = s.e.NetNS
		}
		return same(its, hosts)
	}
}

// same says what is wrong where two files are not one namespace.
func same(one, other string) error {
	a, err := os.Stat(one)
	if err != nil {
		return err
	}
	b, err := os.Stat(other)
	if err == nil && !os.SameFile(a, b) {
		err = fmt.Errorf("%s and %s are two namespaces", one, other)
	}
	return err
}

func joinsAnother(kind, old string) func(*stage, string) error {
	return func(s *stage, file string) error {
		other := s.another()
		pid := s.start([]byte(strings.ReplaceAll(file, old, "container:"+other)))
		return same("/proc/"+pid+"/ns/"+kind, "/proc/"+s.e.Docker("inspect", "-f", "{{.State.Pid}}", other)+"/ns/"+kind)
	}
}

// outsideOfTheEngine shows that the stack is in none of the cgroups that the engine keeps its containers in.
func outsideOfTheEngine(s *stage, file string) error {
	parent := func(file string) string {
		id, _, err := s.compose([]byte(file), "run", "-d", "-T", "web", "sleep", "300")
		if err != nil {
			s.t.Fatal(err)
		}
		pid := s.e.Docker("inspect", "-f", "{{.State.Pid}}", strings.TrimSpace(id))
		text, err := os.ReadFile("/proc/" + pid + "/cgroup")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if _, path, _ := strings.Cut(line[strings.IndexByte(line, ':')+1:], ":"); strings.Contains(path, strings.TrimSpace(id)) {
				return filepath.Dir(path)
			}
		}
		s.t.Fatalf("the container is in no cgroup of its own: %s", text)
		return ""
	}
	with, without := parent(file), parent("services: {web: {image: '"+hosttest.Image+"'}}")
	if with == without || with != "/" {
		return fmt.Errorf("it is in %s, and in %s without it", with, without)
	}
	return nil
}

// asks shows that Compose asked the engine for it, which could not do it.
func asks(said string) func(*stage, string) error {
	return func(s *stage, file string) error {
		out, err := s.run([]byte(file), "true")
		if err == nil {
			return fmt.Errorf("it ran, and said %q", out)
		}
		if !strings.Contains(err.Error(), said) {
			return fmt.Errorf("the engine said nothing of %q: %w", said, err)
		}
		return nil
	}
}
