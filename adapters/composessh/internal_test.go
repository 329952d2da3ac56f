package composessh

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// TestGoldenHandle: a handle of this release is readable for ever.
func TestGoldenHandle(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "handle.v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var h sandboxer.Handle
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	got, err := stateOf(h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state{Root: "/home/builder/.local/state/sandboxer/compose", Token: "abcdefghijklmnopqrstuvwxyz"}, got); diff != "" {
		t.Error(diff)
	}
	newer, err := sandboxer.NewHandle(h.Ref(), stateVersion+1, map[string]string{"x": "y"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stateOf(newer); sandboxer.CodeOf(err) != sandboxer.FailedPrecondition {
		t.Errorf("a state of a newer release: %v", err)
	}
	for _, bad := range []state{{Root: "relative", Token: "x"}, {Root: "/a;rm -rf /", Token: "x"}, {Root: "/a"}} {
		h, err := sandboxer.NewHandle(h.Ref(), stateVersion, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stateOf(h); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestProbe: what is asked of a host, run by this machine's shell with programs that only seem to be there.
func TestProbe(t *testing.T) {
	t.Parallel()
	const (
		docker = "#!/bin/sh\ncase $1 in --version) echo Docker version 29.0.1, build 1 ;; version) echo '29.0.1 Engine,containerd,runc,' ;; " +
			"compose) [ -z \"$PLUGIN\" ] && exit 1; echo v5 ;; esac\n"
		refusing = "#!/bin/sh\necho 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1\n"
		v1       = "#!/bin/sh\necho 1.29.2\n"
		v2       = "#!/bin/sh\necho 2.40.1\n"
		v10      = "#!/bin/sh\necho v10.0.1\n"
		built    = "#!/bin/sh\necho dev\n" // from source, by hand
		podman   = "#!/bin/sh\ncase $1 in --version) echo podman version 4.3.1 ;; compose) echo v5 ;; *) exit 125 ;; esac\n"
		behind   = "#!/bin/sh\ncase $1 in --version) echo Docker version 29.0.1, build 1 ;; version) echo '4.3.1 Podman Engine,Conmon,OCI Runtime (runc),' ;; esac\n"
		pcompose = "#!/bin/sh\nprintf '%s\\n' \"['podman', '--version', '']\" 'using podman version: 4.3.1' 'podman-composer version  1.0.3' 'podman version 4.3.1'\n"
	)
	for name, c := range map[string]struct {
		programs map[string]string
		plugin   string
		want     []string
	}{
		"the plugin":                 {map[string]string{"docker": docker, "docker-compose": v2}, "yes", []string{"engine=docker", "version=29.0.1", "compose=docker compose"}},
		"standalone":                 {map[string]string{"docker": docker, "docker-compose": v2}, "", []string{"engine=docker", "version=29.0.1", "compose=docker-compose"}},
		"standalone, a later one":    {map[string]string{"docker": docker, "docker-compose": v10}, "", []string{"engine=docker", "version=29.0.1", "compose=docker-compose"}},
		"standalone, built by hand":  {map[string]string{"docker": docker, "docker-compose": built}, "", []string{"engine=docker", "version=29.0.1", "compose=docker-compose"}},
		"an old one is none":         {map[string]string{"docker": docker, "docker-compose": v1}, "", []string{"engine=docker", "version=29.0.1"}},
		"podman's own Compose":       {map[string]string{"docker": docker, "podman-compose": pcompose}, "", []string{"engine=docker", "version=29.0.1", "podman-compose=1.0.3"}},
		"podman":                     {map[string]string{"podman": podman, "podman-compose": pcompose}, "", []string{"podman=podman version 4.3.1"}},
		"podman called docker":       {map[string]string{"docker": podman, "docker-compose": v2}, "yes", []string{"podman=podman version 4.3.1"}},
		"podman behind docker":       {map[string]string{"docker": behind}, "yes", []string{"podman=podman 4.3.1 behind docker's client"}},
		"podman beside docker":       {map[string]string{"docker": docker, "podman": podman}, "yes", []string{"engine=docker", "version=29.0.1", "compose=docker compose"}},
		"an engine that lets not in": {map[string]string{"docker": refusing}, "", []string{"refused=docker: permission denied while trying to connect to the Docker daemon socket"}},
		"nothing":                    {nil, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			for program, text := range c.programs {
				if err := os.WriteFile(filepath.Join(bin, program), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, tool := range []string{"sh", "date", "id", "head", "sed", "tar", "grep"} {
				at, err := exec.LookPath(tool)
				if err != nil {
					if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
						t.Fatalf("this machine has no %s; hosts are asked where there is one", tool)
					}
					t.Skipf("this machine has no %s; hosts are asked where there is one", tool)
				}
				if err := os.Symlink(at, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "sh"), "-c", probeScript, "sandboxer", "below/home")
			cmd.Env = []string{"PATH=" + bin, "HOME=/home/x", "PLUGIN=" + c.plugin}
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				line = strings.TrimSuffix(line, "\n")
				switch what, _, _ := strings.Cut(line, "="); what {
				case "engine", "version", "compose", "refused", "podman", "podman-compose":
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s\nof\n%s", diff, out)
			}
			if !strings.Contains(string(out), "root=/home/x/below/home\n") || !strings.Contains(string(out), "missing=flock\n") {
				t.Errorf("it said\n%s", out)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]sandboxer.Inputs{
		"root": {"root": "../elsewhere"}, "policy": {"policy": "lax"}, "workspace": {"workspace": "src"}, "stop_grace": {"stop_grace": "-1s"},
		"publish_address": {"publish_address": "everybody"}, "rot": {"rot": "x"},
	} {
		if _, err := decodeConfig(in); sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg, err := decodeConfig(sandboxer.Inputs{"publish_address": "0.0.0.0", "stop_grace": "1500ms"})
	if err != nil || cfg.loopbackOnly() || cfg.grace() != "2" || cfg.trusts() {
		t.Errorf("%+v, %v", cfg, err)
	}
	for name, in := range map[string]sandboxer.Inputs{
		"compose_file": {"compose_file": "/etc/passwd"}, "env": {"env": map[string]any{"A B": "c"}}, "secret_env": {"secret_env": map[string]any{"PATH": "env:X"}},
		"sandbox_id": {"sandbox_id": "other"},
	} {
		if _, err := decodeInputs(in, "mine"); sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPaths: which container has what.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := &stack{RemoteDir: "/src", Mounts: mounts(tree{"volumes": []any{
		tree{"type": "bind", "source": "/ws", "target": "/src"}, tree{"type": "volume", "source": "data", "target": "/src/data/"},
		tree{"type": "tmpfs", "target": "/src/tmp"}, tree{"type": "bind", "source": "/ws/conf", "target": "/etc/app"}, tree{"type": "bind", "source": "/wsx", "target": "/x"},
	}}, "/ws")}
	for in, want := range map[string]string{
		"/src": "/w", "/src/a/b": "/w/a/b", "/src/data": "/v/data", "/src/data/x": "/v/data/x", "/src/database": "/w/database", "/src/tmp/x": "",
		"/etc/app/x": "/w/conf/x", "/etc": "", "/x/y": "", "/srcs": "",
	} {
		if got := s.inFiles(in); got != want {
			t.Errorf("%s is %q and should be %q", in, got, want)
		}
	}
}

// TestWhatWasPacked: the host takes nothing from the container for files but files, whatever lies there under their names.
func TestWhatWasPacked(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			t.Fatal("this machine has no sh")
		}
		t.Skip("this machine has no sh")
	}
	const engine = "#!/bin/sh\n[ \"$1\" = exec ] || exit 0\ncd \"$AT\"/out/* && echo packed >data && echo said >said && echo 0 >code && eval \"$DO\"\n"
	for name, c := range map[string]struct{ do, says string }{
		"what it should":            {":", ""},
		"tar fails":                 {"echo 2 >code", "said"},
		"the engine fails":          {"exit 1", "said"},
		"what it says is a link":    {"echo 2 >code; ln -sf $SECRET said", ""},
		"its code is a link":        {"ln -sf $CODE code", ""},
		"the data is a link":        {"ln -sf $SECRET data", ""},
		"the data is a hard link":   {"ln -f $SECRET data", ""},
		"the data is a directory":   {"rm data; mkdir data", ""},
		"the data is a FIFO":        {"rm data; mkfifo data", ""},
		"all is somewhere else":     {"d=$PWD; cd ..; mv $d $d.x; ln -s $ELSE $d", ""},
		"what it says has no end":   {"echo 2 >code; rm said; truncate -s 1G said", ""},
		"its code is long":          {"head -c 1000000 /dev/zero | tr '\\0' 7 >code", ""},
		"what it says is not there": {"echo 2 >code; rm said", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			at, other := filepath.Join(dir, "root", "box"), filepath.Join(dir, "else")
			if err := errors.Join(os.MkdirAll(filepath.Join(at, "out"), 0o700), os.Mkdir(other, 0o700)); err != nil {
				t.Fatal(err)
			}
			secret := filepath.Join(other, "data")
			for f, text := range map[string]string{filepath.Join(dir, "engine"): engine, secret: "of the host\n", filepath.Join(other, "code"): "0\n", filepath.Join(at, "compose"): "x", filepath.Join(at, "compose.name"): "y"} {
				if err := os.WriteFile(f, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), sh, "-c", libScript+snapshotScript, "sandboxer", filepath.Join(dir, "root"), filepath.Join(dir, "engine"), "box", "", "snap", "", "files", toolPath, "w")
			cmd.Env = append(os.Environ(), "DO="+c.do, "AT="+at, "SECRET="+secret, "ELSE="+other, "CODE="+filepath.Join(other, "code"))
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			kept, _ := filepath.Glob(filepath.Join(dir, "root", ".snapshots", ".tmp.*", "*"))
			if c.do == ":" {
				if lines := strings.Count(string(out), "\n"); err != nil || lines != 3 || len(kept) != 3 {
					t.Errorf("%v: %s%s%v", err, out, errs.String(), kept)
				}
				return
			}
			if err == nil || len(out) > 0 || len(kept) > 0 {
				t.Errorf("it was taken: %v %s %v", err, out, kept)
			}
			if text := errs.String(); strings.Contains(text, "of the host") || !strings.Contains(text, c.says) || len(text) > 10_000 {
				t.Errorf("it says %q", text)
			}
			if text, err := os.ReadFile(secret); err != nil || string(text) != "of the host\n" {
				t.Errorf("the host's file is %q, %v", text, err)
			}
		})
	}
}

func FuzzWord(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "two\nlines", "$x `y` \\", "\xff", "'\n'"} {
		f.Add(s)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			f.Fatal("this machine has no sh")
		}
		f.Skip("this machine has no sh; the rule is proven where there is one")
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := word("it", s)
		if strings.ContainsRune(s, 0) {
			if err == nil {
				t.Error("NUL was quoted")
			}
			return
		}
		if strings.Contains(w, "\n") {
			t.Fatalf("%q has a line break", w)
		}
		out, err := exec.CommandContext(t.Context(), sh, "-c", `N=$(printf '\n_');N=${N%_};printf %s `+w+`;printf _`).Output()
		if err != nil || string(out) != s+"_" {
			t.Errorf("%q became %q (%v)", s, out, err)
		}
	})
}

// FuzzHostSays: whatever a host prints, it is read or refused, and never stumbled over.
func FuzzHostSays(f *testing.F) {
	f.Add("{\"v\":1,\"name\":\"a\",\"id\":\"a\",\"attempt\":1,\"extension\":\"e\",\"token\":\"t\",\"created_at\":\"2026-11-25T00:00:00Z\"}\nremoving\n{\"service\":\"x\"}\n")
	f.Add("sandbox\n{}\nend\nthing\t[\"a-2\",\"o\",\"a\",\"ext.x\",\"2026-11-25 22:39:29 +0000 UTC\",\"running\"]\n")
	f.Add("snapshot\nowner\n{\"v\":1,\"snapshot\":{\"id\":\"s\"}}\n")
	f.Add("removed container a\nleft volume b\nremoved container a\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseFound(text); err == nil && got.claim == nil {
			t.Error("a claim was read, and there is none")
		}
		e, h := &extension{id: "ext.x"}, &host{probe: &probe{root: "/r"}}
		all, _ := e.instances(h, sandboxer.Host{ID: "h"}, text)
		for _, in := range all {
			if in.Handle.IsZero() {
				t.Error("an instance without a handle")
			}
		}
		kept, _ := h.parseKept(text)
		for _, k := range kept {
			if k.Snapshot.ID == "" {
				t.Error("a snapshot without an ID")
			}
		}
		report := parseReport(text)
		if len(report.Removed)+len(report.Left) > strings.Count(text, "\n")+1 {
			t.Error("more was removed than there are lines")
		}
	})
}

// FuzzPass: nothing but the three parts of a snapshot is ever sent to a host.
func FuzzPass(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		if err := pass(&out, bytes.NewReader(data), true); err == nil {
			if err := pass(io.Discard, &out, true); err != nil {
				t.Errorf("what was passed on is not what can be passed on: %v", err)
			}
		} else if !errors.Is(err, errDamaged) {
			t.Errorf("%v", err)
		}
	})
}

