package composessh

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// runs runs a script as a host would, with an engine that has nothing, and returns what it prints and its exit code. programs are
// found before the machine's own.
func runs(t *testing.T, programs map[string]string, root, text string, args ...string) (string, int) {
	t.Helper()
	for _, tool := range []string{"sh", "flock", "timeout", "sync", "mv", "rm"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
	bin := t.TempDir()
	for name, text := range programs {
		real, _ := exec.LookPath(name)
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nreal="+real+"\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", libScript + text, "sandboxer", root, "true"}, args...)...)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
		t.Fatalf("this machine has no %s; scripts are run where there is one", what)
	}
	t.Skipf("this machine has no %s; scripts are run where there is one", what)
}

func files(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeptIsWhole: a snapshot that is deleted while snapshots are listed is left out, and shifts nothing of the others.
func TestKeptIsWhole(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	meta := func(id string) string { return `{"v":1,"snapshot":{"id":"` + id + `"}}` + "\n" }
	files(t, root, map[string]string{
		".snapshots/a/owner": "one\n", ".snapshots/a/meta.json": meta("a"),
		".snapshots/b/meta.json": meta("b"), // its owner has gone already
		".snapshots/c/owner":     "\n", ".snapshots/c/meta.json": meta("c"),
		".snapshots/d/owner": "one\n", ".snapshots/d/meta.json": "",
		".snapshots/e/owner": "one\n", ".snapshots/e/meta.json": meta("e"),
	})
	out, code := runs(t, nil, root, keptScript)
	if lines := strings.Count(out, "\n"); code != 0 || lines != 4*3 {
		t.Fatalf("exit code %d and %d lines:\n%s", code, lines, out)
	}
	for i, want := range []string{"snapshot\none\n" + meta("a"), "snapshot\n\n" + meta("c"), "snapshot\none\n\n", "snapshot\none\n" + meta("e")} {
		if !strings.Contains(out, want) {
			t.Errorf("record %d is not there:\n%s", i, out)
		}
	}
}

// TestDropIsCutOff: a deletion that does not come to its end leaves no snapshot that looks ready, and ends with the next one.
func TestDropIsCutOff(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files(t, root, map[string]string{
		".snapshots/a/owner": "one\n", ".snapshots/a/meta.json": "{}\n", ".snapshots/a/data": "x",
		".snapshots/a.b/owner": "one\n", ".snapshots/a.b/meta.json": "{}\n", ".snapshots/.tmp.a.b.77/data": "x", ".snapshots/.tmp.a.77/data": "x",
		"s/out/a.77/data": "x", "s/out/a.b.77/data": "x",
	})
	cutOff := `[ "$1" != -rf ] || $real -f "$2/data"; exit 1`
	if _, code := runs(t, map[string]string{"rm": cutOff}, root, dropScript, "a", "one"); code == 0 {
		t.Error("a deletion that was cut off says that all is well")
	}
	if out, _ := runs(t, nil, root, keptScript, "a"); out != "" {
		t.Errorf("a snapshot without its data is listed:\n%s", out)
	}
	if out, code := runs(t, nil, root, dropScript, "a", "one"); code != 0 || out != "" {
		t.Errorf("exit code %d: %s", code, out)
	}
	var left []string
	for _, pattern := range []string{".snapshots/*", ".snapshots/.[!.]*", "s/out/*"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		left = append(left, found...)
	}
	if len(left) != 3 {
		t.Errorf("left: %q; that is to be what belongs to the snapshot a.b", left)
	}
}

// TestKeepFailsWithTheDisk: what the disk did not take is no snapshot, where sync can tell.
func TestKeepFailsWithTheDisk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sync string
		kept bool
	}{
		"it can tell":    {`[ "$1" != --help ] || { echo "Usage: sync [FILE]..."; exit; }; exit 1`, false},
		"it cannot tell": {`[ "$1" != --help ] || { echo "Usage: sync"; exit; }; [ $# = 0 ]`, true},
		"the name":       {`[ "$1" != --help ] || { echo "Usage: sync [FILE]..."; exit; }; case $1 in */.snapshots) exit 1 ;; esac`, false},
	} {
		root := t.TempDir()
		files(t, root, map[string]string{".snapshots/.tmp.a.1/data": "x"})
		out, code := runs(t, map[string]string{"sync": c.sync}, root, keepScript, filepath.Join(root, ".snapshots/.tmp.a.1"), "a", "one", "{}")
		if (code == 0) != c.kept {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
	}
}

// TestRemovalThatCannotRename: a directory that stays is told.
func TestRemovalThatCannotRename(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files(t, root, map[string]string{"s/claim.json": "{}\n", "s/owner": "one\n", "s/up": "{}\n", "s/removing": "", "s/lock": ""})
	out, code := runs(t, map[string]string{"mv": "exit 1"}, root, removeLib+watchStart+removeScript, "s", "one", "1", "1", "0", "exit 0")
	if code == 0 || !strings.Contains(out, "left directory "+root+"/s") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// TestRemovalIsNotHeld: what a removal has a container of an image run is given up after a while.
func TestRemovalIsNotHeld(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files(t, root, map[string]string{"s/workspace/file": "x"})
	log := filepath.Join(root, "log")
	programs := map[string]string{
		"timeout": `echo "limited $*" >>` + log + `; exit 124`, "id": "echo 1000", "rm": "exit 1",
		"docker": `echo "docker $*" >>` + log + `; [ "$1" != image ] || echo 'sha256:id sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef '`,
	}
	_, _ = runs(t, programs, root, removeLib+`ENGINE=docker name=s owner=one; empty "id name sandboxer-files" 1; clear_away "$ROOT/s/workspace"`)
	text, _ := os.ReadFile(log)
	did := "\n" + string(text)
	for what, limit := range map[string]string{"exec": "-k 1 120", "run": "-s KILL 120"} {
		if !strings.Contains(did, "\nlimited "+limit+" docker "+what) || strings.Contains(did, "\ndocker "+what) {
			t.Errorf("%s has no limit:%s", what, did)
		}
	}
}

// TestExtendWhileRemoved: a lifetime is not extended where the removal has begun.
func TestExtendWhileRemoved(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files(t, root, map[string]string{"s/claim.json": "{}\n", "s/deadline": "1\n", "s/spare": "", "s/lock": ""})
	const removal = `(flock 8; sleep 0.6; mv "$ROOT/s/spare" "$ROOT/s/removing") 8>>"$ROOT/s/lock" & sleep 0.2` + "\n"
	if out, code := runs(t, nil, root, removal+removeLib+extendScript, "s", "60", "{}"); strings.TrimSpace(out) != "gone" || code != 0 {
		t.Errorf("exit code %d: %q", code, out)
	}
}

// TestRemovalWithoutRoom: a sandbox that has used up the disk, or its inodes, is removed.
func TestRemovalWithoutRoom(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "root to mount a small disk")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		missing(t, "unshare")
	}
	const small = `
mount -t tmpfs -o size=1m,nr_inodes=100 none "$1" && mkdir "$1/root" || exit 99
sh -c "$2" sandboxer "$1/root" true name one '{}' "$5" "" "exit 0" >/dev/null || exit 98
rm -f $6
case $4 in
inodes) i=0; while (: >"$1/root/name/workspace/$i") 2>/dev/null; do i=$((i + 1)); done ;;
bytes) cat /dev/zero >"$1/root/name/workspace/zero" 2>/dev/null ;;
esac
sh -c "$3" sandboxer "$1/root" true name one 1 2 0 "exit 0" 2>&1
code=$?
find "$1/root" -mindepth 1
exit $code`
	dir := t.TempDir()
	for what, old := range map[string]string{"inodes": "", "bytes": "", "inodes, and it was made by an earlier release": filepath.Join(dir, "root/name/spare") + " " + filepath.Join(dir, "root/name/lock")} {
		kind, _, _ := strings.Cut(what, ",")
		out, err := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", small, "sh", dir, libScript+watchStart+claimScript,
			libScript+removeLib+watchStart+removeScript, kind, strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10), old).CombinedOutput()
		if want := "removed directory " + dir + "/root/name\n"; err != nil || string(out) != want {
			t.Errorf("%s are used up: %v:\n%s", what, err, out)
		}
	}
}
