package composessh_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/hosttest"
)

// image builds one for a test, with lines of a Dockerfile and files beside it, and more options.
func image(t *testing.T, h *hosttest.Host, name, lines string, files map[string]string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Dockerfile"), "FROM "+hosttest.Image+"\n"+lines)
	for f, text := range files {
		write(t, filepath.Join(dir, f), text)
		if err := os.Chmod(filepath.Join(dir, f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.Docker(append(append([]string{"build", "-q", "-t", name}, options...), dir)...)
	t.Cleanup(func() { h.Docker("rmi", "-f", name) })
	return name
}

// TestImagesRunNothingElsewhere: whatever an image brings, a volume over the places of programs or a variable for their loader, none
// of it runs where the host's programs work on files, and the host believes nothing that it could have left there.
func TestImagesRunNothingElsewhere(t *testing.T) {
	t.Parallel()
	h := hosttest.StartKind(t, 1, hosttest.Kind{Login: hosttest.Member})
	ext := build(t, adapter(""))
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "of the host\n")
	if err := os.Chmod(filepath.Dir(secret), 0o755); err != nil {
		t.Fatal(err)
	}
	const lines = "COPY tar find env /usr/local/bin/\nCOPY env /usr/bin/env\nENV LD_PRELOAD=/no/such.so\nVOLUME /usr/local/bin /usr/bin\n"
	name := image(t, h, "hostile-files:1", "RUN rm /usr/bin && mkdir /usr/bin && cp -a /bin/. /usr/bin/\n"+lines, map[string]string{
		"tar":  "#!/bin/sh\nrm -f said data; ln -s " + secret + " said; ln -s " + secret + " data; exit 1\n",
		"find": "#!/bin/sh\nexit 0\n",
		"env":  "#!/bin/sh\nwhile :; do case $1 in -i | *=*) shift ;; *) break ;; esac; done\nPATH=/usr/local/bin:/bin exec \"$@\"\n",
	})
	h.Docker("tag", name, "sandboxer/empty:1") // whoever may build or pull images can
	req := provisionRequest(h, repository(t, strings.Replace(oneService, hosttest.Image, name, 1)))
	to := started(t, ext, req)
	snap, err := ext.(sandboxer.Snapshotter).Snapshot(context.Background(), to, sandboxer.SnapshotRequest{ID: "of-" + req.Name, Labels: req.Labels})
	if err != nil {
		if strings.Contains(err.Error(), "of the host") {
			t.Error("a file of the host is in the error")
		}
		t.Errorf("a snapshot: %v", err)
	} else if err := ext.(sandboxer.Snapshotter).DeleteSnapshot(context.Background(), sandboxer.SnapshotTarget{Snapshot: snap, Host: req.Host, Secret: req.Secret}); err != nil {
		t.Error(err)
	}
	// What only root could remove, and nothing is there to do it.
	res, err := ext.(sandboxer.Executor).Exec(context.Background(), to, sandboxer.ExecRequest{Command: []string{"sh", "-c", "mkdir -m 700 d && echo x >d/file"}})
	if err != nil || res.ExitCode != 0 {
		t.Fatal(res, err)
	}
	h.Docker("rm", "-f", req.Name+"-sandboxer-files-1")
	if rep, err := ext.Teardown(context.Background(), to); err != nil {
		t.Errorf("%v %+v", err, rep)
	}
	nothingLeft(t, h, req.ID)
}

// TestLabelsOfOthers: labels that somebody wrote into an image, or gave to a container, name no container of anybody else's, neither
// to read from nor to remove, and do not keep a host from being listed.
func TestLabelsOfOthers(t *testing.T) {
	t.Parallel()
	h := hosttest.Start(t, 2)
	ext := build(t, adapter(""))
	victim := provisionRequest(h, repository(t, oneService))
	vt := started(t, ext, victim)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "of the victim\n")
	files := ext.(sandboxer.FileTransferer)
	if err := files.CopyIn(context.Background(), vt, "", bytes.NewReader(tarOf(t, dir))); err != nil {
		t.Fatal(err)
	}
	bystander := "bystander-" + victim.Name
	h.Docker("run", "-d", "--init", "--name", bystander, hosttest.Image, "sleep", "1000")
	t.Cleanup(func() { h.Docker("rm", "-f", bystander) })
	forged := "\n" + victim.Name + "-sandboxer-files-1 x sandboxer-files\n" + bystander + " x y"
	name := image(t, h, "hostile-labels:1", "", nil, "--label", "com.docker.compose.service="+forged)
	bad := provisionRequest(h, repository(t, "services:\n  app:\n    image: "+name+"\n    command: [sh, -c, \"nc -ll -p 8080 127.0.0.1 -e sleep 1000\"]\n    init: true\n    volumes: [\".:/src\"]\n"))
	bad.Labels[sandboxer.LabelOwner] = "bad.store"
	bt := started(t, ext, bad)
	conn := dialled(t, ext, bt, "localhost:8080") // while it is open there is a container of the moment
	defer func() { _ = conn.Close() }()           // nothing is sent
	h.Docker("run", "-d", "--init", "--label", "sandboxer-name="+bad.Name, "--label", "sandboxer-owner=bad.store", "--label", "com.docker.compose.service="+forged, hosttest.Image, "sleep", "1000")
	idle := "idle-" + victim.Name
	h.Docker("network", "create", idle)
	t.Cleanup(func() { h.Docker("network", "rm", idle) })
	h.Docker("network", "create", "--label", "sandboxer-name="+bad.Name, "--label", "sandboxer-owner=bad.store", bad.Name+"_x\n"+idle)
	var out bytes.Buffer
	if err := files.CopyOut(context.Background(), bt, "", &out); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "of the victim") {
		t.Error("the files of another sandbox were copied")
	}
	if rep, err := ext.Teardown(context.Background(), bt); err != nil {
		t.Errorf("%v %+v", err, rep)
	}
	nothingLeft(t, h, bad.ID)
	for _, n := range []string{bystander, victim.Name + "-sandboxer-files-1"} {
		if state := h.Docker("inspect", "--format", "{{.State.Status}}", n); state != "running" {
			t.Errorf("%s is %s", n, state)
		}
	}
	// An image that claims to be the victim's, which somebody else runs.
	claims := image(t, h, "hostile-owner:1", "LABEL sandboxer-name="+victim.Name+" sandboxer-owner=test.store\n", nil)
	holder := "holder-" + victim.Name
	h.Docker("run", "-d", "--init", "--name", holder, "--label", "sandboxer-name=other", "--label", "sandboxer-owner=bad.store", claims, "sleep", "1000")
	t.Cleanup(func() { h.Docker("rm", "-f", holder) })
	defer func() {
		if rep, err := ext.Teardown(context.Background(), vt); err != nil {
			t.Errorf("an image of others keeps a sandbox from being removed: %v %+v", err, rep)
		}
	}()
	stranger := "stranger-" + victim.Name
	h.Docker("run", "-d", "--init", "--name", stranger, "--label", "sandboxer-name=x\nsandbox\n{}\nend\nthing\t", "--label", "sandboxer-owner=test.store", hosttest.Image, "sleep", "1000")
	t.Cleanup(func() { h.Docker("rm", "-f", stranger) })
	seen := false
	for in, err := range ext.(sandboxer.Lister).List(context.Background(), sandboxer.ListQuery{Host: victim.Host, Secret: victim.Secret, Labels: victim.Labels}) {
		if err != nil {
			t.Errorf("listing the host: %v", err)
		} else {
			seen = seen || in.Labels[sandboxer.LabelName] == victim.Name
		}
	}
	if !seen {
		t.Error("the sandbox is not listed")
	}
}

// dialled connects as soon as somebody listens.
func dialled(t *testing.T, ext sandboxer.Extension, to sandboxer.Target, address string) io.Closer {
	t.Helper()
	begun := time.Now()
	for {
		conn, err := ext.(sandboxer.Dialer).Dial(context.Background(), to, "tcp", address)
		if err == nil {
			return conn
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
		pause(t, 200*time.Millisecond)
	}
}