// TestOutputs: what the engine says before the command's first byte is not the command's, nor is what follows its end.
func TestOutputs(t *testing.T) {
	t.Parallel()
	for step := 1; step < 40; step++ {
		var got bytes.Buffer
		out, errs := newOutputs("MARK", &sandboxer.ExecRequest{Stdout: &got, Stderr: &got})
		if out.turns != errs.turns {
			t.Fatal("one writer is written to by two at a time")
		}
		all := []byte("noise of the engine\x1eMARK+what it wrote\x1eMARK:3:0;of a child")
		for len(all) > 0 {
			n := min(step, len(all))
			if _, err := out.Write(all[:n]); err != nil {
				t.Fatal(err)
			}
			all = all[n:]
		}
		code, signal := out.sentinel.Outcome()
		if got.String() != "what it wrote" || !out.isTold() || !out.isBegun() || code != 3 || signal != "" {
			t.Errorf("in steps of %d: %q, %d %q", step, got.String(), code, signal)
		}
	}
	out, _ := newOutputs("MARK", &sandboxer.ExecRequest{Stdout: io.Discard})
	_, _ = out.Write([]byte("Error: No such container: x\n"))
	if out.isBegun() || !strings.Contains(out.noise(), "No such container") {
		t.Errorf("noise is %q", out.noise())
	}
}

// TestOutputsOfALiar: what an image calls sh knows the mark, and may print it when and as often as it likes.
func TestOutputsOfALiar(t *testing.T) {
	t.Parallel()
	for name, tty := range map[string]*sandboxer.TTY{"a terminal": {}, "no terminal": nil} {
		var got bytes.Buffer
		out, errs := newOutputs("MARK", &sandboxer.ExecRequest{Stdout: &got, TTY: tty})
		for _, text := range []string{"\x1eMARK?", "\x1eMARK?", "\x1eMARK+a", "\x1eMARK?\x1eMARK+b", "\x1eMARK:0:0;", "\x1eMARK:1:0;\x1eMARK+\x1eMARK?"} {
			for _, o := range []*output{out, errs} {
				if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("%s: %q: %d, %v", name, text, n, err)
				}
			}
		}
		if want := "a\x1eMARK?\x1eMARK+b"; got.String() != want {
			t.Errorf("%s: %q was passed on and should be %q", name, got.String(), want)
		}
		select {
		case <-out.ready:
			if tty == nil {
				t.Error("without a terminal nobody waits")
			}
		default:
			if tty != nil {
				t.Error("the shell has asked")
			}
		}
	}
	// A host may say that nothing was kept.
	h := &host{probe: &probe{}}
	for _, text := range []string{"", "owner\n", "owner\n\n", "owner\nnull\n", "owner\n{}\n"} {
		if k, err := h.parseKept("snapshot\n" + text); err == nil && len(k) > 0 {
			t.Errorf("%q is a snapshot: %+v", text, k[0])
		}
	}
}

// blocked is a writer that is stuck until it is let go.
type blocked struct {
	begun, free chan struct{}
	n           int
}

func (b *blocked) Write(p []byte) (int, error) {
	if b.n += len(p); b.n == len(p) {
		close(b.begun)
	}
	<-b.free
	return len(p), nil
}

// TestOutputThatBlocks: a caller's writer that blocks holds nobody who asks how things are, the end of the call for a second,
// and gets nothing more once the call has returned.
func TestOutputThatBlocks(t *testing.T) {
	t.Parallel()
	to := &blocked{begun: make(chan struct{}), free: make(chan struct{})}
	out, errs := newOutputs("MARK", &sandboxer.ExecRequest{Stdout: to, Stderr: to})
	var writers sync.WaitGroup
	for _, o := range []*output{out, errs} {
		writers.Go(func() { _, _ = o.Write([]byte("\x1eMARK+text")); _, _ = o.Write([]byte("more\x1eMARK:0:0;")) })
	}
	<-to.begun
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if err := errors.Join(out.failed(), errs.failed()); err != nil || out.isTold() || !out.isBegun() || out.noise() != "" {
			t.Errorf("%v", err)
		}
		endOutputs(out, errs)
	}()
	select {
	case <-asked:
	case <-time.After(10 * time.Second):
		t.Error("whoever asks waits for the writer")
	}
	close(to.free)
	writers.Wait()
	if to.n != len("text") {
		t.Errorf("%d bytes were written, some after the call had returned", to.n)
	}
}
